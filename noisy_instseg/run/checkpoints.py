"""Checkpoints that survive a kill and execute nothing: atomic writing, safe reading, the same run.

mmengine writes in place and reads with a long allow-list, then without any protection. `install`
replaces both: whatever it writes appears by renaming, and whatever it reads is tensors and plain
Python values, with no class allowed besides.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_torchvision_models

from noisy_instseg.run import run_folder
from noisy_instseg.run.device import world_size
from noisy_instseg.run.errors import say
from shared import datasets
from shared.datasets import download
from shared.errors import UserError
from shared.files import write_atomically

FROM_SCRATCH = (
    "--cfg-options model.backbone.init_cfg=None model.backbone.frozen_stages=-1 "
    "model.backbone.norm_eval=False"
)
# keys of a checkpoint's meta: what the run is, what else stays in its folder, how many processes
IDENTITY, LOSS_AND_VALIDATION, PROCESSES = "noisy_instseg", "loss_and_validation", "processes"


class AtomicLocalBackend(LocalBackend):
    """Writes to a temporary file, flushes it and renames it: a kill leaves no torn file."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomically(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        write_atomically(filepath, obj.encode(encoding))


def install() -> None:
    """Makes every Runner of this process write and read checkpoints this way."""
    register_backend("local", AtomicLocalBackend, prefixes="", force=True)
    for scheme in list(CheckpointLoader._schemes):
        if scheme:
            CheckpointLoader.register_scheme(scheme, loader=load_from_elsewhere, force=True)
    CheckpointLoader.register_scheme("", loader=load_from_safe_file, force=True)
    CheckpointLoader.register_scheme(
        ("torchvision://", "modelzoo://"), loader=load_from_torchvision, force=True
    )


# ---- reading


def load_from_safe_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """mmengine's loader of local files; the names of these functions appear in its log."""
    return load(Path(filename).expanduser(), map_location)


def load_from_elsewhere(filename: str, map_location: Any = None) -> dict[str, Any]:
    raise UserError(f"{filename} is not read from there: download the file and give its path")


