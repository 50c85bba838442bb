"""Images on disk against torchvision's transforms, and what a kill leaves of the decoded ones."""

import os

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from torchvision import transforms

from instancegm.method.ranks import Ranks
from instancegm.method.signs import SILENT
from instancegm.run.config import parse
from instancegm.run.data import run_data
from instancegm.run.errors import UsageError
from instancegm.run.image_files import FileImages, FilePool, pictures, read
from instancegm.run.image_store import open_store
from shared.datasets.image_data import DatasetError

CPU = torch.device("cpu")
SIZES = [(300, 280), (256, 256), (700, 260), (161, 322)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for number, size in enumerate(SIZES):
        trees.save(root / f"{number}.png", trees.picture(number + 3, number, size))
    return [root / f"{number}.png" for number in range(len(SIZES))]


@pytest.fixture(scope="module")
def images(paths):
    return FileImages(FilePool(paths, CPU, 0, upright=False), 0, len(paths))


def as_tensors(paths, transform):
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])


def test_plain_images_are_those_of_torchvision(paths, images):
    expected = as_tensors(
        paths,
        transforms.Compose(
            [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
        ),
    )
    found = torch.cat(list(images.plain([torch.tensor([0, 1]), torch.tensor([2, 3])])))
    assert found.shape == (4, 3, 224, 224)
    assert torch.equal(found, expected)


def test_a_view_is_a_crop_of_the_resized_picture_mirrored_or_not(paths, images):
    whole = [np.asarray(transforms.Resize(256)(Image.open(path))) for path in paths]
    index = torch.arange(4).repeat(6)
    ((batch,),) = images.views([[index]], [2], seed=3)
    assert torch.equal(batch.index, index)
    places = set()
    for view in batch.views:
        pixels = (view * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for number, crop in zip(index.tolist(), pixels):
            places.add((number, place_of(crop, whole[number])))
    assert len(places) > 40  # of 48 draws
    assert {mirrored for _, (_, _, mirrored) in places} == {0, 1}


def test_without_flip_the_same_crops_are_not_mirrored(paths, images):
    index = torch.arange(4).repeat(6)
    unmirrored = FileImages(FilePool(paths, CPU, 0, upright=False, flip=False), 0, len(paths))
    (((usual,),), ((plain,),)) = (
        each.views([[index]], [1], seed=3) for each in (images, unmirrored)
    )
    mirrored = [
        not torch.equal(*pair) and torch.equal(pair[0], pair[1].flip(2))
        for pair in zip(usual.views[0], plain.views[0])
    ]
    assert 0 < sum(mirrored) < 24
    same = [torch.equal(*pair) for pair in zip(usual.views[0], plain.views[0])]
    assert sum(same) + sum(mirrored) == 24


def test_the_flags_of_augmentation_reach_pictures_on_the_disk(tmp_path):
    """Grey from dark on the left to bright on the right: a mirrored crop shows."""
    ramp = np.tile(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], (300, 1, 3))
    for name in ("a", "b"):
        for number in range(4):
            trees.save(tmp_path / "mine" / name / f"{number}.png", Image.fromarray(ramp))
    flags = ["--dataset", "folder", "--data_path", str(tmp_path / "mine"), "--num_workers", "0"]
    flags += ["--pretrained", "none", "--val_fraction", "0.25"]

    def mirrored(*more):
        data = run_data(parse([*flags, *more], "instanceGM_clothing1M"), CPU, SILENT)
        ((batch,),) = data.train_set.images.views([[torch.arange(6)]], [3], 7)
        return sum(int((view[:, 0, 0, 0] > view[:, 0, 0, -1]).sum()) for view in batch.views)

    assert mirrored() > 0
    assert mirrored("--no-flip") == 0


def place_of(crop, picture):
    """(top, left, mirrored) of a crop; fails where it is none."""
    for mirrored, candidate in enumerate((crop, crop[:, ::-1])):
        corners = (picture[:-223, :-223] == candidate[0, 0]).all(axis=2)
        for top, left in zip(*corners.nonzero()):
            if (picture[top : top + 224, left : left + 224] == candidate).all():
                return int(top), int(left), mirrored
    raise AssertionError("not a crop of the picture")


def test_streams_share_the_workers_and_end_together(images):
    first, endless = torch.arange(4).split(3), [torch.tensor([2]), torch.tensor([], dtype=int)] * 9
    steps = list(images.views([first, endless], [2, 1], seed=1))
    assert [[batch.index.tolist() for batch in step] for step in steps] == [
        [[0, 1, 2], [2]],
        [[3], []],
    ]
    assert [len(batch.views) for batch in steps[0]] == [2, 1]
    again = list(images.views([first, endless], [2, 1], seed=1))
    assert torch.equal(steps[1][0].views[1], again[1][0].views[1])
    assert not torch.equal(steps[1][0].views[1], steps[1][0].views[0])


def test_a_rank_decodes_its_rows_and_draws_what_one_process_draws(images):
    index, none = torch.arange(4).repeat(2), torch.tensor([], dtype=int)
    ((whole, _),) = images.views([[index], [none]], [2, 1], seed=3)
    parts = []
    for rank in range(3):
        ranks = Ranks(rank, 3)
        ((batch, empty),) = images.views([[index], [none]], [2, 1], 3, ranks)
        assert torch.equal(batch.index, index)
        assert len(empty.index) == 0
        parts.append(batch.views)
    for view, own in zip(whole.views, zip(*parts)):
        assert torch.equal(torch.cat(own), view)
    ((batch,),) = images.views([[torch.tensor([2])]], [1], 3, Ranks(1, 3))
    assert len(batch.views[0]) == 1  # another rank's, to take part


def test_own_pictures_are_turned_as_their_exif_data_say(tmp_path):
    trees.save(tmp_path / "x.jpg", trees.picture(3, 0, (512, 256)))
    exif = Image.Exif()
    exif[274] = 6
    Image.open(tmp_path / "x.jpg").save(tmp_path / "x.jpg", exif=exif)
    assert read(tmp_path / "x.jpg", upright=True).shape == (512, 256, 3)
    assert read(tmp_path / "x.jpg", upright=False).shape == (256, 512, 3)


def test_a_broken_picture_has_a_name_and_a_way_on(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DatasetError, match=r"broken\.jpg.*--skip_broken"):
        read(path, upright=False)
    assert [each is None for each in pictures([path], 0, upright=True)] == [True]


def test_a_store_is_made_once_and_half_a_store_is_none(paths, tmp_path):
    asked = []

    def decoded(until=4):
        asked.append(until)
        yield from (read(path, upright=False) for path in paths[:until])
        if until < len(paths):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path, "key", lambda: decoded(2), 4, 1)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        store = open_store(tmp_path, "key", decoded, 4, 1)
    assert asked == [2, 4]
    assert all((store[k] == read(path, upright=False)).all() for k, path in enumerate(paths))
    del store
    for damage in (lambda path: path.unlink(), lambda path: os.truncate(path, 1000)):
        damage(tmp_path / "key.pixels")
        assert len(open_store(tmp_path, "key", decoded, 4, 1)[3])
    assert asked == [2, 4, 4, 4]
    with pytest.raises(UsageError, match="--cache_dir"):
        open_store(tmp_path, "other", decoded, 4, 2**60)
