"""How fast LRA-diffusion labels images, trains and retrieves here; beside it what the original's README states.

    make bench-lra_diffusion                     # about five minutes on two cores, less on a GPU
    make bench-lra_diffusion ARGS="--json bench.json --turns 5 --only labels"

Labelling is timed from uint8 images on the device to labels, by the code that tests a model: normalisation, f_p, diffusion
encoder, reverse diffusion. Networks have random weights and images are random; the arithmetic does not depend on what is in
them. What is compared takes turns, so that a machine whose speed drifts slows all: the ratios are the figures to trust.
"""

import argparse
import contextlib
import gc
import io
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lra_diffusion import clip_tower, command_line, options
from lra_diffusion.clip_tower import CLIP_NORMALISATION, TOWERS
from lra_diffusion.data import CIFAR_NORMALISATION, CIFAR_TRAIN_IMAGES, DeviceImages, in_order
from lra_diffusion.diffusion import class_probabilities, ddim
from lra_diffusion.ema import WeightAverage
from lra_diffusion.embeddings import embed
from lra_diffusion.encoder_networks import Renormalised, SimCLRNet
from lra_diffusion.encoders import Encoder
from lra_diffusion.experiment import build_learner, make_settings
from lra_diffusion.guide import OnTheFly
from lra_diffusion.model_file import Model
from lra_diffusion.networks import NoisePredictor, SmallResNet
from lra_diffusion.retrieval import Bank
from lra_diffusion.sampling import LabelSampler
from lra_diffusion.train import EvaluationSet, Learner, Settings, TrainingSet, predict, train_epoch

CLASSES, HIDDEN, COUNTS = 10, 256, (10_000, 50_000)  # of the original's table, which takes 10 reverse steps
ORIGINAL = {"standard": (3.96, 20.77), "SimCLR": (9.52, 41.31), "CLIP ViT-B/32": (9.13, 39.82),
            "CLIP ViT-B/16": (17.12, 92.34), "CLIP ViT-L/14": (49.98, 303.17)}  # fmt: skip
SIMCLR_DIM, BATCH, K = 2048, 200, 10
ROWS, WIDTH = 50_000, 512  # of the retrieval: CIFAR's images, features as wide as those of CLIP ViT-B
GPU_STEPS = 20  # training steps timed at once; on a CPU one
PARTS = ("retrieval", "labels", "diffusion", "training")
Report = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Where and how often to time. sample, clip_sample, queries: what a CPU does of a figure, which is then scaled."""

    device: torch.device
    turns: int
    sample: int
    clip_sample: int
    queries: int

    @property
    def on_gpu(self) -> bool:
        return self.device.type != "cpu"

    def seconds(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # no progress bars
            work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def take_turns(self, *works: Callable[[], object]) -> list[list[float]]:
        """Seconds of each work in each turn; the first turn is not counted."""
        times: list[list[float]] = [[] for _ in works]
        for turn in range(self.turns + 1):
            for work, row in zip(works, times):
                elapsed = self.seconds(work)
                if turn:
                    row.append(elapsed)
        return times

    def images(self, count: int) -> DeviceImages:
        pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return DeviceImages(pixels, CIFAR_NORMALISATION, self.device)

    def features(self, count: int, width: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(0)
        return torch.randn(count, width, generator=generator, device=self.device)

    def ready(self, net: nn.Module) -> nn.Module:
        return net.to(device=self.device, memory_format=torch.channels_last).eval()

    def settings(self, amp: str, *flags: str) -> tuple[argparse.Namespace, Settings]:
        args = options.parse("train_CIFAR", ["--amp", amp, *flags])
        return args, make_settings(args, self.device)


def noise(times: Sequence[float]) -> float:
    """Half the range of the turns, in percent of their median."""
    return 50 * (max(times) - min(times)) / median(times)


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Median over the turns of time / other time."""
    return median(a / b for a, b in zip(times, others))


# ---- retrieval, first of all: the peak of memory is the process's, and must not be another part's


