"""Everything around the training loop: features and neighbours, the networks, the run folder."""

import argparse
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models

from lra_diffusion import checkpoint, embeddings, encoders, report, sets, weights
from lra_diffusion.command_line import (
    UsageError,
    autocast,
    choose_device,
    configure_torch,
    use_bfloat16,
)
from lra_diffusion.data import stream_seed
from lra_diffusion.diffusion import betas, cumulative_alphas, ddim_times, reverse_steps
from lra_diffusion.ema import WeightAverage
from lra_diffusion.encoders import Encoder
from lra_diffusion.guide import Cached, Guide, OnTheFly
from lra_diffusion.model_file import Model
from lra_diffusion.networks import LargeResNet, NoisePredictor, SmallResNet
from lra_diffusion.options import run_name
from lra_diffusion.report import Row
from lra_diffusion.retrieval import Bank, majority_vote
from lra_diffusion.sets import Part, Sets
from lra_diffusion.train import (
    EvaluationSet,
    Learner,
    Settings,
    TrainingSet,
    epochs,
    evaluation_epochs,
)
from shared import datasets
from shared.formats.noise_file import NoiseFile

# Flags that decide every number of a run.
DECIDING_FLAGS = (
    "dataset",
    "nepoch",
    "batch_size",
    "warmup_epochs",
    "feature_dim",
    "k",
    "ddim_n_step",
    "diff_encoder",
    "width",
    "fp_queries",
    "bank_transform",
    "weighted",
    "exclude_self",
    "freeze_encoder",
    "batch_statistics",
    "ema_decay",
    "eval_weights",
    "lr",
    "lr_horizon",
    "select",
    "legacy",
    "seed",
    "limit_train",
    "limit_test",
)


