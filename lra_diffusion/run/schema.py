"""The configurations of LRA-diffusion and its baseline: each field's type, meaning and flag.

`run.config` parses, fills and checks them; a field without a default is filled from the preset of
the dataset (`run.presets`), a field without a flag from nothing else.
"""
# ruff: noqa: RUF009  # `flag` returns a field

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_diffusion.method.settings import Settings
from shared.datasets.folders import to_get

from .fields import ENCODER, PUBLISHED, flag
from .presets import HUMAN, IN_MEMORY

ON_OFF: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
CLIP_ACTIVATIONS = ("quickgelu", "gelu")
CLIP_TYPES = ("ViT-B/32", "ViT-B/16", "ViT-L/14")
NETWORKS = ("resnet18", "resnet34", "resnet50")
DIFFUSION_ENCODERS = (*NETWORKS, *(f"{name}_l" for name in NETWORKS))


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Where the data are, how many of them, where to compute, where to write."""

    data_path: Path | None = flag(
        "--data_path",
        default=None,
        help="where the data are ($DATA_ROOT, else data/ in the repository's root)",
    )
    labels: Path | None = flag(
        "--labels",
        default=None,
        metavar="FILE.csv",
        help="of your own pictures: a table filename,label (names or numbers), for pictures that "
        "do not lie in a folder for each class",
    )
    skip_broken: bool = flag(
        "--skip_broken",
        default=False,
        help="leave out pictures on disk that cannot be read, instead of stopping; they are named",
    )
    cache_dir: Path | None = flag(
        "--cache_dir",
        default=None,
        help="folder for features of f_p (embeddings/ below the data), and for your own pictures "
        "at 32 pixels, so that they are decoded once",
    )
    seed: int = flag("--seed", default=123, help="seed of everything ({})")
    limit_train: int | None = flag(
        "--limit_train",
        default=None,
        help="train on that many images, evenly spread over the set",
    )
    limit_test: int | None = flag(
        "--limit_test",
        default=None,
        help="validate and test on that many images, evenly spread over the sets",
    )
    device: str = flag("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ({})")
    amp: str = flag(
        "--amp",
        choices=("auto", "off", "bf16"),
        default="auto",
        help="bfloat16 autocast of the image encoders; auto: where the hardware has it",
    )
    output_dir: Path | None = flag("--output_dir", default=None, help="the run folder")
    deterministic: bool = flag(
        "--deterministic", default=False, help="only deterministic kernels (slower on a GPU)"
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig(CommonConfig):
    """A run that can be resumed."""

    resume: bool = flag(
        "--resume",
        default=False,
        help="continue the run in --output_dir, or the newest one with these settings",
    )


@dataclass(frozen=True, kw_only=True)
class LabelConfig(RunConfig):
    """Which images, and which noisy labels of them."""

    noise_type: str | None = flag(
        "--noise_type",
        group=PUBLISHED,
        default=None,
        help="noisy labels by the name of their file in noise_label/, without its ending; what is "
        "in front of the first - names the dataset (cifar10-1-0.35); with --dataset cifar10n "
        "worse (the default), aggre, random1, random2 or random3",
    )
    dataset: str = flag(
        "--dataset",
        choices=(*IN_MEMORY, *HUMAN),
        help="what to train on, if neither --noise_type nor the header of --noise_file says it; "
        "folder: your own pictures or .npz; cifar10n, cifar100n: with the labels that people gave",
    )
    noise_dir: Path | None = flag(
        "--noise_dir",
        default=None,
        help="folder of --noise_type's files (noise_label/ here, beside the scripts, or what "
        f"`{to_get('pmd-noise')}` fetched)",
    )
    noise_file: str | None = flag(
        "--noise_file",
        default=None,
        help="noisy labels from a file of any project: .npz .npy .pt .csv .json; FILE:COLUMN "
        "chooses one of several",
    )
    cut_labels: bool = flag(
        "--cut_labels",
        default=False,
        help="the label file covers the whole training set: take the labels of the images that "
        "are trained on (the first 45,000 of CIFAR); corrected labels may cover a part of them",
    )
    no_validation: bool = flag(
        "--no_validation",
        default=False,
        help="train on all training images, none held out; the last epoch counts",
    )
    val_fraction: float | None = flag(
        "--val_fraction",
        default=None,
        metavar="F",
        help="of your own pictures: test on this share of the training ones, held out by --seed, "
        "where there is no test/; with the labels that came with them",
    )
    width: int = flag("--width", help="channels of the first stage of a 32-pixel network ({})")
    sync_bn: bool = flag(
        "--sync_bn",
        default=False,
        help="with several GPUs: batch normalisation over the whole batch instead of the part of "
        "each GPU",
    )
    wandb: bool = flag(
        "--wandb",
        default=False,
        help="log to Weights & Biases; offline unless WANDB_MODE says otherwise",
    )
    export: Path | None = flag(
        "--export",
        default=None,
        metavar="RUN",
        help="write label_quality.csv and corrected_labels.npz of a run folder again, and stop; "
        "takes all settings from the run but where things are, and --save_probs",
    )
    save_probs: bool = flag(
        "--save_probs",
        default=False,
        help="write pred_probs.npz too: class probabilities of the training and the test images",
    )

    @property
    def on_disk(self) -> bool:
        """Are the images decoded at 224 pixels, batch by batch?"""
        return False


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LabelConfig, Settings):
    """LRA-diffusion: the loop's hyper-parameters (method/settings.py) and all around it."""

    script: str  # its name without .py
    nepoch: int = flag("--nepoch", group=PUBLISHED, help="epochs, counted from 1 ({})")
    batch_size: int = flag("--batch_size", group=PUBLISHED, help="images a step ({})")
    num_workers: int = flag(
        "--num_workers",
        group=PUBLISHED,
        help="processes that decode images, unless they are in memory, as train_CIFAR.py's ({})",
    )
    warmup_epochs: int = flag(
        "--warmup_epochs",
        group=PUBLISHED,
        help="epochs in which the learning rate rises to --lr; then it falls to 0 as half a "
        "cosine ({})",
    )
    feature_dim: int = flag(
        "--feature_dim",
        group=PUBLISHED,
        help="F, width of the diffusion encoder's output and of the predictor ({})",
    )
    k: int = flag("--k", group=PUBLISHED, help="neighbours whose labels are drawn from ({})")
    ddim_n_step: int = flag(
        "--ddim_n_step", group=PUBLISHED, default=10, help="S, steps of the reverse diffusion ({})"
    )
    diff_encoder: str = flag(
        "--diff_encoder",
        group=PUBLISHED,
        choices=DIFFUSION_ENCODERS,
        help="diffusion encoder, _l: for 224-pixel images ({})",
    )
    gpu_devices: tuple[int, ...] | None = flag(
        "--gpu_devices",
        group=PUBLISHED,
        default=None,
        metavar="GPU",
        help="GPUs to train on, each by a process of its own and with its part of every batch, as "
        "`torchrun --nproc_per_node=4` starts them (the first)",
    )
    fp_encoder: str = flag(
        "--fp_encoder",
        group=ENCODER,
        help="SimCLR, CLIP, CC, or any image network of torchvision or timm by name ({})",
    )
    CLIP_type: str = flag(
        "--CLIP_type",
        group=ENCODER,
        choices=CLIP_TYPES,
        default="ViT-L/14",
        help="which CLIP ({})",
    )
    CLIP_activation: str | None = flag(
        "--CLIP_activation",
        group=ENCODER,
        choices=CLIP_ACTIVATIONS,
        default=None,
        help="what CLIP's weights were trained with, where neither they nor the config.json beside "
        "them say it: quickgelu (OpenAI's, MetaCLIP's), gelu (LAION's, DataComp's)",
    )
    fp_weights: Path | None = flag(
        "--fp_weights",
        "--clip_weights",
        group=ENCODER,
        default=None,
        help="the encoder's weights, a file or a folder with it (model/ here, beside the scripts, "
        "or below the data; CLIP's and torchvision's are downloaded)",
    )
    fp_embed_train: Path | None = flag(
        "--fp_embed_train",
        group=ENCODER,
        default=None,
        metavar="NPY",
        help="features (N, D) of all training images, computed elsewhere, instead of an encoder",
    )
    fp_embed_test: Path | None = flag(
        "--fp_embed_test",
        group=ENCODER,
        default=None,
        metavar="NPY",
        help="features (M, D) of the test images, if there are any, with --fp_embed_train",
    )
    eval_only: Path | None = flag(
        "--eval_only",
        default=None,
        metavar="MODEL",
        help="test this model, ours or a published one, and stop",
    )
    weighted: bool = flag(
        "--weighted",
        help="a drawn label weighs as often as it is among the candidates ({})",
        **ON_OFF,
    )
    exclude_self: bool = flag(
        "--exclude_self",
        help="retrieve other images only, so that an image's own label counts once ({})",
        **ON_OFF,
    )
    fp_queries: str = flag(
        "--fp_queries",
        choices=("augmented", "cached"),
        help="retrieve for the augmented image, or, once and for all, for the image itself "
        "({}; with CLIP on CIFAR cached)",
    )
    bank_transform: str = flag(
        "--bank_transform",
        choices=("test", "train"),
        help="compute the features to retrieve from on the images themselves, or on one random "
        "augmentation (test)",
    )
    freeze_encoder: bool = flag(
        "--freeze_encoder", help="leave the diffusion encoder at its first weights"
    )
    ema_decay: float = flag("--ema_decay", help="decay of the EMA of the weights ({})")
    eval_weights: str = flag(
        "--eval_weights",
        choices=("best", "raw", "ema"),
        help="which weights count: the network's, their EMA, or whichever is better on the "
        "validation images, raw if there are none (best)",
    )
    lr_horizon: int = flag("--lr_horizon", help="epochs of the learning rate's cosine (nepoch)")
    select: str = flag(
        "--select",
        choices=("val", "test"),
        help="images whose accuracy chooses the best epoch (val)",
    )
    legacy: bool = flag(
        "--legacy",
        default=False,
        help="train and test as the published code does: see NOTES.md",
    )
    lr: float = flag("--lr", help="peak learning rate of Adam ({})")
    encoder_weights: str | None = flag(
        "--encoder_weights",
        "--pretrained",
        default=None,
        help="first weights of an _l encoder: imagenet (torchvision's, downloaded; the default), a "
        "file of such weights, or none",
    )
    per_class: int | None  # images of each class in an epoch; None: all

    @property
    def on_disk(self) -> bool:
        return self.script != "train_CIFAR"


@dataclass(frozen=True, kw_only=True)
class CEConfig(LabelConfig):
    """Plain cross-entropy with the network, batches and epochs of the diffusion encoder."""

    script: str = "train_CE"
    nepoch: int = flag("--nepoch", group=PUBLISHED, help="epochs, counted from 1 ({})")
    batch_size: int = flag("--batch_size", group=PUBLISHED, help="images a step ({})")
    diff_encoder: str = flag(
        "--diff_encoder", group=PUBLISHED, choices=NETWORKS, help="the network ({})"
    )
    lr: float = flag("--lr", default=0.1, help="learning rate of the first epoch ({})")
