"""Batched augmentation against the per-image definition, and the reproducibility of the draws."""

from itertools import islice

import numpy as np
import pytest
import torch

from instancegm.method.images import (
    DeviceImages,
    endless_batches,
    independent_batches,
    shuffled_batches,
    stream_seed,
    torch_stream,
)

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def all_views(image):
    """Every RandomCrop(32, padding=4) of one image, written literally, with its flip: {bytes:
    (flipped, top, left)}.
    """
    padded = np.zeros((40, 40, 3), np.uint8)
    padded[4:36, 4:36] = image
    crops = {(0, i, j): padded[i : i + 32, j : j + 32] for i in range(9) for j in range(9)}
    crops |= {(1, i, j): crop[:, ::-1] for (_, i, j), crop in list(crops.items())}
    return {np.ascontiguousarray(crop).tobytes(): key for key, crop in crops.items()}


def as_uint8(batch):
    return (batch * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def test_plain_images_are_the_pixels_in_zero_to_one():
    (batch,) = DeviceImages(IMAGES, CPU).plain([torch.arange(3, 9)])
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert (as_uint8(batch) == IMAGES[3:9]).all()
    assert batch.max() == IMAGES[3:9].max() / 255


@pytest.mark.parametrize("flip", [True, False])
def test_a_view_is_a_random_crop_and_flip_of_its_own_image(flip):
    images = DeviceImages(IMAGES, CPU, flip=flip)
    index = torch.arange(40).repeat(20)
    ((served,),) = images.views([[index]], [1], seed=1)
    batch = as_uint8(served.views[0])
    known = [all_views(image) for image in IMAGES]
    drawn = [
        known[i][row.tobytes()] for i, row in zip(index.tolist(), batch)
    ]  # a KeyError is a wrong view
    assert {top for _, top, _ in drawn} == set(range(9))
    assert {left for _, _, left in drawn} == set(range(9))
    assert {flipped for flipped, _, _ in drawn} == ({0, 1} if flip else {0})
    assert len(set(drawn[:40])) > 20  # drawn per image, not per batch


def test_streams_depend_on_seed_epoch_and_name_only():
    seeds = {stream_seed(s, e, name) for s in range(3) for e in range(-1, 3) for name in ("a", "b")}
    assert len(seeds) == 24
    assert stream_seed(123, 7, "co-divide 1") == stream_seed(123, 7, "co-divide 1")


def test_shuffled_batches_visit_every_sample_once():
    index = torch.arange(100, 110)
    batches = list(shuffled_batches(index, 4, torch_stream(CPU, 0, 0, "x")))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(torch.cat(batches).tolist()) == index.tolist()
    assert torch.cat(batches).tolist() != index.tolist()


def test_endless_batches_start_anew_in_another_order():
    batches = list(islice(endless_batches(torch.arange(6), 4, torch_stream(CPU, 0, 0, "x")), 4))
    assert [len(batch) for batch in batches] == [4, 2, 4, 2]
    first, second = torch.cat(batches[:2]).tolist(), torch.cat(batches[2:]).tolist()
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


def test_streams_are_served_side_by_side_until_one_is_exhausted():
    images = DeviceImages(IMAGES, CPU)
    first, second = torch.arange(6).split(4), [torch.tensor([9]), torch.tensor([], dtype=int)] * 9
    steps = list(images.views([first, second], [2, 1], seed=1))
    assert [[batch.index.tolist() for batch in step] for step in steps] == [
        [[0, 1, 2, 3], [9]],
        [[4, 5], []],
    ]
    assert [[len(batch.views) for batch in step] for step in steps] == [[2, 1]] * 2
    assert not torch.equal(*steps[0][0].views)
    again = list(images.views([first, second], [2, 1], seed=1))
    assert torch.equal(steps[1][0].views[1], again[1][0].views[1])


def test_independent_batches_are_of_distinct_samples_of_all():
    index = torch.arange(100, 110)
    batches = list(islice(independent_batches(index, 6, torch_stream(CPU, 0, 0, "x")), 30))
    assert all(len(set(batch.tolist())) == 6 for batch in batches)
    assert {*torch.cat(batches).tolist()} == {*index.tolist()}
    assert torch.cat(batches).bincount()[100:].min() < 30 * 6 / 10
    assert len(next(independent_batches(index, 64, torch_stream(CPU, 0, 0, "x")))) == 10
