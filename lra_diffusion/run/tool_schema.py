"""The configurations of the scripts beside training: SimCLR, PMD noise, the k-NN test.

See `run.schema`.
"""
# ruff: noqa: RUF009  # `flag` returns a field

from dataclasses import dataclass
from pathlib import Path

from .fields import PUBLISHED, flag
from .presets import IN_MEMORY, SIMCLR
from .schema import CLIP_ACTIVATIONS, CLIP_TYPES, NETWORKS, CommonConfig, RunConfig

# DEVIATION(lra_diffusion): --network of PLC's generator chooses the teacher; the original ignores
# it. What it calls preact_resnet34 is a ResNet-34 with activations after the additions, and so it
# is here.
TEACHER_NETWORKS = {"preact_resnet34": "resnet34", **{name: name for name in NETWORKS}}


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(RunConfig):
    """SimCLR pre-training."""

    dataset: str = flag(
        "--dataset", choices=tuple(SIMCLR), default="cifar10", help="what to train on ({})"
    )
    nepoch: int = flag("--nepoch", help="epochs ({})")
    batch_size: int = flag("--batch_size", help="images a step, each seen twice ({})")
    lr: float = flag(
        "--lr", help="first learning rate of Adam, which falls to 0 as half a cosine ({})"
    )
    temperature: float = flag("--temperature", help="of the contrastive loss ({})")
    arch: str = flag("--arch", choices=NETWORKS, help="ResNet ({})")
    width: int = flag("--width", help="channels of its first stage ({})")
    hidden: int  # width of the projection head's hidden layer


@dataclass(frozen=True, kw_only=True)
class PMDConfig(RunConfig):
    """PMD noise and its teacher."""

    noise_factor: float | None = flag(
        "--noise_factor",
        group=PUBLISHED,
        default=None,
        help="divides the probability of the likeliest class; more is noisier (1.2)",
    )
    noise_type: int = flag(
        "--noise_type", group=PUBLISHED, choices=(1, 2, 3), default=1, help="type I, II or III (1)"
    )
    dataset: str = flag(
        "--dataset",
        group=PUBLISHED,
        choices=IN_MEMORY,
        default="cifar10",
        help="whose training labels ({})",
    )
    network: str = flag(
        "--network",
        group=PUBLISHED,
        choices=tuple(TEACHER_NETWORKS),
        help="the teacher; preact_resnet34 is another name of resnet34 ({})",
    )
    gpus: str | None = flag(
        "--gpus",
        group=PUBLISHED,
        default=None,
        metavar="NUMBER",
        help="the GPU, as PLC names it; the same as --device cuda:NUMBER",
    )
    epochs: int = flag(
        "--epochs",
        group=PUBLISHED,
        help="epochs of the teacher; after fewer it hesitates more ({})",
    )
    rate: float | None = flag(
        "--rate",
        default=None,
        help="share of wrong labels to reach, by bisection; instead of --noise_factor",
    )
    uniform: float | None = flag(
        "--uniform",
        default=None,
        metavar="RATE",
        help="further uniform noise on top, as in _U_ files",
    )
    asymmetric: float | None = flag(
        "--asymmetric",
        default=None,
        metavar="RATE",
        help="further asymmetric noise on top, as in _A_ files, instead of --uniform",
    )
    on_top_seed: int = flag(
        "--on_top_seed", default=77, help="seed of the noise on top ({}, as published)"
    )
    eta: Path | None = flag(
        "--eta",
        default=None,
        metavar="FILE.npy",
        help="class probabilities (N, C) of the training images; trains nothing",
    )
    lr: float = flag("--lr", help="learning rate of the teacher, constant ({})")
    out: Path | None = flag(
        "--out",
        default=None,
        metavar="FILE",
        help="the one label file to write; .npz keeps what made the labels",
    )
    width: int  # channels of the teacher's first stage


@dataclass(frozen=True, kw_only=True)
class KNNConfig(CommonConfig):
    """How good a feature space is."""

    batch_size: int = flag(
        "--batch_size",
        group=PUBLISHED,
        default=100,
        help="images encoded at once ({}); changes nothing but the speed",
    )
    num_workers: int = flag(
        "--num_workers",
        group=PUBLISHED,
        default=4,
        help="ignored: the images are in memory (as in the original)",
    )
    k: int = flag("--k", group=PUBLISHED, default=10, help="neighbours ({})")
    data: str = flag(
        "--data", group=PUBLISHED, choices=IN_MEMORY, default="cifar10", help="dataset ({})"
    )
    fp_encoder: str = flag(
        "--fp_encoder",
        group=PUBLISHED,
        default="SimCLR",
        help="SimCLR, CLIP, or the name of a torchvision or timm model ({})",
    )
    CLIP_type: str = flag(
        "--CLIP_type", choices=CLIP_TYPES, default="ViT-L/14", help="of --fp_encoder CLIP ({})"
    )
    CLIP_activation: str | None = flag(
        "--CLIP_activation",
        choices=CLIP_ACTIVATIONS,
        default=None,
        help="what CLIP's weights were trained with, where they do not say it",
    )
    fp_weights: Path | None = flag(
        "--fp_weights",
        "--clip_weights",
        default=None,
        help="the encoder's weights, a file or a folder",
    )
