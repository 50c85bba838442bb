"""Instance masks in PNG files become annotations in COCO's format; what the converters of
Cityscapes and VOC share.

Files are read in a fixed order and numbered in it, so the same folder gives the same bytes on any
number of processes. Nothing is written before all of it is converted, and each file then all or
nothing. Letters: H W pixels.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
from PIL import Image
from tqdm import tqdm

from noisy_instseg.errors import UserError
from shared.files import write_atomically

Converted = tuple[
    dict[str, Any], list[dict[str, Any]]
]  # an image, and the annotations on it, all without ids


def read_png(path: Path) -> np.ndarray:
    """Values or palette indices. Returns (H, W) uint8, or what 16 bits need."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: unpack the whole archive") from error
    except (OSError, SyntaxError, ValueError) as error:  # all three come from torn PNG files
        raise UserError(f"cannot read {path} ({error}): unpack the archive again") from error
    if values.ndim != 2:
        raise UserError(
            f"{path} has {values.ndim} dimensions: give the masks as published, one number for "
            "each pixel"
        )
    return values


def annotation(mask: np.ndarray, category: int, crowd: bool = False) -> dict[str, Any]:
    """One object: box (x, y, width, height), area in pixels and run lengths.

    mask: (H, W) bool, not empty.
    """
    runs = pycocotools.mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "iscrowd": int(crowd),
        "category_id": category,
        "bbox": pycocotools.mask.toBbox(runs).tolist(),
        "area": int(pycocotools.mask.area(runs)),
        "segmentation": {
            "size": [int(side) for side in runs["size"]],
            "counts": runs["counts"].decode("ascii"),
        },
    }


def convert(
    one: Callable[[Any], Converted], jobs: Sequence[Any], processes: int, name: str
) -> list[Converted]:
    """one(job) for each job, in their order, with a progress bar on a terminal."""
    bar = {"total": len(jobs), "desc": name, "unit": "image", "disable": None}
    if processes == 1:
        return list(tqdm(map(one, jobs), **bar))
    with multiprocessing.Pool(processes) as pool:
        return list(tqdm(pool.imap(one, jobs, chunksize=4), **bar))


def number(converted: Sequence[Converted], categories: Mapping[int, str]) -> bytes:
    """The JSON file of all images. Images count from 0, annotations from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, found in converted:
        for one in found:
            # DEVIATION(noisy_instseg): Converted annotations count from 1; pycocotools takes a
            # match with annotation 0 for no match at all, and the original's converter gives the
            # first object that id.
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), **one})
        images.append({"id": len(images), **image})
    listed = [{"id": category, "name": name} for category, name in categories.items()]
    return json.dumps({"images": images, "annotations": annotations, "categories": listed}).encode()


def add_options(parser: argparse.ArgumentParser, out_default: str) -> None:
    """The flags that both converters have."""
    parser.add_argument(
        "-o", "--out-dir", type=Path, help=f"folder for the JSON files (default: {out_default})"
    )
    parser.add_argument(
        "--nproc", type=_positive, default=1, help="number of processes (default: %(default)s)"
    )
    ours = parser.add_argument_group("added here")
    ours.add_argument(
        "--force", action="store_true", help="overwrite files of an earlier conversion"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of processes: give an integer from 1 on"
        )
    return int(text)


def write_all(
    out_dir: Path, names: Sequence[str], force: bool, make: Callable[[], Sequence[bytes]]
) -> None:
    """Convert and write the files; existing ones are refused before anything is converted.

    make: bytes for each name.
    """
    paths = [out_dir / name for name in names]
    if not force and (there := [str(path) for path in paths if path.exists()]):
        raise UserError(
            f"{there[0]} exists: choose another --out-dir, or overwrite it with --force"
        )
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError(f"--out-dir {out_dir} is not a folder: choose another name")
    for path, content in zip(paths, make(), strict=True):
        write_atomically(path, content)
        print(f"wrote {path}")


def report(run: Callable[[], None]) -> int:
    """Exit status of a converter: 0, or 2 with one line for input that cannot work."""
    try:
        run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # of writing; reading names its file itself
        print(f"error: {error}: choose another --out-dir", file=sys.stderr)
        return 2
    return 0
