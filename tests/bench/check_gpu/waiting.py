"""Runs a training script so that a step which waits for the GPU is an error.

    .venv/re_sln/bin/python -m tests.bench.check_gpu.waiting re_sln/train_cifar.py --noise_mode ...

Inside the loops over batches torch refuses what waits (`set_sync_debug_mode("error")`); between
them, where an epoch's figures are read, it does not.
"""

import importlib
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

# What every loop over the steps of an epoch goes through.
LOOPS = {
    "instancegm": ("instancegm.method.signs", "SignsOfLife.over", 1),
    "re_sln": ("re_sln.method.train", "watched", 0),
    "lra_diffusion": ("lra_diffusion.method.train", "watched", 0),
}


def strict(loop: Callable[..., Iterable[Any]], position: int) -> Callable[..., Iterator[Any]]:
    """The loop over its batches (argument `position`), without signs of life: they may wait."""

    def over(*arguments: Any, **_: Any) -> Iterator[Any]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield from arguments[position]
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return over


def main(script: Path, words: list[str]) -> None:
    sys.path.insert(0, str(Path.cwd()))
    module, name, position = LOOPS[script.parent.name]
    holder: Any = importlib.import_module(module)
    *outer, function = name.split(".")
    for part in outer:
        holder = getattr(holder, part)
    setattr(holder, function, strict(getattr(holder, function), position))
    sys.argv = [str(script), *words]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
