"""How fast LRA-diffusion labels images, trains and retrieves, beside what its README states.

    make bench-lra_diffusion                     # about five minutes on two cores, less on a GPU
    make bench-lra_diffusion ARGS="--json bench.json --turns 5 --only labels"

Labelling is timed from uint8 images on the device to labels, by the code that tests a model:
normalisation, f_p, diffusion encoder, reverse diffusion. Networks have random weights and images
are random; the arithmetic does not depend on what is in them. What is compared takes turns, so that
a machine whose speed drifts slows all: the ratios are the figures to trust.
"""

import argparse
import gc
import json
import platform
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from lra_diffusion.encoders.embeddings import embed
from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.method.epoch import in_order
from lra_diffusion.method.evaluate import EvaluationSet, label_trajectory, predict, steps_of
from lra_diffusion.method.images import Autocast, DeviceImages
from lra_diffusion.method.networks import Model, NoisePredictor, SmallResNet
from lra_diffusion.run.device import choose_device, configure_torch, use_bfloat16
from lra_diffusion.run.errors import UsageError
from tests.bench.lra_diffusion_common import (
    CLASSES,
    SIMCLR_DIM,
    Bench,
    Report,
    build_encoder,
    config_of,
    noise,
    ratio,
)
from tests.bench.lra_diffusion_training import (
    peak_memory,
    retrieval,
    show_retrieval,
    show_training,
    training,
)

HIDDEN, COUNTS = 256, (10_000, 50_000)  # of the original's table, which takes 10 reverse steps
ORIGINAL = {
    "standard": (3.96, 20.77),
    "SimCLR": (9.52, 41.31),
    "CLIP ViT-B/32": (9.13, 39.82),
    "CLIP ViT-B/16": (17.12, 92.34),
    "CLIP ViT-L/14": (49.98, 303.17),
}
PARTS = ("retrieval", "labels", "diffusion", "training")


# ---- labelling


@torch.no_grad()
def standard_labels(net: nn.Module, images: DeviceImages, autocast: Autocast) -> Tensor:
    """By a classifier, without label diffusion."""
    labels = []
    for pixels in images.plain(in_order(len(images), images.evaluation_batch, images.device)):
        with autocast():
            labels.append(net(pixels).argmax(dim=1))
    return torch.cat(labels)


def lra_labels(encoder: Encoder, model: Model, images: DeviceImages, autocast: Autocast) -> Tensor:
    features = embed(encoder, images, autocast)
    unknown = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    test_set = EvaluationSet(images, unknown, features)
    return predict([model], test_set, config_of(), autocast)[0].argmax(dim=1)


def labels(bench: Bench) -> Report:
    """Seconds for COUNTS images of each column of ORIGINAL."""
    autocast = bench.autocast()
    classifier = bench.ready(SmallResNet("resnet50", CLASSES))
    columns: Report = {name: [] for name in ORIGINAL}
    standard: list[list[float]] = [[] for _ in COUNTS]
    for name in list(ORIGINAL)[1:]:
        encoder = build_encoder(bench, name)
        parts = NoisePredictor(CLASSES, encoder.dim, HIDDEN), SmallResNet("resnet50", HIDDEN)
        model = Model(*map(bench.ready, parts))
        for row, count in zip(standard, COUNTS if bench.on_gpu else COUNTS[:1]):
            timed = count, count
            if not bench.on_gpu:
                clip = bench.clip_sample // 4 if name == "CLIP ViT-L/14" else bench.clip_sample
                timed = bench.sample, bench.sample if name == "SimCLR" else max(1, clip)
            plain, own = map(bench.images, timed)
            times = bench.take_turns(
                partial(standard_labels, classifier, plain, autocast),
                partial(lra_labels, encoder, model, own, autocast),
            )
            row += [seconds / timed[0] for seconds in times[0]]
            columns[name].append(
                {
                    "s per image": median(times[1]) / timed[1],
                    "images timed": timed[1],
                    "times standard": ratio(times[1], times[0]) * timed[0] / timed[1],
                    "noise, %": noise(times[1]),
                }
            )
        del encoder, model, parts
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    columns["standard"] = [
        {
            "s per image": median(row),
            "images timed": count if bench.on_gpu else bench.sample,
            "times standard": 1.0,
            "noise, %": noise(row),
        }
        for count, row in zip(COUNTS, standard)
        if row
    ]
    for name, cells in columns.items():
        # On a CPU the same sample stands for both counts.
        cells += [dict(cells[0]) for _ in COUNTS[len(cells) :]]
        for cell, count, original in zip(cells, COUNTS, ORIGINAL[name]):
            cell |= {
                "images": count,
                "seconds": cell.pop("s per image") * count,
                "original": original,
            }
    return columns


