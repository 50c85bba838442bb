"""How fast SLN trains here, and what bfloat16 and channels_last gain over float32 NCHW.

    make bench-re_sln     # CIFAR-10's shapes: WRN-28-2, batch 128, EMA model updated every step
    make bench-re_sln ARGS="--json bench.json --steps 10"

The two settings take turns, so that a machine whose speed drifts slows both; the ratio is the
figure to trust. Random images of CIFAR-10's shape: the arithmetic does not depend on what is in
them.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from re_sln.method.ema import MomentumModel
from re_sln.method.images import NORMALISATION, DeviceImages
from re_sln.method.losses import one_hot
from re_sln.method.train import (
    EvaluationSet,
    Learner,
    Settings,
    TrainingSet,
    correct_labels,
    evaluate,
    train_epoch,
)
from re_sln.run.config import complete
from re_sln.run.device import choose_device, use_bfloat16
from re_sln.run.errors import UsageError
from re_sln.run.experiment import build_learner, loop_settings
from tests.bench.shares import shares_of, show

SAMPLES, CLASSES, TEST_IMAGES = 50_000, 10, 10_000
CPU_SAMPLES = 256  # two steps are enough there, and an epoch takes minutes


@dataclass
class Setting:
    """One way to compute the same steps, on the first `count` training images."""

    name: str
    learner: Learner
    settings: Settings
    train_set: TrainingSet
    test_set: EvaluationSet


def build(
    name: str,
    images: np.ndarray,
    device: torch.device,
    amp: str,
    memory_format: torch.memory_format,
    compiled: bool,
) -> Setting:
    given = {"dataset_name": "cifar10", "noise_mode": "sym", "method": "sln_mo"}
    config = complete({**given, "amp": amp, "compile": compiled})
    learner = build_learner(config, CLASSES, device)
    for net in (learner.net, learner.ema.net):
        net.to(memory_format=memory_format)
    learner.ema = MomentumModel(learner.net, learner.ema.net, config.ema_decay)
    source = DeviceImages(images, NORMALISATION["cifar10"], device)
    source.memory_format = memory_format
    labels = torch.arange(len(images), device=device) % CLASSES
    settings = loop_settings(config, device)
    wrong = torch.zeros(len(images), dtype=torch.bool, device=device)
    return Setting(
        name,
        learner,
        settings,
        TrainingSet(source, one_hot(labels, CLASSES), wrong),
        EvaluationSet(source, labels),
    )


def train(setting: Setting, count: int) -> None:
    samples = torch.arange(count, device=setting.train_set.noisy.device)
    train_epoch(setting.learner, setting.train_set, samples, 1.0, setting.settings, 1)


def test(setting: Setting) -> None:
    for net in (setting.learner.net, setting.learner.ema.net):
        evaluate(net, setting.test_set, setting.settings, 1)["loss"].item()


def score(setting: Setting, count: int) -> None:
    samples = torch.arange(count, device=setting.train_set.noisy.device)
    correct_labels(setting.learner, setting.train_set, samples, setting.settings, 1).sum().item()


def augment(setting: Setting, count: int) -> None:
    batches = torch.arange(count, device=setting.train_set.noisy.device).split(128)
    for augmented in setting.train_set.images.views(batches, 1):
        augmented.sum().item()


def update_ema(setting: Setting) -> None:
    setting.learner.ema.update()


def seconds(work: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(settings: list[Setting], work: Callable[[Setting], None], turns: int) -> list[float]:
    """Median seconds of each setting, which take turns; the first turn is not counted."""
    times: list[list[float]] = [[] for _ in settings]
    for turn in range(turns + 1):
        for setting, row in zip(settings, times):
            elapsed = seconds(partial(work, setting), setting.train_set.noisy.device)
            if turn:
                row.append(elapsed)
    return [median(row) for row in times]


def cpu_name() -> str:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return f"{capabilities.get('cpu_name', 'CPU')} ({platform.machine()})"


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmark of SLN at CIFAR-10's shapes.")
    parser.add_argument("--steps", type=int, default=7, help="timed repetitions of each figure (7)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (auto)")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the network as trained"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    try:
        device = choose_device(args.device)
    except UsageError as error:
        parser.error(str(error))
    on_gpu = device.type == "cuda"
    count = SAMPLES if on_gpu else CPU_SAMPLES
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    fast = build("as trained", images, device, "auto", torch.channels_last, args.compile)
    plain = build("float32 NCHW", images, device, "off", torch.contiguous_format, False)
    bf16 = use_bfloat16("auto", device)
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}")
    print(
        "as trained: channels_last, "
        f"{'bfloat16 autocast' if bf16 else 'float32 (no bfloat16 hardware)'}"
        f"{', compiled' if args.compile else ''}\n"
    )
    both = [fast, plain]
    training, testing, scoring = (
        measure(both, work, args.steps)
        for work in (partial(train, count=count), test, partial(score, count=count))
    )
    augmenting, average = (
        measure([fast], work, args.steps)[0] for work in (partial(augment, count=count), update_ema)
    )
    figures = {
        "training, images/s": [count / value for value in training],
        "testing, images/s through both networks": [count / value for value in testing],
        "label correction, images/s": [count / value for value in scoring],
        "an epoch of CIFAR-10 with its test, s": [
            SAMPLES / count * a + TEST_IMAGES / count * b for a, b in zip(training, testing)
        ],
    }
    print(f"{'':<42}{fast.name:>14}{plain.name:>14}{'ratio':>8}")
    for name, (new, old) in figures.items():
        ratio = old / new if name.endswith(" s") else new / old
        print(f"{name:<42}{new:14.4g}{old:14.4g}{ratio:8.2f}")
    steps = -(-count // 128)
    single = {
        "data share of a step, %": 100 * augmenting / training[0],
        "EMA model's share of a step, %": 100 * average * steps / training[0],
    }
    if on_gpu:
        single["peak GPU memory, GiB"] = torch.cuda.max_memory_allocated() / 2**30
    for name, value in single.items():
        print(f"{name:<42}{value:14.3g}")
    parts = {} if on_gpu else {"a training step, %": shares_of(partial(train, fast, count))}
    for title, found in parts.items():
        show(title, found)
    if args.json:
        report = {
            name: {"as trained": new, "float32 NCHW": old} for name, (new, old) in figures.items()
        }
        report |= {**single, **parts, "device": str(device), "bf16": bf16}
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