def load(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint file as a dict; nothing in it is executed.

    Raises UserError if it is missing, torn or needs more.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint{_neighbours(path)}")
    if problem := run_folder.tear(path):
        raise UserError(f"{path}: {problem}")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        found = re.search(r"Unsupported \w+: GLOBAL (\S+)", str(error))
        reason = f"it asks for {found[1]}" if found else type(error).__name__
        raise UserError(
            f"{path}: holds more than tensors and plain values, and is not read, since it could "
            f"run code ({reason})"
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: holds {type(checkpoint).__name__}, not a checkpoint")
    if isinstance(meta := checkpoint.get("meta"), dict):
        # mmengine 0.1's name of the config, which Runner.resume would execute
        meta.pop("config", None)
    return checkpoint


def check_weights(
    expected: Mapping[str, Any], checkpoint: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """The weights by their names in the network, also if DistributedDataParallel was around it.

    Raises UserError for weights that do not fit, of which mmengine would only warn.
    expected: the network's state_dict, on any device; checkpoint: as `load` gives it, or the
    weights alone.
    """
    weights = {
        name.removeprefix("module."): value
        for name, value in checkpoint.get("state_dict", checkpoint).items()
    }
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}
    wanted = {
        name: tuple(value.shape)
        for name, value in expected.items()
        if not name.endswith("num_batches_tracked")
    }
    if wrong := [
        f"{name}: {shapes.get(name, 'missing')} there, {shape} here"
        for name, shape in wanted.items()
        if shapes.get(name) != shape
    ]:
        raise UserError(
            f"{path} does not fit the network of this config: {run_folder.some(wrong)}. Give "
            "the config it was trained with"
        )
    if broken := [name for name in wanted if not weights[name].isfinite().all()]:
        raise UserError(
            f"{path} holds weights that are NaN or infinite: {run_folder.some(broken)}. Give an "
            "earlier checkpoint"
        )
    return weights


def class_names(checkpoint: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes that a checkpoint's columns stand for; None if it has weights alone."""
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    known = meta.get("dataset_meta")
    for place in (known if isinstance(known, Mapping) else {}, meta):  # mmdetection 3 and 2
        for key in ("classes", "CLASSES"):
            if isinstance(names := place.get(key), list | tuple) and names:
                return tuple(map(str, names))
    return None


def _neighbours(path: Path) -> str:
    """Other checkpoints in the folder, for the message."""
    names = [f"epoch_{epoch}.pth" for epoch, _ in run_folder.epochs_in(path.parent)]
    return f"; {path.parent} holds {', '.join(reversed(names))}" if names else ""


# ---- the same run


def check_same_run(
    path: Path, identity: Mapping[str, Any], loss_and_validation: Mapping[str, Any]
) -> int:
    """The epochs a checkpoint has behind it; says so if another number of processes trained them.

    loss_and_validation: of the run that goes on in the checkpoint's folder; a run in another folder
    may change them, as stage 2 does, and gives nothing. Raises UserError if it is of another run.
    """
    meta = load(path).get("meta")
    if not isinstance(meta, dict) or IDENTITY not in meta or not isinstance(meta.get("epoch"), int):
        raise UserError(
            f"{path}: was not written by noisy_instseg's train.py, so nobody knows what it was "
            f"trained on; to start from its weights alone: --cfg-options load_from={path}"
        )
    # earlier versions did not write it, and a run without validation has a part of it
    then = meta.get(LOSS_AND_VALIDATION, {})
    both = [key for key in loss_and_validation if key in then]
    before = {**meta[IDENTITY], **{key: then[key] for key in both}}
    after = {**identity, **{key: loss_and_validation[key] for key in both}}
    if differences := list(run_folder.differing(before, after)):
        raise UserError(
            f"{path} belongs to another run: {run_folder.some(differences)}. Continue it with the "
            "settings and data it was made with, or begin a new run in another --work-dir"
        )
    processes, now = meta.get(PROCESSES), world_size()
    if processes not in (None, now):
        say(
            f"note: {path} was trained by {processes} process(es), and now there are {now}. A step "
            "has as many images as before, but each process draws by itself and has its own "
            "statistics of batch norm, so that the numbers are not those of an uninterrupted run"
        )
    epoch: int = meta["epoch"]
    return epoch


# ---- plain values


def make_plain(checkpoint: dict[str, Any]) -> None:
    """Turns mmengine's log history and numpy's scalars into plain values, in place."""
    hub = checkpoint.get("message_hub")
    if hub is not None:
        hub["log_scalars"] = {
            key: [torch.as_tensor(np.asarray(part)) for part in buffer.data]
            for key, buffer in hub["log_scalars"].items()
        }
        hub["resumed_keys"] = dict(hub["resumed_keys"])
    for key in ("meta", "message_hub", "param_schedulers"):
        if key in checkpoint:
            checkpoint[key] = _plain(checkpoint[key])


def restore_history(checkpoint: dict[str, Any]) -> None:
    """The reverse of `make_plain`, for Runner.resume."""
    scalars = checkpoint.get("message_hub", {}).get("log_scalars", {})
    for key, value in scalars.items():
        if isinstance(value, list):
            scalars[key] = HistoryBuffer(*(part.cpu().numpy() for part in value))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, Mapping) and type(value).__name__ in ("dict", "OrderedDict", "ConfigDict"):
        return {key: _plain(item) for key, item in value.items()}
    return value


# ---- ImageNet weights


def load_from_torchvision(filename: str, map_location: Any = None) -> dict[str, Any]:
    """mmengine's loader of torchvision://NAME."""
    return load(pretrained(filename), map_location)


def pretrained(name: str) -> Path:
    """The file of torchvision://NAME, its hash checked.

    From torch's cache, DATA_ROOT, DATA_MIRROR or the publisher, whichever has it first. The name
    ends in the first eight digits of the SHA-256. Raises UserError if no place has it.
    """
    model = name.split("://", 1)[1]
    addresses = get_torchvision_models()
    if model not in addresses:
        raise UserError(
            f"{name}: torchvision has no model of this name; the paper's is torchvision://resnet50"
        )
    file_name = download.file_name(addresses[model])
    cache = Path(torch.hub.get_dir(), "checkpoints", file_name)
    target = cache if cache.is_file() else datasets.data_root() / "pretrained" / file_name
    if get_rank() == 0:
        _fetch(addresses[model], target)
    barrier()
    return target


def _fetch(address: str, target: Path) -> None:
    digest = re.search(r"-([0-9a-f]{8})\.", target.name)
    try:
        download.fetch(address, target, sha256=digest[1] if digest else None)
    except download.DownloadError as error:
        raise UserError(
            f"the ImageNet weights could not be downloaded: {error}\n"
            f"To train from scratch instead: {FROM_SCRATCH}"
        ) from error
