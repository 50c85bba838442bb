"""Animal-10N (Song et al., "SELFIE", ICML 2019): 55,000 pictures of ten animals, in similar pairs.

    data = datasets.load("animal10n", image_size=32)   # 64 gives the images as they are
    write_annotations(data.location)                   # pins the order of the samples

The labels of the 50,000 training images are as people gave them (about 8 % wrong); there are no
clean ones. A sample is a file `<class>_<name>.jpg`, or lies in a folder of its class's name or
number (`training/cat/...`). Labels are the publisher's numbers in both layouts; code that reads
class folders by torchvision's ImageFolder, as InstanceGM's does, numbers them by the alphabet
instead (cat, cheetah, chimpanzee, ...). Samples come in the order of `training.csv` and
`testing.csv` where these stand beside the folders and list exactly the files that are there, for
the original code wrote them in whatever order the disk gave, and users may hold noise files or
figures based on it; else sorted by name. Images that are not square are resized to a square, not
cropped.
"""

import csv
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.datasets import folders
from shared.datasets.cifar import SEARCH_DEPTH
from shared.datasets.decoding import is_image, read_images
from shared.datasets.image_data import DatasetError, ImageData
from shared.errors import printable
from shared.files import write_atomically

ADDRESS = "https://dm.kaist.ac.kr/datasets/animal-10n/"
# Confusable pairs: 0-1, 2-3, ...; "jaguer" is the publisher's spelling.
CLASS_NAMES = (
    "cat",
    "lynx",
    "wolf",
    "coyote",
    "cheetah",
    "jaguer",
    "chimpanzee",
    "orangutan",
    "hamster",
    "guinea pig",
)
TRAIN_IMAGES, TEST_IMAGES = 50_000, 5_000
_SPLITS = ("training", "testing")
_FOLDER_NAMES = {"animal10n", "animal-10n", "animal_10n"}  # in lower case
_FILE_NAME = re.compile(r"([0-9]+)_.+", re.ASCII)
_HEAD = ["img_paths", "targets"]  # as the original code wrote them


def load(
    root: Path, image_size: int, *, skip_broken: bool = False, cache_dir: Path | None = None
) -> ImageData:
    """The dataset at or below `root`; images come back as (N, image_size, image_size, 3) uint8.

    skip_broken, cache_dir: see `decoding.read_images`.
    """
    if image_size < 1:
        raise DatasetError(f"image_size is {image_size}; it must be at least 1")
    folder = find(root)
    # Names are checked before anything is decoded.
    samples = [(folder / split, _samples(folder, split)) for split in _SPLITS]
    parts = []
    for place, names in samples:
        found = read_images(
            [place / name for name in names],
            image_size,
            place=place,
            crop=False,
            skip_broken=skip_broken,
            cache_dir=cache_dir,
        )
        parts.append((found.images, [names[row] for row in found.rows]))
    (train_images, train), (test_images, test) = parts
    return ImageData(
        "animal10n",
        train_images,
        _labels(train),
        test_images,
        _labels(test),
        CLASS_NAMES,
        folder,
        tuple(train),
    )


def find(root: Path) -> Path:
    """The folder with `training` and `testing`: `root`, or one in an animal-10n folder below it.

    Raises DatasetError, saying how to get the dataset.
    """
    found: list[str] = []
    for folder in folders.walk(root, SEARCH_DEPTH):
        if folder != root and not any(
            part.lower() in _FOLDER_NAMES for part in _names(folder, root)
        ):
            continue
        present = [split for split in _SPLITS if (folder / split).is_dir()]
        if len(present) == len(_SPLITS):
            return folder
        found += [
            f"{folder / split}, but no {' or '.join(set(_SPLITS) - {split})} beside it"
            for split in present
        ]
        if any(folder.glob("*_batch*.bin")):
            found.append(f"{folder}, the binary version, which is not read: get the raw images")
        if (folder / "train").is_dir():
            found.append(
                f"{folder / 'train'}, which is another layout: with test/ beside it and a folder "
                "for each class, --dataset folder reads it"
            )
    found += folders.packed(root, SEARCH_DEPTH, ("animal", "raw_image", "training", "testing"))
    place = root.absolute() / "animal-10n"
    ways = f"""Its publisher asks for a form, so nothing can download it:
  1. ask for it at {ADDRESS}
  2. unpack it into {place}, so that the images are
       animal-10n/training/<class>_<name>.jpg    ({TRAIN_IMAGES:,} files, class 0 to 9)
       animal-10n/testing/<class>_<name>.jpg     ({TEST_IMAGES:,} files)"""
    wanted = "a folder animal-10n with training/ and testing/ in it"
    raise DatasetError(folders.missing("Animal-10N", wanted, root, SEARCH_DEPTH, found, ways))