def retrieval(bench: Bench) -> Report:
    features, k = bench.features(ROWS, WIDTH), K
    before = peak_memory(bench.device)
    fast = not bench.on_gpu and command_line.use_bfloat16("auto", bench.device)  # as experiment.prepare has it
    bank = Bank(features, bfloat16=fast)
    whole = bench.seconds(partial(bank.nearest, features, k))
    after = peak_memory(bench.device)
    del bank
    queries = features if bench.on_gpu else features[: bench.queries]
    rounded, exact = Bank(features, bfloat16=True), Bank(features)
    times = bench.take_turns(partial(rounded.nearest, queries, k), partial(exact.nearest, queries, k))
    same = (rounded.nearest(queries, k).index == exact.nearest(queries, k).index).float().mean().item()
    scale = ROWS / len(queries)
    return {"all against all, s": whole, "candidates by bfloat16": fast, "memory before, GiB": before,
            "memory of the search, GiB": after - before, "queries timed": len(queries),
            "bfloat16 candidates, s": median(times[0]) * scale, "float32, s": median(times[1]) * scale,
            "float32 / bfloat16": ratio(times[1], times[0]), "noise, %": [noise(row) for row in times],
            "same neighbours, %": 100 * same}  # fmt: skip


def peak_memory(device: torch.device) -> float:
    """GiB: of the GPU, or else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def show_retrieval(found: Report) -> None:
    how = "bfloat16 candidates" if found["candidates by bfloat16"] else "float32"
    print(f"retrieval, exact: the {K} nearest of {ROWS:,} x {WIDTH} random features, all against all")
    print(f"  as trained ({how}): {found['all against all, s']:.1f} s, {found['memory of the search, GiB']:.2f} GiB beyond the "
          f"{found['memory before, GiB']:.2f} before")  # fmt: skip
    print(f"  {found['queries timed']:,} queries in turns, scaled: bfloat16 candidates {found['bfloat16 candidates, s']:.1f} s, "
          f"float32 {found['float32, s']:.1f} s, ratio {found['float32 / bfloat16']:.2f}; same neighbours: "
          f"{found['same neighbours, %']:.4g} %\n")  # fmt: skip


# ---- labelling


def build_encoder(bench: Bench, name: str) -> Encoder:
    """f_p as encoders.build makes it, with random weights."""
    if name == "SimCLR":
        net: nn.Module = SimCLRNet()
        net.g = nn.Identity()
        return Encoder(name, bench.ready(net), SIMCLR_DIM, name, 1000)
    shape = TOWERS[name.removeprefix("CLIP ")]
    net = Renormalised(clip_tower.build(shape), shape.image_side, CIFAR_NORMALISATION, CLIP_NORMALISATION)
    return Encoder(name, bench.ready(net), shape.dim, name, 256)


@torch.no_grad()
def standard_labels(net: nn.Module, images: DeviceImages, settings: Settings) -> Tensor:
    """By a classifier, without label diffusion."""
    labels = []
    for pixels in images.plain(in_order(len(images), images.evaluation_batch, images.device)):
        with settings.autocast():
            labels.append(net(pixels).argmax(dim=1))
    return torch.cat(labels)


def lra_labels(encoder: Encoder, model: Model, images: DeviceImages, settings: Settings) -> Tensor:
    features = embed(encoder, images, settings.autocast)
    unknown = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    return predict(*model, EvaluationSet(images, unknown, features), settings).argmax(dim=1)


def labels(bench: Bench) -> Report:
    """Seconds for COUNTS images of each column of ORIGINAL."""
    settings = bench.settings("auto")[1]
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
            times = bench.take_turns(partial(standard_labels, classifier, plain, settings),
                                     partial(lra_labels, encoder, model, own, settings))  # fmt: skip
            row += [seconds / timed[0] for seconds in times[0]]
            columns[name].append({"s per image": median(times[1]) / timed[1], "images timed": timed[1],
                                  "times standard": ratio(times[1], times[0]) * timed[0] / timed[1],
                                  "noise, %": noise(times[1])})  # fmt: skip
        del encoder, model, parts
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    columns["standard"] = [{"s per image": median(row), "images timed": count if bench.on_gpu else bench.sample,
                            "times standard": 1.0, "noise, %": noise(row)}
                           for count, row in zip(COUNTS, standard) if row]  # fmt: skip
    for name, cells in columns.items():
        cells += [dict(cells[0]) for _ in COUNTS[len(cells) :]]  # on a CPU the same sample stands for both counts
        for cell, count, original in zip(cells, COUNTS, ORIGINAL[name]):
            cell |= {"images": count, "seconds": cell.pop("s per image") * count, "original": original}
    return columns


def show_labels(columns: Report, on_gpu: bool) -> None:
    print(f"seconds from images to labels{'' if on_gpu else ', scaled from the samples named below'}: 32-pixel ResNet-50, F = "
          f"{HIDDEN}, 10 reverse steps\n{'':<28}" + "".join(f"{name:>15}" for name in columns))  # fmt: skip
    for i, count in enumerate(COUNTS):
        row(f"{count:,} images", (cells[i]["seconds"] for cells in columns.values()), "15.2f")
        row("  in the original's README", (cells[i]["original"] for cells in columns.values()), "15.2f")
    row("times standard", (cells[0]["times standard"] for cells in columns.values()), "15.2f")
    row("  in the original's README", (cells[0] / ORIGINAL["standard"][0] for cells in ORIGINAL.values()), "15.2f")
    row("noise, +- %", (cells[0]["noise, %"] for cells in columns.values()), "15.1f")
    if not on_gpu:
        row("images timed", (cells[0]["images timed"] for cells in columns.values()), "15d")
    print()


def row(title: str, figures: Iterator[Any], form: str) -> None:
    print(f"{title:<28}" + "".join(format(figure, form) for figure in figures))


# ---- the label diffusion by itself


@torch.no_grad()
def literal_labels(predictor: NoisePredictor, settings: Settings, embedding: Tensor, feature: Tensor) -> Tensor:
    """The reverse steps written out: the whole predictor S times."""

    def predict_noise(y: Tensor, position: int) -> Tensor:
        return predictor(embedding, y, settings.steps.times[position].expand(len(y)), feature)

    start = torch.zeros(len(embedding), CLASSES, device=embedding.device)
    return class_probabilities(ddim(predict_noise, start, settings.steps)[-1]).argmax(dim=1)


def folded_labels(predictor: NoisePredictor, settings: Settings, embedding: Tensor, feature: Tensor) -> Tensor:
    return LabelSampler(predictor, settings.steps).probabilities(embedding, feature).argmax(dim=1)


def diffusion(bench: Bench) -> Report:
    """What the reverse diffusion adds to the encoders, for 10,000 images with SimCLR's features."""
    settings, count = bench.settings("auto")[1], COUNTS[0]
    predictor = bench.ready(NoisePredictor(CLASSES, SIMCLR_DIM, HIDDEN))
    inputs = predictor, settings, bench.features(count, HIDDEN), bench.features(count, SIMCLR_DIM)
    classifier, images = (
        bench.ready(SmallResNet("resnet50", CLASSES)),
        bench.images(count if bench.on_gpu else bench.sample),
    )
    folded, literal, standard = bench.take_turns(partial(folded_labels, *inputs), partial(literal_labels, *inputs),
                                                 partial(standard_labels, classifier, images, settings))  # fmt: skip
    same = (folded_labels(*inputs) == literal_labels(*inputs)).float().mean().item()
    return {"images": count, "folded, s": median(folded), "literal, s": median(literal),
            "literal / folded": ratio(literal, folded),
            "folded, % of standard": 100 * ratio(folded, standard) * len(images) / count,
            "literal, % of standard": 100 * ratio(literal, standard) * len(images) / count,
            "noise, %": [noise(times) for times in (folded, literal, standard)], "same labels, %": 100 * same}  # fmt: skip


