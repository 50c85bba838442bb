"""Small inputs of the training scripts: noisy digits, features of their pixels, an encoder, image
folders on disk.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lra_diffusion.encoders.networks import CCNet, SimCLRNet
from lra_diffusion.run.labels import split
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.formats.noise_file import make, write

SMALL = [
    "--limit_train",
    "100",
    "--limit_test",
    "30",
    "--nepoch",
    "4",
    "--batch_size",
    "25",
    "--feature_dim",
    "16",
    "--width",
    "4",
    "--warmup_epochs",
    "1",
    "--device",
    "cpu",
]


def noisy_digits(folder: Path, rate: float = 0.3) -> Path:
    """A noise file for the images of the digits that are trained on: some go to the next class."""
    data = datasets.load("digits")
    rows, _ = split(data)
    clean = data.train_labels[rows]
    flipped = np.random.default_rng(0).random(len(rows)) < rate
    noisy = np.where(flipped, (clean + 1) % 10, clean)
    path = folder / "digits_noise.npz"
    write(
        path,
        make(
            noisy,
            clean_labels=clean,
            indices=rows,
            dataset="digits",
            num_classes=10,
            kind="pair_flip",
        ),
    )
    return path


def pixel_features(folder: Path) -> list[str]:
    """Flags that give 64 pixels of each digit as its feature."""
    data = datasets.load("digits")
    for name, images in (("train", data.train_images), ("test", data.test_images)):
        features = images[:, ::4, ::4, 0].reshape(len(images), 64).astype(np.float32) / 255
        np.save(folder / f"{name}_features.npy", features)
    return [
        "--fp_embed_train",
        str(folder / "train_features.npy"),
        "--fp_embed_test",
        str(folder / "test_features.npy"),
    ]


def with_features(folder: Path) -> list[str]:
    """All flags of a tiny run without an encoder."""
    return [
        "--dataset",
        "digits",
        "--noise_file",
        str(noisy_digits(folder)),
        *SMALL,
        *pixel_features(folder),
    ]


def simclr_weights(folder: Path, dataset: str = "digits") -> Path:
    """A narrow SimCLR encoder with random weights, under its published file name."""
    torch.manual_seed(0)
    path = folder / "model" / f"SimCLR_128_{dataset}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(SimCLRNet("resnet18", 4).state_dict(), path)
    return path


def cc_weights(folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / "model" / "CC_net.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(CCNet().state_dict(), path)
    return path


def picture(path: Path, value: int, mode: str = "RGB") -> None:
    """A JPEG of 40 x 30 pixels, lighter for higher values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (value % 256, 255 - value % 256, 128)).convert(mode).save(path)


def own_pictures(root: Path, *folders: str, count: int = 12, side: int = 40) -> list[str]:
    """`count` PNGs of each class in every folder, cats reddish and dogs greenish; their names."""
    names, rng = [], np.random.default_rng(0)
    for folder in folders:
        for channel, kind in enumerate(("cat", "dog")):
            for i in range(count):
                pixels = rng.integers(0, 120, (side, side, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                path = root / folder / kind / f"{i:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                names.append(path.relative_to(root).as_posix())
    return names


def cifar() -> ImageData:
    """CIFAR-10 in size, with images of one pixel."""
    labels = np.arange(50_000) * 7 % 10
    pixels = np.zeros((50_000, 1, 1, 3), np.uint8)
    return ImageData(
        "cifar10", pixels, labels, pixels[:10], labels[:10], tuple(map(str, range(10))), None
    )


def augmented(folder: Path, count: int = 53) -> list[str]:
    """Flags of a set of `count` random images of two classes, which are moved and mirrored, and
    which all train, of 16 test images, and of their pixels as features.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count + 16, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count + 16) % 2
    images[labels == 1, :16] //= 4
    parts = {"train": slice(count), "test": slice(count, None)}
    arrays = {f"{part}_images": images[rows] for part, rows in parts.items()}
    np.savez(folder / "mine.npz", **arrays, **{f"{p}_labels": labels[r] for p, r in parts.items()})
    flags = ["--dataset", "folder", "--data_path", str(folder / "mine.npz"), "--no_validation"]
    for part, rows in parts.items():
        path = folder / f"{part}_pixels.npy"
        np.save(path, images[rows, ::4, ::4, 0].reshape(-1, 64).astype(np.float32) / 255)
        flags += [f"--fp_embed_{part}", str(path)]
    return flags
