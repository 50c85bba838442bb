"""How fast InstanceGM's phases run here, as trained and in plain float32 NCHW.

    make bench-instancegm
    make bench-instancegm ARGS="--json bench.json --steps 10"

CIFAR-10's shapes: batch 64, PreAct ResNet-18, VAE of 25 dimensions. The two settings take turns,
step by step, so that a machine whose speed drifts slows both; the ratio is the figure to trust. The
images are random: the arithmetic does not depend on what is in them. Then Clothing1M's loader.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import torch

from instancegm.method.images import DeviceImages, independent_batches, torch_stream
from instancegm.method.mixture import Split
from instancegm.method.peers import Peer, TrainingSet, build_peer, predict
from instancegm.method.settings import Settings
from instancegm.method.train import co_divide_epoch, warm_up_epoch
from instancegm.run.device import autocast, choose_device, use_bfloat16
from instancegm.run.errors import UsageError
from shared import noise
from tests.bench.instancegm_loader import decoding, waiting_share
from tests.bench.shares import shares_of, show

SAMPLES, CLASSES = 50_000, 10
T = TypeVar("T")


@dataclass
class Setting:
    """One way to compute the same steps.

    An epoch on the first 128 or 256 images is a single step.
    """

    name: str
    settings: Settings
    peers: list[Peer]
    everything: TrainingSet
    first_128: TrainingSet
    first_256: TrainingSet
    first_512: TrainingSet


def build(
    name: str,
    images: np.ndarray,
    device: torch.device,
    amp: str,
    memory_format: torch.memory_format,
) -> Setting:
    settings = Settings(seed=1)
    precision = autocast(amp, device)
    peers = [build_peer(settings, number, CLASSES, device, precision) for number in (1, 2)]
    for peer in peers:
        peer.net.to(memory_format=memory_format)
        peer.vae.to(memory_format=memory_format)

    def training_set(count: int) -> TrainingSet:
        part = DeviceImages(images[:count], device)
        part.memory_format = memory_format
        return TrainingSet(part, torch.arange(count, device=device) % CLASSES, CLASSES)

    return Setting(name, settings, peers, *map(training_set, (SAMPLES, 128, 256, 512)))


def warm_up_step(setting: Setting) -> None:
    warm_up_epoch(setting.peers[0], np.arange(128), setting.first_128, setting.settings, 0)


def co_divide_step(setting: Setting) -> None:
    split = Split(np.arange(64), np.arange(64, 128), np.full(64, 0.8))
    everything = np.arange(len(setting.first_256.images))
    co_divide_epoch(*setting.peers, split, everything, setting.first_256, setting.settings, 30)


def evaluate(setting: Setting) -> None:
    nets = [peer.net for peer in setting.peers]
    predict(nets, setting.first_512.images, setting.peers[0].autocast)


def draw_views(setting: Setting) -> None:
    """What a co-divide step takes from the data: 4 x 64 augmentations, and 128 for the VAE."""
    images = setting.everything.images
    order = torch_stream(images.device, 1, 0, "bench")
    index = torch.arange(len(images), device=images.device)
    streams = [independent_batches(index, size, order) for size in (64, 64, 128)]
    next(images.views(streams, (2, 2, 1), seed=1))


def seconds(work: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(settings: list[Setting], work: Callable[[Setting], None], steps: int) -> list[float]:
    """Median seconds of each setting, which take turns; the first turn is not counted."""
    times: list[list[float]] = [[] for _ in settings]
    for turn in range(steps + 1):
        for setting, row in zip(settings, times):
            elapsed = seconds(partial(work, setting), setting.everything.images.device)
            if turn:
                row.append(elapsed)
    return [median(row) for row in times]


def peak_memory_gib(device: str, amp: str, channels_last: bool) -> float:
    """Peak memory of a process that takes two co-divide steps: of the GPU, or of the process."""
    images = np.zeros((SAMPLES, 32, 32, 3), np.uint8)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    setting = build("", images, torch.device(device), amp, memory_format)
    for _ in range(2):
        co_divide_step(setting)
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def in_fresh_process(work: Callable[..., T], *arguments: object) -> T:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def cpu_name() -> str:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return f"{capabilities.get('cpu_name', 'CPU')} ({platform.machine()})"


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmark of InstanceGM at CIFAR-10's shapes.")
    parser.add_argument("--steps", type=int, default=5, help="timed repetitions of each figure (5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (auto)")
    parser.add_argument(
        "--pictures", type=int, default=2000, help="pictures that the loader decodes (2000)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that decode them (2)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    try:
        device = choose_device(args.device)
    except UsageError as error:
        parser.error(str(error))
    loader = {
        **in_fresh_process(decoding, args.pictures, args.workers),
        **in_fresh_process(waiting_share, device, args.workers, args.steps),
    }
    # Before the big arrays: a process counts what its parent held when it was made.
    memory = [
        in_fresh_process(peak_memory_gib, str(device), amp, last)
        for amp, last in (("auto", True), ("off", False))
    ]
    images = np.random.default_rng(0).integers(0, 256, (SAMPLES, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(SAMPLES) % CLASSES
    pdn_seconds = seconds(
        lambda: noise.part_dependent(images, labels, 0.5, CLASSES), torch.device("cpu")
    )
    fast = build("as trained", images, device, "auto", torch.channels_last)
    plain = build("float32 NCHW", images, device, "off", torch.contiguous_format)
    both = [fast, plain]
    bf16 = use_bfloat16("auto", device)
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}")
    print(
        "as trained: channels_last, "
        f"{'bfloat16 autocast' if bf16 else 'float32 (no bfloat16 hardware)'}\n"
    )

    warm_up, co_divide, evaluation = (
        measure(both, work, args.steps) for work in (warm_up_step, co_divide_step, evaluate)
    )
    views = measure([fast], draw_views, 10 * args.steps)[0]
    figures = {
        "warm-up images/s": [128 / value for value in warm_up],
        "co-divide steps/s": [1 / value for value in co_divide],
        "evaluation images/s, both networks": [512 / value for value in evaluation],
    }
    print(f"{'':<36}{fast.name:>14}{plain.name:>14}{'ratio':>8}")
    for name, (new, old) in figures.items():
        print(f"{name:<36}{new:14.3g}{old:14.3g}{new / old:8.2f}")
    single = {
        **loader,
        "data share of a co-divide step, %": 100 * views / co_divide[0],
        "PDN noise of 50,000 images, s": pdn_seconds,
    }
    peak = f"peak {'GPU ' if device.type == 'cuda' else ''}memory, GiB"
    print(f"{peak:<36}{memory[0]:14.3g}{memory[1]:14.3g}{memory[0] / memory[1]:8.2f}")
    for name, value in single.items():
        print(f"{name:<36}{value:14.3g}")
    parts = {}
    if device.type == "cpu":
        parts = {
            "a warm-up step, %": shares_of(partial(warm_up_step, fast)),
            "a co-divide step, %": shares_of(partial(co_divide_step, fast)),
        }
    for title, found in parts.items():
        show(title, found)
    if args.json:
        report = {
            name: {"as trained": new, "float32 NCHW": old, "ratio": new / old}
            for name, (new, old) in figures.items()
        }
        report |= {peak: memory[0], **single, **parts, "device": str(device), "bf16": bf16}
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
