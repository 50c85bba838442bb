"""Images on disk: their sizes and crops against PIL and torchvision, seeds, workers, errors."""

import math
import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from lra_diffusion.method.epoch import in_order
from lra_diffusion.method.images import CLOTHING1M_NORMALISATION, IMAGENET_NORMALISATION
from lra_diffusion.run.errors import UsageError
from lra_diffusion.run.image_files import CROP, DiskImages, resized, without_ends

SIZES = [
    (40, 30),
    (30, 40),
    (256, 256),
    (257, 256),
    (500, 333),
    (333, 500),
    (640, 479),
    (1000, 301),
    (7, 1000),
]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_follow_both_published_rules(size):
    """Half up as Food-101N's and WebVision's own resizing has it, down as torchvision's Resize."""
    width, height = size
    half_up = [int(side * (256.0 / min(size)) + 0.5) for side in size]
    assert list(resized(width, height, rounded=True)) == half_up
    ratio = max(size) / min(size)
    down = [256 if side == min(size) else math.floor(256 * ratio) for side in size]
    assert list(resized(width, height, rounded=False)) == down
    assert transforms.Resize(256)(Image.new("L", size)).size == tuple(down)


@pytest.mark.parametrize("size", SIZES[:5])
@pytest.mark.parametrize("bicubic", [True, False])
def test_test_images_are_the_centre_and_views_lie_inside(tmp_path, size, bicubic):
    path = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    how = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    whole = Image.open(path).resize(resized(*size, rounded=bicubic), how)
    normalisation = IMAGENET_NORMALISATION if bicubic else CLOTHING1M_NORMALISATION
    reference = transforms.Compose(
        [transforms.CenterCrop(CROP), transforms.ToTensor(), transforms.Normalize(*normalisation)]
    )
    images = DiskImages([path], normalisation, torch.device("cpu"), 0, bicubic)
    [plain] = images.plain(in_order(1, 1, images.device))
    np.testing.assert_allclose(plain[0].numpy(), reference(whole).numpy(), atol=1e-5)


def test_of_a_strip_the_middle_counts_and_other_pictures_stay_as_they_are(tmp_path):
    for size in (*SIZES[:-1], (480, 30), (30, 480)):
        image = Image.new("RGB", size)
        assert without_ends(image) is image
    across = np.zeros((3, 60_000, 3), np.uint8)
    across[:, 30_000 - 24 : 30_000 + 24] = 200
    for pixels in (across, across.transpose(1, 0, 2)):
        strip = without_ends(Image.fromarray(np.ascontiguousarray(pixels)))
        assert sorted(strip.size) == [3, 48]
        assert np.asarray(strip).min() == 200
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "strip.png")
        images = DiskImages(
            [tmp_path / "strip.png"], ((0.0,) * 3, (1 / 255,) * 3), torch.device("cpu"), 0, True
        )
        for [view] in (images.plain([torch.tensor([0])]), images.views([torch.tensor([0])], 3)):
            assert (view.round() == 200).all()


def test_views_are_windows_of_the_image_half_of_them_mirrored(tmp_path):
    path, across = tmp_path / "positions.png", np.arange(256, dtype=np.uint8)
    # Red is x, green is y.
    pixels = np.stack([*np.meshgrid(across, across), np.zeros((256, 256), np.uint8)], axis=2)
    Image.fromarray(pixels).save(path)  # of the size that nothing resizes
    images = DiskImages([path], ((0.0,) * 3, (1 / 255,) * 3), torch.device("cpu"), 0, True)
    corners, mirrored = set(), 0
    for seed in range(40):
        [[view]] = images.views(in_order(1, 1, images.device), seed)
        is_mirrored = view[0, 0, 0] > view[0, 0, 1]
        view = view.flip(2) if is_mirrored else view
        left, top = view[:2, 0, 0].round().int().tolist()
        window = pixels[top : top + CROP, left : left + CROP].transpose(2, 0, 1)
        np.testing.assert_allclose(view.numpy(), window, atol=1e-3)
        corners.add((left, top))
        mirrored += int(is_mirrored)
    assert 10 < mirrored < 30
    assert len(corners) > 30
    assert max(map(max, corners)) > 28  # of 32
    assert min(map(min, corners)) < 4


def test_a_view_depends_on_seed_and_image_alone(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        pixels = np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    images = DiskImages(paths, IMAGENET_NORMALISATION, torch.device("cpu"), 0, True)
    [together] = images.views([torch.tensor([0, 1, 2])], 5)
    apart = torch.cat(list(images.views([torch.tensor([2]), torch.tensor([0, 1])], 5)))
    assert torch.equal(together, apart[[1, 2, 0]])
    [other] = images.views([torch.tensor([0, 1, 2])], 6)
    assert not torch.equal(together, other)
    assert together.is_contiguous(memory_format=torch.channels_last)


def test_own_pictures_are_turned_and_16_bit_grey_is_scaled(tmp_path):
    upright = np.zeros((256, 256, 3), np.uint8)
    upright[:128] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # as a camera says that it was held sideways
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.full((256, 256), 40_000, np.uint16)).save(tmp_path / "deep.png")
    paths, plain = [tmp_path / "turned.png", tmp_path / "deep.png"], ((0.0,) * 3, (1 / 255,) * 3)
    how = (paths, plain, torch.device("cpu"), 0, True)
    [[turned, deep]] = DiskImages(*how, own=True).plain(in_order(2, 2, torch.device("cpu")))
    middle = upright[16 : 16 + CROP, 16 : 16 + CROP].transpose(2, 0, 1)
    np.testing.assert_allclose(turned.numpy(), middle, atol=1e-3)
    assert round(deep[0, 0, 0].item()) == 156  # of 255, as 40,000 of 65,535
    # Published sets are read as the published code reads them; a part of own ones as all of them.
    [[as_it_lies, _]] = DiskImages(*how).plain(in_order(2, 2, torch.device("cpu")))
    assert not torch.equal(as_it_lies, turned)
    [[again]] = DiskImages(*how, own=True).subset([0]).plain(in_order(1, 1, torch.device("cpu")))
    assert torch.equal(again, turned)


def test_a_worker_that_cannot_read_gives_the_same_message(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("no picture")
    messages = []
    for workers in (0, 1):
        images = DiskImages([path], IMAGENET_NORMALISATION, torch.device("cpu"), workers, True)
        with pytest.raises(UsageError) as caught:
            list(images.plain(in_order(1, 1, images.device)))
        messages.append(str(caught.value))
        assert not multiprocessing.active_children()
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{path} cannot be read (")
