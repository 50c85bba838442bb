"""The parts of LRA-diffusion's benchmark about training: retrieval by itself, and whole steps."""

import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.method.guide import OnTheFly
from lra_diffusion.method.images import DeviceImages
from lra_diffusion.method.networks import WeightAverage
from lra_diffusion.method.ranks import ALONE, Ranks
from lra_diffusion.method.retrieval import Bank
from lra_diffusion.method.train import Learner, TrainingSet, train_epoch
from lra_diffusion.run.device import use_bfloat16
from lra_diffusion.run.experiment import build_learner
from lra_diffusion.run.labels import CIFAR_TRAIN_IMAGES
from lra_diffusion.run.schema import TrainConfig
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
from tests.bench.shares import shares_of, show

BATCH, K = 200, 10
# Of the retrieval: CIFAR's images, features as wide as those of CLIP ViT-B.
ROWS, WIDTH = (50_000, 512)
GPU_STEPS = 20  # training steps timed at once; on a CPU one


def retrieval(bench: Bench) -> Report:
    """To be run first of all: the peak of memory is the process's, not to be another part's."""
    features, k = bench.features(ROWS, WIDTH), K
    before = peak_memory(bench.device)
    fast = not bench.on_gpu and use_bfloat16("auto", bench.device)  # as experiment.build has it
    bank = Bank(features, bfloat16=fast)
    whole = bench.seconds(partial(bank.nearest, features, k))
    after = peak_memory(bench.device)
    del bank
    queries = features if bench.on_gpu else features[: bench.queries]
    rounded, exact = Bank(features, bfloat16=True), Bank(features)
    times = bench.take_turns(
        partial(rounded.nearest, queries, k), partial(exact.nearest, queries, k)
    )
    same = (
        (rounded.nearest(queries, k).index == exact.nearest(queries, k).index).float().mean().item()
    )
    scale = ROWS / len(queries)
    return {
        "all against all, s": whole,
        "candidates by bfloat16": fast,
        "memory before, GiB": before,
        "memory of the search, GiB": after - before,
        "queries timed": len(queries),
        "bfloat16 candidates, s": median(times[0]) * scale,
        "float32, s": median(times[1]) * scale,
        "float32 / bfloat16": ratio(times[1], times[0]),
        "noise, %": [noise(row) for row in times],
        "same neighbours, %": 100 * same,
    }


