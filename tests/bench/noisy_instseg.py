"""What the losses cost on the CPU against mmdetection's cross entropy, and steps of training.

    make bench-noisy_instseg
    make bench-noisy_instseg ARGS="--json bench.json --steps 500"

Forward and backward, called as mmdetection's box head calls them, on the 512 regions of an image.
They take turns, so that a machine whose speed drifts slows all of them; trust the ratio.
"""

import argparse
import contextlib
import io
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from noisy_instseg import plugins  # noqa: F401 - mmcv's operators, before mmdet.models
from noisy_instseg.analysis import trained_model
from noisy_instseg.loss_modules import (
    GeneralizedCrossEntropyLoss,
    NewCombinationLoss,
    SymmetricCrossEntropyLoss,
)
from noisy_instseg.run.config import Settings
from shared.datasets import shapes

CONFIGS = Path(__file__).resolve().parents[2] / "noisy_instseg/configs/shapes"
STAGES = {"stage 1 (CE)": "nl_1", "stage 2 (NCL)": "nl_2"}
REGIONS = 512
COLUMNS = {9: "Cityscapes", 81: "COCO"}


def loss_modules() -> dict[str, nn.Module]:
    from mmdet.models.losses import CrossEntropyLoss

    return {
        "CE": CrossEntropyLoss(use_sigmoid=False, loss_weight=1.0),
        "NCL": NewCombinationLoss(),
        "NCL, sets logged": NewCombinationLoss(log_partition=True),
        "SCE": SymmetricCrossEntropyLoss(),
        "GCE": GeneralizedCrossEntropyLoss(),
    }


def seconds(module: nn.Module, logits: Tensor, labels: Tensor, weight: Tensor) -> float:
    logits.grad = None
    start = time.perf_counter()
    loss = module(logits, labels, weight, avg_factor=float(REGIONS), reduction_override=None)
    (loss["loss_cls"] if isinstance(loss, dict) else loss).backward()
    return time.perf_counter() - start


def microseconds(columns: int, steps: int) -> dict[str, float]:
    """Median of each loss on random logits (REGIONS, columns), without the first tenth."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(REGIONS, columns, generator=generator, requires_grad=True)
    labels = torch.randint(0, columns, (REGIONS,), generator=generator)
    modules = loss_modules()
    times: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(steps):
        for name, module in modules.items():
            times[name].append(seconds(module, logits, labels, torch.ones(REGIONS)))
    return {name: 1e6 * median(row[steps // 10 :]) for name, row in times.items()}


def report_losses(steps: int) -> dict[str, dict[str, float]]:
    """Prints one line per loss; {shape: {loss: microseconds}}."""
    found = {f"({REGIONS}, {columns})": microseconds(columns, steps) for columns in COLUMNS}
    print(
        f"{'loss, forward + backward':<26}"
        + "".join(f"{shape + ', us':>18}{'to CE':>8}" for shape in found)
    )
    for name in next(iter(found.values())):
        print(
            f"{name:<26}"
            + "".join(f"{row[name]:18.1f}{row[name] / row['CE']:8.2f}" for row in found.values())
        )
    return found


def trainers() -> dict[str, Callable[[], Any]]:
    """One step of training for each stage: the tiny Mask R-CNN, 4 pictures, no data loading."""
    from mmdet.registry import MODELS
    from mmengine.optim import build_optim_wrapper
    from mmengine.runner import Runner

    made = {}
    with tempfile.TemporaryDirectory() as folder:
        shapes.write(Path(folder, "shapes"), train=16, val=4)
        for name, stage in STAGES.items():
            settings = Settings(data_root=Path(folder, "shapes"))
            config = CONFIGS / f"mask_rcnn_tiny_shapes_{stage}.py"
            cfg = trained_model.load_config(config, settings, "train")
            torch.manual_seed(0)
            model = MODELS.build(cfg.model).train()
            optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of its index
                batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
            made[name] = partial(model.train_step, batch, optim_wrapper=optimizer)
    return made


def report_training(steps: int) -> dict[str, float]:
    """Prints and returns training steps a second by stage; medians, the stages in turns."""
    steps_of = trainers()
    times: dict[str, list[float]] = {name: [] for name in steps_of}
    for _ in range(steps):
        for name, step in steps_of.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    found = {name: 1 / median(row[steps // 10 :]) for name, row in times.items()}
    for name, rate in found.items():
        print(f"tiny Mask R-CNN, {name:<22}{rate:6.2f} steps/s of 4 images of 128 x 128")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Benchmark of the losses of noisy_instseg, and of training."
    )
    parser.add_argument(
        "--training_steps", type=int, default=60, help="timed training steps of each stage (60)"
    )
    parser.add_argument(
        "--steps", type=int, default=2000, help="timed repetitions of each figure (2000)"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of CPU threads to try (1 2)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    report = {}
    for threads in args.threads:
        torch.set_num_threads(threads)
        print(f"\n{platform.machine()}, {threads} threads, torch {torch.__version__}")
        report[f"losses, {threads} threads, us"] = report_losses(args.steps)
        report[f"training, {threads} threads, steps/s"] = report_training(args.training_steps)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
