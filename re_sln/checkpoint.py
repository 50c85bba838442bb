"""Checkpoints that survive a kill: atomic writing, torn files skipped, resuming only what is the
same run.

All random numbers are made from (seed, epoch, stream), see data.py; so the state after an epoch is
the networks, the optimizer, the corrected targets and the rows of metrics.jsonl, and no generator's
state.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared.files import write_atomically

LAST, BEST = "last.ckpt", "best.ckpt"


class CheckpointError(ValueError):
    """A checkpoint is missing, torn, or of another run."""


def save(state: Mapping[str, Any], *paths: Path) -> None:
    """Writes the state to each path atomically: a path holds the whole checkpoint or the one
    before.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    for path in paths:
        write_atomically(path, buffer.getvalue())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads a checkpoint, or a published `model.pth`; nothing in it is executed.

    Raises CheckpointError if it is torn.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if not _is_whole(path):
        raise CheckpointError(f"{path}: the file is torn or is no checkpoint")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read safely: {error}"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds {type(state).__name__}, not a checkpoint")
    return state


def _is_whole(path: Path) -> bool:
    """torch.load does not verify the checksums inside the archive, so that flipped bits would pass
    unseen.
    """
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def load_newest(folder: Path, device: torch.device | str) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run folder: the last, else the best, whose epochs are then
    repeated; else None.
    """
    for name in (LAST, BEST):
        if (folder / name).exists():
            try:
                return load(folder / name, device)
            except CheckpointError as error:
                print(f"warning: skipped {error}")
    return None


def refuse_other_run(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises CheckpointError naming every difference between what a checkpoint was made from and
    what is asked now.
    """
    differences = [
        f"{name}: {saved.get(name)} then, {current.get(name)} now"
        for name in sorted({*saved, *current})
        if saved.get(name) != current.get(name)
    ]
    if differences:
        raise CheckpointError(
            "the checkpoint belongs to another run ("
            + "; ".join(differences)
            + "). Give the same flags and data to "
            "continue it, or choose another --output_dir"
        )
