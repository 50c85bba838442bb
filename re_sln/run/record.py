"""What every run folder holds: config.yaml, metrics.jsonl, and Weights & Biases where asked for.

Kept byte-identical in every torch project.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from shared import plain_yaml
from shared.files import write_atomically

Row = dict[str, Any]  # the figures of one epoch


def write_config(folder: Path, config: Mapping[str, Any], **versions: str) -> None:
    """config.yaml: everything needed to repeat the run. versions: of further packages."""
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        **versions,
    }
    text = yaml.safe_dump({**plain(config), "versions": versions}, sort_keys=False)
    write_atomically(folder / "config.yaml", text.encode())


def read_config(folder: Path) -> dict[str, Any] | None:
    """The config.yaml of a run folder; None if there is none that can be read."""
    try:
        config = plain_yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with paths as text, for YAML and JSON."""
    return {
        key: str(value)
        if isinstance(value, Path)
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in config.items()
    }


class Metrics:
    """metrics.jsonl, one line an epoch. Opening it writes the rows of a resumed run, and no others.

    rows: the caller's own list, to which `append` appends.
    """

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.rows = rows
        self._path = folder / "metrics.jsonl"
        write_atomically(self._path, "".join(map(_line, rows)).encode())

    def append(self, row: Row) -> None:
        self.rows.append(row)
        try:
            with open(self._path, "a") as file:
                file.write(_line(row))
        except OSError as error:  # that of a full disk does not name the file
            error.filename = str(self._path)
            raise


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def start_wandb(project: str, folder: Path, config: Mapping[str, Any]) -> Any:
    """A run of Weights & Biases, the same one after a resume; offline unless WANDB_MODE says so."""
    import wandb

    identifier = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return wandb.init(
        project=project,
        name=folder.name,
        id=identifier,
        dir=str(folder),
        config=plain(config),
        mode=os.environ.get("WANDB_MODE", "offline"),
        resume="allow",
    )