def peak_memory(device: torch.device) -> float:
    """GiB: of the GPU, or else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def show_retrieval(found: Report) -> None:
    how = "bfloat16 candidates" if found["candidates by bfloat16"] else "float32"
    print(
        f"retrieval, exact: the {K} nearest of {ROWS:,} x {WIDTH} random features, all against all"
    )
    print(
        f"  as trained ({how}): {found['all against all, s']:.1f} s, "
        f"{found['memory of the search, GiB']:.2f} GiB beyond the "
        f"{found['memory before, GiB']:.2f} before"
    )
    print(
        f"  {found['queries timed']:,} queries in turns, scaled: bfloat16 candidates "
        f"{found['bfloat16 candidates, s']:.1f} s, "
        f"float32 {found['float32, s']:.1f} s, ratio {found['float32 / bfloat16']:.2f}; same "
        "neighbours: "
        f"{found['same neighbours, %']:.4g} %\n"
    )


# ---- training


class Contiguous:
    """The views of other images, NCHW."""

    def __init__(self, images: DeviceImages) -> None:
        self._images, self.device = images, images.device

    def views(self, batches: Sequence[Tensor], seed: int, ranks: Ranks = ALONE) -> Iterator[Tensor]:
        return (view.contiguous() for view in self._images.views(batches, seed, ranks))


@dataclass
class Trainer:
    """One way to compute the same steps."""

    name: str
    learner: Learner
    train_set: TrainingSet
    config: TrainConfig
    encoder: Encoder
    bank: Bank

    def train(self, samples: Tensor) -> None:
        train_epoch(self.learner, self.train_set, samples, self.config, 1)

    def encode(self, images: Tensor) -> None:
        with self.learner.autocast():
            self.encoder(images)

    def search(self, queries: Tensor) -> None:
        self.bank.nearest(queries, K)

    def draw_views(self, samples: Tensor) -> None:
        for _ in self.train_set.images.views(samples.split(BATCH), 1):
            pass


def build_trainer(bench: Bench, images: DeviceImages, features: Tensor, plain: bool) -> Trainer:
    """As trained, or plain: float32 in NCHW."""
    config = config_of("off" if plain else "auto")
    learner = build_learner(config, CLASSES, SIMCLR_DIM, bench.device)
    encoder = build_encoder(bench, "SimCLR")
    if plain:
        for net in (learner.encoder, encoder.net):
            net.to(memory_format=torch.contiguous_format)
        learner.average = WeightAverage([learner.predictor, learner.encoder], config.ema_decay)
    bf16 = not bench.on_gpu and use_bfloat16(config.amp, bench.device)
    bank = Bank(features, bfloat16=bf16)
    labels = torch.arange(len(features), device=bench.device) % CLASSES
    guide = OnTheFly(encoder, bank, labels, K, False, learner.autocast)
    served = Contiguous(images) if plain else images
    name = "float32 NCHW" if plain else "as trained"
    return Trainer(name, learner, TrainingSet(served, labels, None, guide), config, encoder, bank)


def training(bench: Bench) -> Report:
    """Steps of CIFAR's default: SimCLR's features of each batch, searched in 45,000 x 2048,
    ResNet-34, batch 200.
    """
    steps = GPU_STEPS if bench.on_gpu else 1
    images = bench.images(steps * BATCH)
    features = nn.functional.normalize(bench.features(CIFAR_TRAIN_IMAGES, SIMCLR_DIM), dim=1)
    samples = torch.arange(steps * BATCH, device=bench.device)
    [batch] = images.plain([samples[:BATCH]])
    trainers = [build_trainer(bench, images, features, plain) for plain in (False, True)]
    whole = bench.take_turns(*(partial(trainer.train, samples) for trainer in trainers))
    report: Report = {"float32 NCHW / as trained": ratio(whole[1], whole[0])}
    if not bench.on_gpu:
        report["a training step, %"] = shares_of(partial(trainers[0].train, samples))
    for trainer, times in zip(trainers, whole):
        view = batch.contiguous() if trainer.name != "as trained" else batch
        encode, search, draw = bench.take_turns(
            partial(trainer.encode, view),
            partial(trainer.search, features[:BATCH]),
            partial(trainer.draw_views, samples),
        )
        step = median(times) / steps
        shares = {"f_p": median(encode), "retrieval": median(search), "data": median(draw) / steps}
        rest = step - sum(shares.values())
        report[trainer.name] = {
            "steps/s": 1 / step,
            "images/s": BATCH / step,
            "noise, %": noise(times),
            "shares, %": {name: 100 * part / step for name, part in shares.items()}
            | {"diffusion encoder, predictor": 100 * rest / step},
        }
    return report


def show_training(found: Report) -> None:
    print(
        f"training on CIFAR: SimCLR, {CIFAR_TRAIN_IMAGES:,} x {SIMCLR_DIM} features to search, "
        f"ResNet-34, batch {BATCH}; ratio "
        f"{found['float32 NCHW / as trained']:.2f}"
    )
    for name in ("as trained", "float32 NCHW"):
        one = found[name]
        shares = ", ".join(f"{part} {share:.1f} %" for part, share in one["shares, %"].items())
        print(
            f"  {name:<14}{one['steps/s']:.3g} steps/s, {one['images/s']:.4g} images/s (+- "
            f"{one['noise, %']:.1f} %): {shares}"
        )
    if of_step := found.get("a training step, %"):
        show("a training step, %", of_step)
    print()
