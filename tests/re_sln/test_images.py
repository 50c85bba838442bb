"""Images on the device: crop, mirror and normalisation per image, black padding before
normalisation.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from re_sln.method.disk_images import DiskImages, plain_rgb
from re_sln.method.images import NORMALISATION, DeviceImages, normalisation_of, server_of
from re_sln.method.streams import in_order, shuffled, torch_stream
from shared import datasets
from shared.datasets.image_data import ImageData

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def images(count=6, side=8):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def normalised(image):
    return ((image / 255.0 - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)


def test_a_view_is_one_of_the_81_crops_of_the_padded_image_or_its_mirror():
    pixels = images()
    source = DeviceImages(pixels, (MEAN, STD), CPU)
    padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)))
    seen = set()
    for seed in range(40):
        for index, view in zip(range(6), next(source.views([torch.arange(6)], seed))):
            found = [
                (top, left, mirrored)
                for top in range(9)
                for left in range(9)
                for mirrored in (False, True)
                if np.allclose(
                    view,
                    normalised(
                        padded[index, top : top + 8, left : left + 8][:, :: -1 if mirrored else 1]
                    ),
                    atol=1e-5,
                )
            ]
            assert len(found) == 1
            seen.add(found[0])
    assert {mirrored for *_, mirrored in seen} == {False, True}
    assert {top for top, *_ in seen} == {left for _, left, _ in seen} == set(range(9))


def test_plain_images_are_normalised_and_a_seed_repeats_its_views():
    pixels = images()
    source = DeviceImages(pixels, (MEAN, STD), CPU, flip=False)
    plain = torch.cat(list(source.plain(in_order(6, 4, CPU))))
    np.testing.assert_allclose(plain, [normalised(image) for image in pixels], atol=1e-5)
    one, two, other = (
        torch.cat(list(source.views(in_order(6, 4, CPU), seed))) for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("size", [(259, 256), (256, 263), (98, 147), (500, 375)])
def test_images_on_the_disk_are_those_of_torchvision(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    whole = transforms.Resize(256)(Image.fromarray(pixels))
    expected = normalised(np.asarray(transforms.CenterCrop(224)(whole)))
    source = DiskImages([tmp_path / "picture.png"], CPU, 0, plain_rgb, (MEAN, STD))
    (found,) = source.plain([torch.tensor([0])])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_digits_are_neither_moved_nor_mirrored():
    data = datasets.load("digits")
    source = server_of(data, CPU)(data.train_images[:5])
    batches = in_order(5, 5, CPU)
    assert torch.equal(next(source.views(batches, 1)), next(source.plain(batches)))


def test_digits_are_normalised_by_their_own_mean_and_deviation():
    data = datasets.load("digits")
    mean, std = normalisation_of(data)
    pixels = data.train_images / 255.0
    assert mean == pytest.approx(pixels.mean(axis=(0, 1, 2)))
    assert std == pytest.approx(pixels.std(axis=(0, 1, 2)))
    black = ImageData(
        "folder",
        np.zeros((2, 4, 4, 3), np.uint8),
        np.arange(2),
        *[np.zeros(0)] * 2,
        ("a", "b"),
        None,
    )
    assert min(normalisation_of(black)[1]) > 0


def test_cifar10_is_normalised_by_the_mean_of_the_images_own_deviations():
    assert NORMALISATION["cifar10"][1] == pytest.approx(
        (0.2023, 0.1994, 0.2010), abs=2e-4
    )  # the authors' constants
    assert NORMALISATION["cifar100"][1] == pytest.approx((0.2675, 0.2565, 0.2761), abs=2e-4)


def test_batches_hold_every_sample_once_and_the_last_one_may_be_smaller():
    batches = shuffled(torch.arange(50), 16, torch_stream(CPU, 1, 1, "shuffle"))
    assert [len(batch) for batch in batches] == [16, 16, 16, 2]
    assert torch.cat(batches).sort().values.tolist() == list(range(50))