@dataclass
class Experiment:
    """A run in progress."""

    args: argparse.Namespace
    name: str
    folder: Path
    device: torch.device
    sets: Sets
    settings: Settings
    train_set: TrainingSet
    test_sets: dict[str, EvaluationSet]  # the last one is the reported one
    learner: Learner
    identity: dict[str, Any]
    fixed: Row  # figures that do not change from epoch to epoch
    rows: list[Row]

    @property
    def next_epoch(self) -> int:
        return len(self.rows) + 1

    def epochs(self) -> Any:
        """Trains what is left, a row of figures an epoch."""
        for row in epochs(
            self.learner, self.train_set, self.test_sets, self.settings, self.next_epoch
        ):
            yield row | self.fixed

    def state_dict(self) -> dict[str, Any]:
        return {**self.learner.state_dict(), "rows": self.rows, "identity": self.identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise checkpoint.CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        checkpoint.refuse_other_run(state["identity"], self.identity)
        self.learner.load_state_dict(state)
        self.rows = list(state["rows"])


@dataclass
class Data:
    """Images with the features f_p of them. encoder: None where the user gave the features."""

    sets: Sets
    tests: dict[str, EvaluationSet]
    encoder: Encoder | None
    feature_source: str  # goes into the identity of a run
    bank: Tensor | None  # (N, D); None where nothing is trained


def device_of(args: argparse.Namespace) -> torch.device:
    """--device, else the first of --gpu_devices that is there, else what the machine has."""
    if args.gpu_devices is None or args.device != "auto":
        return choose_device(args.device)
    # DEVIATION(lra_diffusion): one process uses one GPU, the first of --gpu_devices that is there;
    # the original spreads each batch over all of them, which changes what batch normalisation sees.
    there = [number for number in args.gpu_devices if number < torch.cuda.device_count()]
    device = choose_device(f"cuda:{there[0]}" if there else "auto")
    if len(args.gpu_devices) > 1 or not there:
        print(f"note: --gpu_devices {' '.join(map(str, args.gpu_devices))}: running on {device}")
    return device


def load_data(
    args: argparse.Namespace, device: torch.device, training: bool, noise: NoiseFile | None = None
) -> Data:
    """Images, labels and features; nothing is computed before the labels and k have been checked.

    noise: labels to take instead of those that the flags name, of exactly the images to train on.
    """
    found = sets.load(args, device, noise)
    count = len(found.train.labels)
    available = count - bool(args.exclude_self)
    if training and args.k > available:
        raise UsageError(
            f"--k {args.k}: there are {available} images to retrieve from; give a smaller --k, "
            "or raise "
            "--limit_train"
        )
    if found.train.embeddings is not None:
        features = {name: part.embeddings for name, part in found.tests.items()}
        bank, encoder = found.train.embeddings, None
        hashes = [sets.hash_of(part.cpu().numpy()) for part in (bank, *features.values())]
        source = "embeddings " + " ".join(hashes)
    else:
        encoder = encoders.build(
            args.fp_encoder,
            dataset=found.name,
            normalisation=found.train.images.normalisation,
            image_side=found.image_side,
            device=device,
            clip_type=args.CLIP_type,
            weights=args.fp_weights,
            data_path=args.data_path,
        )
        features = {
            name: _features(args, found, name, part, encoder, device)
            for name, part in found.tests.items()
        }
        bank = _features(args, found, "train", found.train, encoder, device) if training else None
        source = encoder.identity
    tests = {
        name: EvaluationSet(part.images, torch.tensor(part.labels, device=device), features[name])
        for name, part in found.tests.items()
    }
    return Data(found, tests, encoder, source, bank)


def _features(
    args: argparse.Namespace,
    found: Sets,
    split: str,
    part: Part,
    encoder: Encoder,
    device: torch.device,
) -> Tensor:
    """Features of a part, from the cache or computed."""
    augmented = split == "train" and args.bank_transform == "train"
    seed = stream_seed(args.seed, 0, "bank") if augmented else None
    precision = "bfloat16" if use_bfloat16(args.amp, device) else "float32"
    key = {
        "dataset": found.name,
        "split": split,
        "images": part.sha256,
        "encoder": encoder.identity,
        "transform": f"train {seed}" if augmented else "test",
        "precision": precision,
    }
    folder = args.cache_dir or datasets.data_root(args.data_path) / "embeddings"
    autocast_here = autocast(args.amp, device)
    return embeddings.cached(
        folder,
        key,
        len(part.images),
        lambda: embeddings.embed(encoder, part.images, autocast_here, seed),
    ).to(device)


def prepare(args: argparse.Namespace) -> Experiment:
    """Reads and checks everything, computes features and neighbours, then builds the networks;
    writes only the cache.
    """
    device = device_of(args)
    refuse_to_overwrite(args)
    configure_torch(args.deterministic, device)
    data = load_data(args, device, training=True)
    found, settings = data.sets, make_settings(args, device)
    labels = torch.tensor(found.train.labels, device=device)
    bf16 = use_bfloat16(args.amp, device)
    bank = Bank(data.bank, bfloat16=bf16 and device.type == "cpu")
    guide: Guide
    if args.fp_queries == "cached":
        guide = Cached(data.bank, bank, labels, args.k, args.exclude_self)
    else:
        guide = OnTheFly(data.encoder, bank, labels, args.k, args.exclude_self, settings.autocast)
    clean = None if found.clean is None else torch.tensor(found.clean, device=device)
    train_set = TrainingSet(found.train.images, labels, clean, guide, _per_class(args, found))
    identity = (
        {name: getattr(args, name) for name in DECIDING_FLAGS}
        | {
            "bf16": bf16,
            "fp_encoder": data.feature_source,
            "encoder_weights": _weights_hash(args.encoder_weights),
        }
        | found.hashes
    )
    name = run_name(args)
    learner = build_learner(args, found.num_classes, data.bank.shape[1], device)
    fixed = {}
    for split, test_set in data.tests.items():
        votes = majority_vote(
            labels[bank.nearest(test_set.features, args.k).index], found.num_classes
        )
        fixed[f"knn_accuracy_{split}"] = 100 * (votes == test_set.labels).float().mean().item()
    return Experiment(
        args=args,
        name=name,
        folder=find_folder(args, name, identity),
        device=device,
        sets=found,
        settings=settings,
        train_set=train_set,
        test_sets=data.tests,
        learner=learner,
        identity=identity,
        fixed=fixed,
        rows=[],
    )


def _weights_hash(given: str | None) -> str | None:
    """What --encoder_weights comes to, wherever the file lies."""
    return given if given in (None, "none") else weights.sha256_of_file(Path(given))


def make_settings(args: argparse.Namespace, device: torch.device) -> Settings:
    alphas = cumulative_alphas(betas()).to(device)
    return Settings(
        batch_size=args.batch_size,
        nepoch=args.nepoch,
        lr=args.lr,
        warmup_epochs=args.warmup_epochs,
        lr_horizon=args.lr_horizon,
        weighted=args.weighted,
        drop_last=args.drop_last,
        train_encoder=not args.freeze_encoder,
        batch_statistics=args.batch_statistics,
        eval_weights=args.eval_weights,
        select=args.select,
        alphas=alphas,
        eval_epochs=evaluation_epochs(
            args.nepoch, args.eval_every, args.warmup_epochs, args.legacy
        ),
        steps=reverse_steps(alphas, ddim_times(args.ddim_n_step)),
        seed=args.seed,
        autocast=autocast(args.amp, device),
    )


def _per_class(args: argparse.Namespace, found: Sets) -> int | None:
    """Images of each class in an epoch, at most what the smallest class has."""
    if args.per_class is None:
        return None
    return min(
        args.per_class, int(np.bincount(found.train.labels, minlength=found.num_classes).min())
    )


def build_learner(
    args: argparse.Namespace, num_classes: int, feature_dim: int, device: torch.device
) -> Learner:
    """Predictor and diffusion encoder, drawn from --seed, their average and their optimizer."""
    torch.manual_seed(args.seed)
    encoder = diffusion_encoder(args).to(device=device, memory_format=torch.channels_last)
    predictor = NoisePredictor(num_classes, feature_dim, args.feature_dim).to(device)
    if args.freeze_encoder:
        encoder.requires_grad_(False)
    trained = [predictor] if args.freeze_encoder else [predictor, encoder]
    parameters = [parameter for net in trained for parameter in net.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=args.lr, fused=device.type != "mps")
    return Learner(predictor, encoder, WeightAverage(trained, args.ema_decay), optimizer)


def diffusion_encoder(args: argparse.Namespace) -> nn.Module:
    """A 32-pixel ResNet with random weights, or a 224-pixel one whose trunk starts from ImageNet's."""
    if not args.diff_encoder.endswith("_l"):
        return SmallResNet(args.diff_encoder, args.feature_dim, args.width)
    name = args.diff_encoder.removesuffix("_l")
    net = LargeResNet(name, args.feature_dim)
    if args.encoder_weights == "none":
        return net
    fix = (
        "Give a file of torchvision's weights with --encoder_weights FILE, or start from "
        "random ones with none"
    )
    if args.encoder_weights is not None:
        state = weights.read(Path(args.encoder_weights))
    else:
        published = models.get_model_weights(name)["IMAGENET1K_V1"]
        state = weights.downloaded(
            lambda: published.get_state_dict(check_hash=True, weights_only=True),
            f"--diff_encoder {args.diff_encoder}",
            fix,
        )
    weights.load_into(net, state, args.encoder_weights or name, fix, optional="myfc")
    return net


def check_model(model: Model, data: Data, path: Path) -> None:
    """Refuses a model of other classes, features or image size than those at hand."""
    if isinstance(model.encoder, SmallResNet) and data.sets.image_side != sets.SIDE:
        raise UsageError(
            f"{path} is for images of {sets.SIDE} pixels, {data.sets.name} has "
            f"{data.sets.image_side}: give "
            "another model"
        )
    dim = next(iter(data.tests.values())).features.shape[1]
    if model.predictor.feature_dim != dim:
        raise UsageError(
            f"{path} was trained with features of {model.predictor.feature_dim} numbers, those "
            f"here have {dim}: "
            "give the encoder it was trained with (--fp_encoder, --CLIP_type), or features of it"
        )
    if model.predictor.num_classes != data.sets.num_classes:
        raise UsageError(
            f"{path} knows {model.predictor.num_classes} classes, {data.sets.name} has "
            f"{data.sets.num_classes}: give another model"
        )


def refuse_to_overwrite(args: argparse.Namespace) -> None:
    if (
        args.output_dir is not None
        and not args.resume
        and (args.output_dir / checkpoint.LAST).exists()
    ):
        raise checkpoint.CheckpointError(
            f"{args.output_dir} holds a run already: add --resume to continue it, or choose "
            "another --output_dir"
        )


def find_folder(args: argparse.Namespace, name: str, identity: dict[str, Any]) -> Path:
    """The run folder: --output_dir, with --resume else the newest run of the same settings, else a
    new one.
    """
    if args.output_dir is not None:
        return args.output_dir
    if args.resume:
        for folder in sorted(Path("runs").glob(f"{name}_*"), reverse=True):
            config = report.read_config(folder)
            if config and config.get("identity") == identity:
                return folder
    return Path("runs") / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S.%f}"
