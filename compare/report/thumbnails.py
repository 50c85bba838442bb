"""Small pictures of samples as data URIs, from the dataset that the runs were trained on.

    found = thumbnails.of_samples(samples, rows, Source("cifar10", None))
    found.uris[0]                # "data:image/webp;base64,..." or None
    found.problem                # why there are none, for the page; None if all is well

Missing data are no error: a report without pictures is better than none. Letters: n chosen samples.
"""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compare.report import objects, picture_files
from compare.report.collect import Samples
from shared import datasets
from shared.errors import UserError

SIDE = 64  # pixels of the longer side; smaller pictures stay as they are
QUALITY = 80
FORMAT = "webp"
TRIED = 500  # names of files by which their folder is found, of about so many at most

Draw = Callable[[int], Image.Image]  # the picture of a row of the samples


@dataclass(frozen=True)
class Source:
    """Where pictures are."""

    dataset: str | None = None  # a name of shared.datasets
    data_path: Path | None = None  # its folder or file; None: $DATA_ROOT
    annotations: Path | None = None  # COCO-format file of annotated objects
    images: Path | None = None  # the folder of its images


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of n samples."""

    uris: tuple[str | None, ...]  # (n,)
    problem: str | None


def of_samples(
    samples: Samples, rows: Sequence[int], source: Source, side: int = SIDE
) -> Thumbnails:
    """The pictures of the samples at the positions `rows`, at most `side` pixels long."""
    if not rows:
        return Thumbnails((), None)
    side = side if samples.boxes is None else max(side, objects.SIDE)
    try:
        draw = _drawer(samples, source, side)
    except (UserError, OSError) as error:
        return Thumbnails((None,) * len(rows), f"the pictures are not there: {error}")
    uris: list[str | None] = []
    failures: list[str] = []
    for row in rows:
        try:
            uris.append(_uri(draw(row), side))
        except Exception as error:  # Pillow's decoders raise whatever they like
            uris.append(None)
            failures.append(f"{samples.files[row] or f'sample {samples.index[row]}'} ({error})")
    if not failures:
        return Thumbnails(tuple(uris), None)
    problem = f"{len(failures):,} of {len(rows):,} pictures cannot be shown, such as {failures[0]}"
    return Thumbnails(tuple(uris), problem)


def _drawer(samples: Samples, source: Source, side: int) -> Draw:
    if samples.boxes is not None:
        return objects.drawer(samples, source.images, source.annotations, side)
    if any(samples.files):
        return _files(samples, source, side)
    if source.dataset is None:
        raise UserError("the runs do not say which dataset they are of: give --dataset")
    images = _arrays(source.dataset, source.data_path)
    if samples.index[-1] >= len(images):
        raise UserError(
            f"{source.dataset} has {len(images):,} training images, and the runs have sample "
            f"{samples.index[-1]:,}: give the data that the runs were trained on (--data_path)"
        )
    return lambda row: Image.fromarray(images[samples.index[row]])


def _arrays(dataset: str, path: Path | None) -> NDArray[np.uint8]:
    """(N, H, W, 3) or (N, H, W) the training images of a dataset that has no files."""
    root = datasets.data_root(path)
    if dataset != "folder" or not root.is_file():
        return datasets.load(dataset, path).train_images
    try:
        with np.load(root, allow_pickle=False) as arrays:
            return np.asarray(arrays["train_images"])  # as they are, not enlarged for a network
    except Exception as error:  # numpy, zipfile and zlib have a dozen for damaged files
        raise UserError(f"{root} is not a readable .npz of train_images ({error})") from error


# ---- picture files


def _files(samples: Samples, source: Source, side: int) -> Draw:
    names = [name for name in samples.files if name]
    folder = _folder_of(datasets.data_root(source.data_path), names[:: 1 + len(names) // TRIED])

    def draw(row: int) -> Image.Image:
        if not samples.files[row]:
            raise UserError("no run says its file")
        path = picture_files.below(folder, samples.files[row])
        if not path.exists():
            raise UserError(f"not in {folder.absolute()}, so moved, renamed or deleted since")
        return picture_files.opened(path, side)

    return draw


def _folder_of(root: Path, names: Sequence[str]) -> Path:
    """The folder, at most two levels below `root`, that most of the files are in.

    Some may be gone: who has found a wrong label moves the picture to the right class.
    """
    chosen, most = None, 0
    for folder in _folders(root):
        count = sum(picture_files.is_in(folder, name) for name in names)
        if count > most:
            chosen, most = folder, count
        if 2 * most > len(names):  # no other can have more
            break
    if chosen is None:
        raise UserError(
            f"none of them, such as {names[0]}, is in {root.absolute()}: give the folder of the "
            "pictures (--data_path)"
        )
    return chosen


def _folders(root: Path) -> Iterator[Path]:
    yield root
    for pattern in ("*", "*/*"):
        yield from sorted(folder for folder in root.glob(pattern) if folder.is_dir())


def _uri(picture: Image.Image, side: int) -> str:
    small = picture.convert("RGB")
    small.thumbnail((side, side))  # never larger than it is
    stream = io.BytesIO()
    small.save(stream, FORMAT, quality=QUALITY)
    return f"data:image/{FORMAT};base64,{base64.b64encode(stream.getvalue()).decode()}"
