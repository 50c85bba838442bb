"""Hashes of what a finished run leaves, less what the clock decides."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TIMING = {"seconds", "evaluation_seconds", "images_per_s"}
TABLES = ("label_quality.csv", "corrected_labels.npz", "clean_prob.csv")
# Parts of a checkpoint with figures of the clock: the rows of metrics.jsonl, mmengine's log.
LOGS = {"rows", "message_hub", "meta"}


def of(project: str, folder: Path) -> dict[str, str]:
    """Part of a run folder -> its hash. In the project's environment."""
    tensors = of_tensorflow(folder) if project == "ieg_fsr" else of_torch(folder)
    found = {"metrics": of_bytes(metrics(folder)), "checkpoint": of_bytes(tensors)}
    for name in TABLES:
        if (folder / name).exists():
            found[name] = of_bytes([(folder / name).read_bytes()])
    return found


def of_bytes(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def metrics(folder: Path) -> Iterator[bytes]:
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = {name: value for name, value in json.loads(line).items() if name not in TIMING}
        yield json.dumps(row, sort_keys=True).encode()


def of_torch(folder: Path) -> Iterator[bytes]:
    import torch

    def walk(value: Any, name: str) -> Iterator[bytes]:
        if isinstance(value, torch.Tensor):
            yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
            yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                if key not in LOGS:
                    yield from walk(value[key], f"{name}.{key}")
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                yield from walk(item, f"{name}.{number}")

    newest = sorted(folder.glob("epoch_*.pth"), key=lambda path: int(path.stem[6:]))[-1:]
    for path in newest or (folder / "last.ckpt", folder / "best.ckpt"):
        yield from walk(torch.load(path, map_location="cpu", weights_only=True), path.name)


def of_tensorflow(folder: Path) -> Iterator[bytes]:
    import tensorflow as tf

    newest = max(folder.glob("*.index"), key=lambda path: int(path.stem.rpartition("-")[2]))
    reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
    for name in sorted(reader.get_variable_to_shape_map()):
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and not name.startswith("record"):
            yield name.encode()
            yield reader.get_tensor(name).tobytes()
