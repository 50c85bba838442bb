"""Red and Blue Mini-ImageNet (Jiang et al., "Controlled Noisy Web Labels", ICML 2020).

    data = red_mini_imagenet.load("data", rate=0.4)               # ImageData; 84 x 84 in the files
    red_mini_imagenet.rates(Path("data"))                         # the rates that are there

100 classes of ImageNet. In the training set of rate r that share of the images was replaced: in red
ones by images that a web search found for the class, whose labels are wrong more or less often; in
blue ones labels were changed by chance. So the rate is not that of wrong labels, which is lower
(RATE_MEANING). About 50,000 training images (about 60,000 in blue lists), 5,000 clean validation
images, which papers test on and which are the test part here. Orders are the lists'.

    mini-imagenet/split/red_noise_nl_0.4, clean_validation     lines `<file> <label>`
    mini-imagenet/all_images/<file>                            84 x 84, of ImageNet and the web
    mini-imagenet/validation/<label>/<file>

Images are squashed to the size asked for, which keeps these square ones as they are.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from shared.datasets import file_lists, folders
from shared.datasets.decoding import read_images
from shared.datasets.file_lists import Samples
from shared.datasets.image_data import DatasetError, ImageData

ADDRESS = "https://google.github.io/controlled-noisy-web-labels/download.html"
NAME, NUM_CLASSES = "red_mini_imagenet", 100
COLOURS = ("red", "blue")
SEARCH_DEPTH = 4  # levels of sub-folders
RATE_MEANING = (
    "the rate of Mini-ImageNet's web noise is the share of training images replaced by web images, "
    "not that of wrong labels, which is lower: some web images are what their label says"
)
_VALIDATION = "clean_validation"
_TRAIN_PLACES = ("all_images", "noisy_images", "training")  # folders of training images
_IMAGENET_NAME = re.compile(r"n[0-9]{8}.*", re.ASCII)
_LIST_NAME = re.compile(r"(red|blue)_noise_nl_([0-9.]+)", re.ASCII)


def load(
    root: str | Path,
    rate: float,
    colour: str = "red",
    image_size: int = 32,
    *,
    skip_broken: bool = False,
    cache_dir: Path | None = None,
) -> ImageData:
    """The training set of a rate and the clean validation set (as test), at or below `root`.

    Images are (N, image_size, image_size, 3) uint8, labels as the lists have them. skip_broken,
    cache_dir: see `decoding.read_images`. Raises DatasetError, naming the rates that are there.
    """
    if image_size < 1:
        raise DatasetError(f"image_size is {image_size}; it must be at least 1")
    folder = find(Path(root).expanduser())
    source = _list(folder, rate, colour)
    train = _located(
        folder, file_lists.labelled(source, NUM_CLASSES), _train_places(folder, source)
    )
    validation = folder / "split" / _VALIDATION
    test = _located(
        folder, file_lists.labelled(validation, NUM_CLASSES), ["validation/{label}", "validation"]
    )
    parts = []
    for files, labels in (train, test):
        file_lists.check_ends(
            folder, files, f"a list of {folder / 'split'} names it: unpack all images"
        )
        found = read_images(
            [folder / file for file in files],
            image_size,
            place=folder,
            crop=False,
            skip_broken=skip_broken,
            cache_dir=cache_dir,
        )
        parts.append((found.images, labels[found.rows], [files[row] for row in found.rows]))
    (train_images, train_labels, names), (test_images, test_labels, _) = parts
    return ImageData(
        NAME,
        train_images,
        train_labels,
        test_images,
        test_labels,
        _class_names(folder),
        folder,
        tuple(name.rpartition("/")[2] for name in names),
    )


def rates(root: Path, colour: str = "red") -> tuple[float, ...]:
    """The rates of a colour that are at or below `root`, ascending; empty without the set."""
    try:
        return tuple(sorted(_lists(find(root), colour)))
    except DatasetError:
        return ()


def web_share(data: ImageData) -> float | None:
    """The share of web images among training images, by their names; None where none tells.

    Images of ImageNet are named after it (n01532829...), those of the web by hexadecimal ids.
    """
    web = [not _IMAGENET_NAME.fullmatch(name) for name in data.train_names]
    return None if all(web) else sum(web) / len(web)


# ---- where it is


def find(root: Path) -> Path:
    """The folder at or below `root` that holds split/ with lists of Mini-ImageNet.

    Raises DatasetError, saying how to get the dataset.
    """
    found: list[str] = []
    for folder in folders.walk(root, SEARCH_DEPTH):
        if not any(_lists(folder, colour) for colour in COLOURS):
            continue
        missing = [
            name for name in ("validation", f"split/{_VALIDATION}") if not (folder / name).exists()
        ]
        if not any((folder / name).is_dir() for name in _TRAIN_PLACES):
            missing.append(_TRAIN_PLACES[0])
        if not missing:
            return folder
        found.append(f"{folder}, but it lacks {' and '.join(missing)}")
    found += folders.packed(
        root,
        SEARCH_DEPTH,
        ("cnlw", "dataset.zip", "dataset_no_images", "mini-imagenet", "mini_imagenet"),
    )
    place = root.absolute() / "mini-imagenet"
    ways = f"""It is large, and its publisher gives no checksum, so nothing downloads it:
  1. get dataset.zip at {ADDRESS}
  2. unpack it so that there are
       {place}/split/red_noise_nl_0.4 and other rates, split/{_VALIDATION}
       {place}/all_images/<file>
       {place}/validation/<label>/<file>"""
    wanted = "a folder mini-imagenet with split/, all_images/ and validation/ in it"
    raise DatasetError(
        folders.missing("Red Mini-ImageNet", wanted, root, SEARCH_DEPTH, found, ways)
    )


def _lists(folder: Path, colour: str) -> dict[float, Path]:
    """The lists of a colour by their rates."""
    found: dict[float, Path] = {}
    for path in (folder / "split").glob(f"{colour}_noise_nl_*"):
        match = _LIST_NAME.fullmatch(path.name)
        if match and match[2].count(".") <= 1 and match[2] != ".":
            found[float(match[2])] = path
    return found


def _list(folder: Path, rate: float, colour: str) -> Path:
    if colour not in COLOURS:
        raise DatasetError(f"{colour!r} is no colour of Mini-ImageNet: choose red or blue")
    lists = _lists(folder, colour)
    if rate not in lists:
        there = ", ".join(map(str, sorted(lists))) or "none"
        raise DatasetError(
            f"{folder / 'split'} has no {colour}_noise_nl_{float(rate)}: choose one of the rates "
            f"that are there ({there}), or get the list from {ADDRESS}"
        )
    return lists[rate]


# ---- the samples


def _train_places(folder: Path, source: Path) -> list[str]:
    """Folders that training images may be in, as patterns with the label."""
    there = [place for place in _TRAIN_PLACES[:2] if (folder / place).is_dir()]
    if (folder / "training" / source.name).is_dir():
        there.append(f"training/{source.name}/{{label}}")
    return there or [_TRAIN_PLACES[0]]


def _located(folder: Path, samples: Samples, places: Sequence[str]) -> Samples:
    """The samples with the folder that each lies in; the first place where it lies in none."""
    files, labels = samples
    located = []
    for file, label in zip(files, labels):
        options = [f"{place.format(label=label)}/{file}" for place in places]
        there = options if len(options) == 1 else [o for o in options if (folder / o).is_file()]
        located.append((there or options)[0])
    return located, labels


def _class_names(folder: Path) -> tuple[str, ...]:
    """The names in class_name.txt, or the numbers where it does not name all classes."""
    for place in (folder, folder / "split", folder.parent):
        if (path := place / "class_name.txt").is_file():
            names = tuple(text for _, text in file_lists.lines(path))
            if len(names) == NUM_CLASSES:
                return names
    return tuple(f"class {label}" for label in range(NUM_CLASSES))
