"""Miniature trees in the official layouts of the data sets, with the files that people meet."""

from pathlib import Path

import numpy as np
from PIL import Image

CLOTHES = 14


def picture(label: int, number: int, size: tuple[int, int]) -> Image.Image:
    """A picture whose brightness tells its class, with some noise."""
    random = np.random.default_rng([label, number])
    pixels = 15 * label + random.integers(0, 40, (size[1], size[0], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def save(path: Path, image: Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def odd_ones(folder: Path, names: list[str]) -> None:
    """Turns the first of the pictures into a grey one, a CMYK one and one with EXIF data."""
    grey, cmyk, turned = (folder / name for name in names[:3])
    Image.open(grey).convert("L").save(grey)
    Image.open(cmyk).convert("CMYK").save(cmyk, format="JPEG")
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    Image.open(turned).save(turned, exif=exif)


def animal10n(root: Path, per_class: int = 4) -> Path:
    names = [f"{label}_{k:03}.jpg" for label in range(10) for k in range(per_class)]
    for split in ("training", "testing"):
        for name in names:
            label, number = int(name[0]), int(name[2:5])
            save(root / split / name, picture(label, number, (64, 64)))
    odd_ones(root / "training", names)
    return root


def red_mini_imagenet(root: Path, per_class: int = 2) -> Path:
    train, validation = [], []
    for label in range(100):
        for k in range(per_class):
            name = (
                f"n{label:08}{k:08}.jpg" if k else f"{label:016x}.jpg"
            )  # one of ImageNet, of the web
            save(root / "mini-imagenet/all_images" / name, picture(label % 16, k, (84, 84)))
            train.append(f"{name} {label}\n")
        name = f"n{label:08}99999999.jpg"
        save(root / f"mini-imagenet/validation/{label}/{name}", picture(label % 16, 99, (84, 84)))
        validation.append(f"{name} {label}\n")
    split = root / "mini-imagenet" / "split"
    split.mkdir(parents=True)
    (split / "red_noise_nl_0.4").write_text("".join(train))
    (split / "blue_noise_nl_0.4").write_text("".join(train))
    (split / "clean_validation").write_text("".join(validation))
    odd_ones(root / "mini-imagenet/all_images", [line.split()[0] for line in train])
    return root


def clothing1m(root: Path, per_class: int = 3) -> Path:
    noisy, clean, keys = [], [], {"noisy_train": [], "clean_val": [], "clean_test": []}
    for split, lines in keys.items():
        for label in range(CLOTHES):
            for k in range(per_class if split == "noisy_train" else 1):
                name = f"images/{label % 10}/{k:02}/{split}_{label},{k}.jpg"
                save(root / name, picture(label, k, (256 + 4 * k, 256)))
                lines.append(name)
                (noisy if split == "noisy_train" else clean).append(f"{name} {label}\n")
    for split, lines in keys.items():
        (root / f"{split}_key_list.txt").write_text("".join(f"{name}\n" for name in lines))
    (root / "noisy_label_kv.txt").write_text("".join(noisy))
    (root / "clean_label_kv.txt").write_text("".join(clean))
    odd_ones(root, keys["noisy_train"])
    return root


def own_pictures(root: Path, classes: int = 3, per_class: int = 8, size: int = 70) -> Path:
    """Folders of classes, directly under the root, and no test set."""
    for label in range(classes):
        for k in range(per_class):
            save(root / f"class {label}" / f"{k:02}.png", picture(5 * label, k, (size, size - 6)))
    return root
