"""Everything around the training loop: data and noise onto the device, the networks, the run
folder, the final files.
"""

import argparse
import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import nn

from re_sln import checkpoint, report
from re_sln.data import evenly, load_images, server_of
from re_sln.ema import MomentumModel
from re_sln.losses import one_hot
from re_sln.networks import WideResNet, resnet50
from re_sln.noisy_labels import is_noisy, noisy_training_set, subset
from re_sln.options import UsageError, autocast, choose_device, data_path, use_bfloat16
from re_sln.train import EvaluationSet, Learner, Row, Settings, TrainingSet, epochs
from shared import datasets
from shared.datasets import animal10n
from shared.formats.noise_file import NoiseFile, label_hash

# Flags that decide every number of a run; n_epochs is missing on purpose, a finished run may be
# prolonged.
DECIDING_FLAGS = (
    "dataset_name",
    "noise_mode",
    "p",
    "custom_noise",
    "sigma",
    "mo",
    "lc_n_epoch",
    "lc_form",
    "lc_images",
    "seed",
    "batch_size",
    "lr",
    "ema_decay",
    "depth",
    "width",
)


@dataclass
class Experiment:
    """A run in progress."""

    args: argparse.Namespace
    exp_id: str
    folder: Path
    device: torch.device
    settings: Settings
    train_set: TrainingSet
    test_sets: dict[str, EvaluationSet]  # the last one is the reported one
    noise: (
        NoiseFile | None
    )  # of the N training samples; None: Clothing1M, whose list of files is not kept twice
    learner: Learner
    identity: dict[str, Any]
    data_location: Path | None  # None: embedded
    rows: list[Row]

    @property
    def next_epoch(self) -> int:
        return len(self.rows) + 1

    @property
    def selects_by(self) -> str:
        """The figure whose best epoch is kept; Clothing1M has a clean validation set for that."""
        return "accuracy_val_ema" if self.args.dataset_name == "clothing1m" else "accuracy"

    def epochs(self) -> Any:
        """Trains what is left, a row of figures an epoch."""
        return epochs(self.learner, self.train_set, self.test_sets, self.settings, self.next_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {**self.learner.state_dict(), "rows": self.rows, "identity": self.identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise checkpoint.CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        checkpoint.refuse_other_run(state["identity"], self.identity)
        if len(state["rows"]) > self.args.n_epochs:
            raise checkpoint.CheckpointError(
                f"the run has done {len(state['rows'])} epochs already: --n_epochs "
                f"{self.args.n_epochs} cannot shorten it"
            )
        self.learner.load_state_dict(state)
        self.rows = list(state["rows"])


def prepare(args: argparse.Namespace) -> Experiment:
    """Reads and checks everything, then builds the networks; nothing is written but the custom
    noise that is asked for.
    """
    device = choose_device(args.device)
    refuse_to_overwrite(args)
    _configure_torch(args, device)
    if args.dataset_name == "clothing1m":
        from re_sln.disk_images import clothing1m_sets

        train_set, test_sets, location, hashes = clothing1m_sets(args, device)
        noise = None
    else:
        data = load_data(args)
        location = data.location
        train_set, test_sets, noise, hashes = _sets(args, data, device)
    settings = Settings(
        batch_size=args.batch_size,
        n_epochs=args.n_epochs,
        learning_rate=partial(learning_rate, args.dataset_name, args.lr),
        sigma=args.sigma,
        mo=args.mo,
        lc_n_epoch=args.lc_n_epoch,
        seed=args.seed,
        autocast=autocast(args.amp, device),
        plain_scoring=args.lc_images == "plain",
        recursive=args.lc_form == "recursive",
        soft_predictions=args.dataset_name == "clothing1m",
    )
    identity = (
        {name: getattr(args, name) for name in DECIDING_FLAGS}
        | {"bf16": use_bfloat16(args.amp, device)}
        | hashes
    )
    folder, exp_id = find_folder(args, identity)
    return Experiment(
        args=args,
        exp_id=exp_id,
        folder=folder,
        device=device,
        settings=settings,
        train_set=train_set,
        test_sets=test_sets,
        noise=noise,
        learner=build_learner(args, train_set.given.shape[1], device),
        identity=identity,
        data_location=location,
        rows=[],
    )


def _sets(
    args: argparse.Namespace, data: datasets.ImageData, device: torch.device
) -> tuple[TrainingSet, dict[str, EvaluationSet], NoiseFile, dict[str, str]]:
    """The training set, the test set (for tune.py: held-out training samples) and hashes of what is
    in them.
    """
    noise, train_images = noisy_training_set(args, data)
    noise = subset(noise, evenly(len(noise.noisy_labels), args.limit_train))
    on_device = server_of(data, device)
    if hasattr(args, "val_size"):
        kept, held_out = split_off(noise.noisy_labels, args.val_size, args.seed)
        rows, val = (
            noise.indices[held_out],
            torch.tensor(noise.noisy_labels[held_out], device=device),
        )
        test_sets = {
            "val": EvaluationSet(on_device(train_images[rows]), val, augmented=args.augment_val)
        }
        tested = (train_images[rows], noise.noisy_labels[held_out])
        noise = subset(noise, kept)
    else:
        rows = evenly(len(data.test_labels), args.limit_test)
        tested = (data.test_images[rows], data.test_labels[rows])
        test_sets = {
            "test": EvaluationSet(on_device(tested[0]), torch.tensor(tested[1], device=device))
        }
    images = train_images[noise.indices]
    given = one_hot(torch.tensor(noise.noisy_labels, device=device), data.num_classes)
    wrong = is_noisy(noise)
    train_set = TrainingSet(
        on_device(images), given, None if wrong is None else torch.tensor(wrong, device=device)
    )
    hashes = {
        "data_sha256": hash_of(images, *tested),
        "noisy_labels_sha256": label_hash(noise.noisy_labels),
    }
    return train_set, test_sets, noise, hashes


def load_data(args: argparse.Namespace) -> datasets.ImageData:
    """The images of every dataset but Clothing1M; Animal-10N's lists of files are written as the
    original does.
    """
    data = load_images(args.dataset_name, data_path(args))
    if args.dataset_name == "animal-10n":
        assert data.location is not None
        try:
            animal10n.write_annotations(data.location)
        except OSError as error:
            print(f"note: no training.csv and testing.csv in {data.location} ({error.strerror})")
    return data


def split_off(
    labels: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions kept for training and positions held out, both ascending, stratified by the labels
    (N,).
    """
    try:
        kept, held_out = train_test_split(
            np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise UsageError(
            f"--val_size {share} of {len(labels)} samples does not work: {error}"
        ) from error
    return np.sort(kept), np.sort(held_out)


def build_learner(args: argparse.Namespace, num_classes: int, device: torch.device) -> Learner:
    """Network, momentum model and optimizer; as in the original, two networks are drawn and the
    second one is taken.
    """
    torch.manual_seed(args.seed)
    net, average = (_network(args, num_classes, device) for _ in range(2))
    momentum_model = MomentumModel(net, average, args.ema_decay)
    weight_decay = 1e-3 if args.dataset_name == "clothing1m" else 5e-4
    fused = device.type != "mps"
    optimizer = torch.optim.SGD(
        net.parameters(), lr=args.lr, momentum=0.9, weight_decay=weight_decay, fused=fused
    )
    if args.compile:
        net.compile()
    return Learner(net, momentum_model, optimizer)


def _network(args: argparse.Namespace, num_classes: int, device: torch.device) -> nn.Module:
    if args.dataset_name == "clothing1m":
        net = resnet50(num_classes, args.pretrained)
    else:
        net = WideResNet(num_classes, args.depth, args.width)
    return net.to(device=device, memory_format=torch.channels_last)


def learning_rate(dataset_name: str, lr: float, epoch: int) -> float:
    """Constant; for Clothing1M a tenth after epoch 5, as the authors have it."""
    return lr / 10 if dataset_name == "clothing1m" and epoch > 5 else lr


def _configure_torch(args: argparse.Namespace, device: torch.device) -> None:
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def hash_of(*arrays: NDArray[Any]) -> str:
    """SHA-256 of the arrays with their shapes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


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


def find_folder(args: argparse.Namespace, identity: dict[str, Any]) -> tuple[Path, str]:
    """The run folder and the id: --output_dir, with --resume else the newest run of the same
    settings, else a new one.
    """
    if args.resume:
        known = (
            [args.output_dir]
            if args.output_dir
            else sorted(Path("runs").glob("exp_*"), reverse=True)
        )
        for folder in known:
            config = report.read_config(folder)
            if config and args.output_dir and "trials" in config:
                raise checkpoint.CheckpointError(
                    f"{folder} holds a search of tune.py: choose another --output_dir"
                )
            if config and (args.output_dir or config.get("identity") == identity):
                return folder, config["exp_id"]
    # DEVIATION(re_sln): the time in an id always has six digits after the point; the original
    # leaves out zeros.
    exp_id = f"exp_{datetime.now().isoformat(sep=' ', timespec='microseconds')}"
    return args.output_dir or Path("runs") / exp_id, exp_id