def show_labels(columns: Report, on_gpu: bool) -> None:
    print(
        "seconds from images to "
        f"labels{'' if on_gpu else ', scaled from the samples named below'}: 32-pixel "
        "ResNet-50, F = "
        f"{HIDDEN}, 10 reverse steps\n{'':<28}" + "".join(f"{name:>15}" for name in columns)
    )
    for i, count in enumerate(COUNTS):
        row(f"{count:,} images", (cells[i]["seconds"] for cells in columns.values()), "15.2f")
        row(
            "  in the original's README",
            (cells[i]["original"] for cells in columns.values()),
            "15.2f",
        )
    row("times standard", (cells[0]["times standard"] for cells in columns.values()), "15.2f")
    row(
        "  in the original's README",
        (cells[0] / ORIGINAL["standard"][0] for cells in ORIGINAL.values()),
        "15.2f",
    )
    row("noise, +- %", (cells[0]["noise, %"] for cells in columns.values()), "15.1f")
    if not on_gpu:
        row("images timed", (cells[0]["images timed"] for cells in columns.values()), "15d")
    print()


def row(title: str, figures: Iterator[Any], form: str) -> None:
    print(f"{title:<28}" + "".join(format(figure, form) for figure in figures))


# ---- the label diffusion by itself


def diffusion(bench: Bench) -> Report:
    """What the reverse diffusion adds to the encoders, for 10,000 images with SimCLR's features."""
    count, steps = COUNTS[0], steps_of(config_of(), bench.device)
    predictor = bench.ready(NoisePredictor(CLASSES, SIMCLR_DIM, HIDDEN))
    inputs = bench.features(count, HIDDEN), bench.features(count, SIMCLR_DIM)
    classifier = bench.ready(SmallResNet("resnet50", CLASSES))
    images = bench.images(count if bench.on_gpu else bench.sample)
    own, standard = bench.take_turns(
        partial(label_trajectory, predictor, *inputs, steps),
        partial(standard_labels, classifier, images, bench.autocast()),
    )
    return {
        "images": count,
        "s": median(own),
        "% of standard": 100 * ratio(own, standard) * len(images) / count,
        "noise, %": [noise(times) for times in (own, standard)],
    }


def show_diffusion(found: Report) -> None:
    print(
        f"label diffusion of {found['images']:,} images by itself: {found['s']:.3g} s, "
        f"{found['% of standard']:.2g} % of the standard classifier's time (at most 2 % wanted)\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmark of LRA-diffusion at CIFAR's shapes.")
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda (auto)")
    add("--turns", type=int, default=2, help="timed repetitions of each figure (2)")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run (all)")
    add(
        "--sample",
        type=int,
        default=128,
        help="on a CPU: images that stand for 10,000 where the networks see 32 pixels (128)",
    )
    add(
        "--clip_sample",
        type=int,
        default=32,
        help="on a CPU: the same with CLIP; of ViT-L/14 a quarter of it (32)",
    )
    add("--queries", type=int, default=2048, help="on a CPU: queries that stand for 50,000 (2048)")
    add("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    try:
        device = choose_device(args.device)
    except UsageError as error:
        parser.error(str(error))
    configure_torch(False, device)
    bench = Bench(device, args.turns, args.sample, args.clip_sample, args.queries)
    bf16 = use_bfloat16("auto", device)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    hardware = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else capabilities.get("cpu_name", "CPU")
    )
    print(
        f"{hardware} ({platform.machine()}), {torch.get_num_threads()} threads, {device}, torch "
        f"{torch.__version__}"
    )
    print(
        "as trained: channels_last, "
        f"{'bfloat16 autocast' if bf16 else 'float32 (no bfloat16 hardware)'}\n"
    )
    report: Report = {
        "device": str(device),
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "bf16": bf16,
    }
    if "retrieval" in args.only:
        show_retrieval(report.setdefault("retrieval", retrieval(bench)))
    if "labels" in args.only:
        show_labels(report.setdefault("labels", labels(bench)), bench.on_gpu)
    if "diffusion" in args.only:
        show_diffusion(report.setdefault("diffusion", diffusion(bench)))
    if "training" in args.only:
        show_training(report.setdefault("training", training(bench)))
    peak = f"peak {'GPU ' if device.type == 'cuda' else ''}memory, GiB"
    report[peak] = peak_memory(device)
    print(f"{peak}, of all parts: {report[peak]:.2f}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
