"""Checkpoints that survive a kill: written atomically, skipped when torn, refused for another run.

All random numbers are made from (seed, epoch, stream). So the state after an epoch is networks,
optimizers and a few numbers, and no generator's state.

Kept byte-identical in every torch project.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared.files import check_archive, write_atomically

from .errors import CheckpointError

LAST, BEST = "last.ckpt", "best.ckpt"


def save(state: Mapping[str, Any], *paths: Path) -> None:
    """Writes the state to each path atomically: it holds this checkpoint or the one before."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    for path in paths:
        write_atomically(path, buffer.getvalue())


def load(path: Path, device: torch.device | str = "cpu", kind: type = dict) -> Any:
    """Reads a checkpoint or a published model; nothing in it is executed.

    kind: the type that the file must hold. Raises CheckpointError if it is missing or torn.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint; a run folder holds {LAST} and {BEST}")
    if not _is_whole(path):
        raise CheckpointError(f"{path}: the file is torn or is no checkpoint")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # of pickle, of zip, of torch: whatever a foreign file provokes
        lines = str(error).splitlines()
        reason = lines[0].split(" Re-running")[0].split(" (1)")[0] if lines else ""
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read safely ({reason})"
        ) from error
    if not isinstance(state, kind):
        raise CheckpointError(
            f"{path}: holds a {type(state).__name__}, expected a {kind.__name__}: "
            "is it another file?"
        )
    return state


def _is_whole(path: Path) -> bool:
    """Checks the checksums inside the archive, which torch.load does not."""
    try:
        check_archive(path)
    except (zipfile.BadZipFile, OSError, EOFError):
        return False
    return zipfile.is_zipfile(path)


def load_newest(folder: Path, device: torch.device | str) -> dict[str, Any] | None:
    """The last checkpoint of a run folder if it is whole, else the best one, else None."""
    for name in (LAST, BEST):
        if (folder / name).exists():
            try:
                state: dict[str, Any] = load(folder / name, device)
                return state
            except CheckpointError as error:
                print(f"warning: skipped {error}")
    return None


def note_last_good(error: FloatingPointError, folder: Path) -> None:
    """Tells, where it is true, that the run folder still has a checkpoint from before the error."""
    if (folder / LAST).exists():
        error.add_note(f"The checkpoint of the last good epoch is kept in {folder}")


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads its state, but keeps how this device computes: the checkpoint may be of another one."""
    fused = optimizer.param_groups[0]["fused"]
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["fused"] = fused


def refuse_other_run(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises CheckpointError naming every difference between the saved run and this one."""
    differences = [
        f"{name}: {saved.get(name)} then, {current.get(name)} now"
        for name in sorted({*saved, *current})
        if saved.get(name) != current.get(name)
    ]
    if differences:
        raise CheckpointError(
            "the checkpoint belongs to another run (" + "; ".join(differences) + "). Give the same "
            "flags and data to continue it, or choose another --output_dir"
        )