def show_diffusion(found: Report) -> None:
    print(f"label diffusion of {found['images']:,} images by itself: {found['folded, s']:.3g} s, "
          f"{found['folded, % of standard']:.2g} % of the standard classifier's time (at most 10 % wanted)")  # fmt: skip
    print(f"  the predictor called in each step: {found['literal, s']:.3g} s ({found['literal, % of standard']:.2g} %), "
          f"{found['literal / folded']:.2f} times as long; same labels: {found['same labels, %']:.4g} %\n")  # fmt: skip


# ---- training


class Contiguous:
    """The views of other images, NCHW."""

    def __init__(self, images: DeviceImages) -> None:
        self._images, self.device = images, images.device

    def views(self, batches: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        return (view.contiguous() for view in self._images.views(batches, seed))


@dataclass
class Trainer:
    """One way to compute the same steps."""

    name: str
    learner: Learner
    train_set: TrainingSet
    settings: Settings
    encoder: Encoder
    bank: Bank

    def train(self, samples: Tensor) -> None:
        train_epoch(self.learner, self.train_set, samples, self.settings, 1)

    def encode(self, images: Tensor) -> None:
        with self.settings.autocast():
            self.encoder(images)

    def search(self, queries: Tensor) -> None:
        self.bank.nearest(queries, K)

    def draw_views(self, samples: Tensor) -> None:
        for _ in self.train_set.images.views(samples.split(BATCH), 1):
            pass


def build_trainer(bench: Bench, images: DeviceImages, features: Tensor, plain: bool) -> Trainer:
    """As trained, or plain: float32 in NCHW."""
    args, settings = bench.settings("off" if plain else "auto")
    learner, encoder = build_learner(args, CLASSES, SIMCLR_DIM, bench.device), build_encoder(bench, "SimCLR")
    if plain:
        for net in (learner.encoder, encoder.net):
            net.to(memory_format=torch.contiguous_format)
        learner.average = WeightAverage([learner.predictor, learner.encoder], args.ema_decay)
    bf16 = not bench.on_gpu and command_line.use_bfloat16(args.amp, bench.device)
    bank = Bank(features, bfloat16=bf16)
    labels = torch.arange(len(features), device=bench.device) % CLASSES
    guide = OnTheFly(encoder, bank, labels, K, False, settings.autocast)
    served = Contiguous(images) if plain else images
    name = "float32 NCHW" if plain else "as trained"
    return Trainer(name, learner, TrainingSet(served, labels, None, guide), settings, encoder, bank)


def training(bench: Bench) -> Report:
    """Steps of CIFAR's default: SimCLR's features of each batch, searched in 45,000 x 2048, ResNet-34, batch 200."""
    steps = GPU_STEPS if bench.on_gpu else 1
    images = bench.images(steps * BATCH)
    features = nn.functional.normalize(bench.features(CIFAR_TRAIN_IMAGES, SIMCLR_DIM), dim=1)
    samples = torch.arange(steps * BATCH, device=bench.device)
    [batch] = images.plain([samples[:BATCH]])
    trainers = [build_trainer(bench, images, features, plain) for plain in (False, True)]
    whole = bench.take_turns(*(partial(trainer.train, samples) for trainer in trainers))
    report: Report = {"float32 NCHW / as trained": ratio(whole[1], whole[0])}
    for trainer, times in zip(trainers, whole):
        view = batch.contiguous() if trainer.name != "as trained" else batch
        encode, search, draw = bench.take_turns(partial(trainer.encode, view), partial(trainer.search, features[:BATCH]),
                                                partial(trainer.draw_views, samples))  # fmt: skip
        step = median(times) / steps
        shares = {"f_p": median(encode), "retrieval": median(search), "data": median(draw) / steps}
        rest = step - sum(shares.values())
        report[trainer.name] = {"steps/s": 1 / step, "images/s": BATCH / step, "noise, %": noise(times),
                                "shares, %": {name: 100 * part / step for name, part in shares.items()}
                                | {"diffusion encoder, predictor": 100 * rest / step}}  # fmt: skip
    return report


def show_training(found: Report) -> None:
    print(f"training on CIFAR: SimCLR, {CIFAR_TRAIN_IMAGES:,} x {SIMCLR_DIM} features to search, ResNet-34, batch {BATCH}; ratio "
          f"{found['float32 NCHW / as trained']:.2f}")  # fmt: skip
    for name in ("as trained", "float32 NCHW"):
        one = found[name]
        shares = ", ".join(f"{part} {share:.1f} %" for part, share in one["shares, %"].items())
        print(
            f"  {name:<14}{one['steps/s']:.3g} steps/s, {one['images/s']:.4g} images/s (+- {one['noise, %']:.1f} %): {shares}"
        )
    print()


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
    add("--clip_sample", type=int, default=32, help="on a CPU: the same with CLIP; of ViT-L/14 a quarter of it (32)")
    add("--queries", type=int, default=2048, help="on a CPU: queries that stand for 50,000 (2048)")
    add("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    try:
        device = command_line.choose_device(args.device)
    except command_line.UsageError as error:
        parser.error(str(error))
    command_line.configure_torch(False, device)
    bench = Bench(device, args.turns, args.sample, args.clip_sample, args.queries)
    bf16 = command_line.use_bfloat16("auto", device)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else capabilities.get("cpu_name", "CPU")
    print(f"{hardware} ({platform.machine()}), {torch.get_num_threads()} threads, {device}, torch {torch.__version__}")
    print(f"as trained: channels_last, {'bfloat16 autocast' if bf16 else 'float32 (no bfloat16 hardware)'}\n")
    report: Report = {"device": str(device), "hardware": hardware, "threads": torch.get_num_threads(), "bf16": bf16}
    if "retrieval" in args.only:
        show_retrieval(report.setdefault("retrieval", retrieval(bench)))
    if "labels" in args.only:
        show_labels(report.setdefault("labels", labels(bench)), bench.on_gpu)
    if "diffusion" in args.only:
        show_diffusion(report.setdefault("diffusion", diffusion(bench)))
    if "training" in args.only:
        show_training(report.setdefault("training", training(bench)))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