def _names(folder: Path, root: Path) -> tuple[str, ...]:
    return (root.absolute().name, *folder.relative_to(root).parts)


# ---- which samples, in which order


def write_annotations(folder: Path) -> tuple[Path, ...]:
    """Write `training.csv` and `testing.csv` where they are absent; the paths of those written."""
    written = []
    for split in _SPLITS:
        target = _annotations(folder, split)
        if not target.exists():
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerows([_HEAD, *((name, _label(name)) for name in _file_names(folder / split))])
            write_atomically(target, text.getvalue().encode())
            written.append(target)
    return tuple(written)


def _annotations(folder: Path, split: str) -> Path:
    return folder / f"{split}.csv"


def _samples(folder: Path, split: str) -> list[str]:
    """The file names of a split, in the order that counts."""
    names, path = _file_names(folder / split), _annotations(folder, split)
    if not path.is_file():
        return names
    listed = list(_listed_names(path))
    if sorted(listed) == names:
        return listed
    print(
        printable(
            f"note: {path} lists {len(listed):,} files that are not the {len(names):,} in "
            f"{folder / split}, so samples come sorted by name: restore the files, or delete the "
            "list"
        ),
        file=sys.stderr,
    )
    return names


def _file_names(folder: Path) -> list[str]:
    """Names of the images in `folder` or its class folders, sorted, each checked for its class."""
    names = sorted(path.name for path in folder.iterdir() if is_image(path))
    if not names:
        names = _names_in_classes(folder)
    if not names:
        raise DatasetError(f"{folder} has no images: unpack Animal-10N there again")
    for name in names:
        if _label(name) is None:
            raise DatasetError(
                f"{folder / name} is not named <class>_<name> with a class from 0 to "
                f"{len(CLASS_NAMES) - 1}: rename it, or move it away"
            )
    return names


def _names_in_classes(folder: Path) -> list[str]:
    """The same as `<class folder>/<name>`; empty without class folders."""
    inside = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if unknown := [name for name in inside if _class(name) is None]:
        raise DatasetError(
            f"{folder} has folders ({', '.join(unknown[:3])}, ...) that are no class of "
            f"Animal-10N: name them {', '.join(CLASS_NAMES)} or by their numbers, 0 to 9; other "
            "classes are read as train/<class>/ and test/<class>/ with --dataset folder"
        )
    return [
        f"{name}/{path.name}"
        for name in inside
        for path in sorted((folder / name).iterdir())
        if is_image(path)
    ]


def _class(folder: str) -> int | None:
    """The label of a class folder, named or numbered."""
    name = re.sub(r"[_-]", " ", folder.lower()).replace("jaguar", "jaguer")
    if name in CLASS_NAMES:
        return CLASS_NAMES.index(name)
    return int(name) if len(name) == 1 and name in "0123456789" else None


def _label(name: str) -> int | None:
    if "/" in name:
        return _class(name.partition("/")[0])
    match = _FILE_NAME.fullmatch(name)
    label = int(match[1]) if match and len(match[1]) < 4 else -1
    return label if 0 <= label < len(CLASS_NAMES) else None


def _labels(names: list[str]) -> NDArray[np.int64]:
    return np.array([_label(name) for name in names], np.int64)


def _listed_names(path: Path) -> Iterator[str]:
    """The file names in an annotation file, LF or CRLF, after a look at its classes."""
    fix = f"correct it, or delete {path.name}: the samples then come sorted by name"
    try:
        rows = list(
            csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a readable list of files ({error}): {fix}") from error
    if rows[:1] != [_HEAD]:
        raise DatasetError(f"{path} does not begin with {','.join(_HEAD)}: {fix}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2:
            raise DatasetError(
                f"{path}, line {number}: {len(row)} cells, expected a file name and its class: "
                f"{fix}"
            )
        if row[1] != str(_label(row[0])):
            raise DatasetError(
                f"{path}, line {number}: class {row[1]} for {row[0]}, whose name says another: "
                f"{fix}"
            )
        yield row[0]
