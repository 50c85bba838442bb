"""Instance masks in PNG files become annotations in COCO's format; shared by both converters.

Files are read in a fixed order and numbered in it, so the same folder gives the same bytes on any
number of processes. Nothing is written before all of it is converted, and each file then all or
nothing. Letters: H W pixels.
"""

# ruff: noqa: RUF009 - the calls make fields, and no values

import json
import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from noisy_instseg.run.flags import added, original
from shared.errors import UserError
from shared.files import write_atomically

# an image, and the annotations on it, all without ids
Converted = tuple[dict[str, Any], list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class ConvertFlags:
    """What both converters take."""

    out_dir: Path | None = original("folder for the JSON files", None, "-o", "--out-dir")
    nproc: int = original("number of processes (1)", 1)
    force: bool = added("overwrite files of an earlier conversion", False)

    def __post_init__(self) -> None:
        if self.nproc < 1:
            raise UserError(f"--nproc {self.nproc}: must be at least 1")


def read_png(path: Path) -> NDArray[np.integer[Any]]:
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


def annotation(mask: NDArray[np.bool_], category: int, crowd: bool = False) -> dict[str, Any]:
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
    # Ctrl-C is for the first process, which ends the others
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.Pool(processes, signal.signal, ignore) as pool:
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
