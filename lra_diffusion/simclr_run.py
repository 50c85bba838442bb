"""A run of SimCLR pre-training: flags, presets, the run folder, resuming, the encoder's file."""

import argparse
import hashlib
import io
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from tqdm import tqdm

from lra_diffusion import checkpoint, model_file, report, simclr
from lra_diffusion.command_line import (
    UsageError,
    add_flags,
    autocast,
    choose_device,
    configure_torch,
    use_bfloat16,
)
from lra_diffusion.data import DeviceImages, evenly, on_device, split
from lra_diffusion.encoder_networks import SimCLRNet
from lra_diffusion.knn import knn_accuracy
from lra_diffusion.networks import DEPTHS, state_on_cpu
from shared import datasets

KNN_EVERY = 10  # epochs
WEIGHT_DECAY = 1e-6
# The usual recipe for CIFAR; the authors of LRA-diffusion publish weights and not how they were
# made.
CIFAR: dict[str, Any] = {
    "nepoch": 500,
    "batch_size": 512,
    "lr": 1e-3,
    "temperature": 0.5,
    "arch": "resnet50",
    "width": 64,
    "hidden": 512,
}
PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "folder": CIFAR,
    # Found by trying: what two cores learn in less than a minute. Few images, so small batches for
    # enough steps.
    "digits": {
        **CIFAR,
        "nepoch": 12,
        "batch_size": 64,
        "temperature": 0.1,
        "arch": "resnet18",
        "width": 16,
        "hidden": 128,
    },
}
DECIDING_FLAGS = (
    "dataset",
    "nepoch",
    "batch_size",
    "lr",
    "temperature",
    "arch",
    "width",
    "hidden",
    "seed",
)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Flags of train_SimCLR.py; what is not given comes from the dataset's preset.

    Impossible values exit with status 2.
    """
    parser = argparse.ArgumentParser(
        prog="train_SimCLR.py",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Pre-train the SimCLR encoder f_p on a dataset's training images, without "
        "their labels.",
        epilog="example: python train_SimCLR.py --dataset digits    (writes "
        "model/SimCLR_128_digits.pt)",
    )
    add = parser.add_argument
    add("--dataset", choices=list(PRESETS), default="cifar10", help="what to train on (cifar10)")
    add("--nepoch", type=int, help="epochs (500; digits: 12)")
    add("--batch_size", type=int, help="images a step, each seen twice (512; digits: 64)")
    add(
        "--lr",
        type=float,
        help="first learning rate of Adam, which falls to 0 as half a cosine (0.001)",
    )
    add("--temperature", type=float, help="of the contrastive loss (0.5; digits: 0.1)")
    add("--arch", choices=list(DEPTHS), help="ResNet (resnet50; digits: resnet18)")
    add("--width", type=int, help="channels of its first stage (64, as published; digits: 16)")
    add_flags(
        parser,
        "--data_path",
        "--seed",
        "--limit_train",
        "--limit_test",
        "--device",
        "--amp",
        "--output_dir",
        "--resume",
        "--deterministic",
    )
    args = parser.parse_args(argv)
    for name, value in PRESETS[args.dataset].items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    for name, least in (
        ("nepoch", 1),
        ("batch_size", 2),
        ("width", 1),
        ("limit_train", 2),
        ("limit_test", 1),
    ):
        if getattr(args, name) is not None and getattr(args, name) < least:
            parser.error(f"--{name} {getattr(args, name)}: give {least} or more")
    for name in ("lr", "temperature"):
        if not 0 < getattr(args, name) < float("inf"):
            parser.error(f"--{name} {getattr(args, name)}: give a number above 0")
    return args


@dataclass
class Run:
    """A run in progress.

    bank: rows whose neighbours judge the features, with labels (N,); both also of the test images.
    """

    args: argparse.Namespace
    folder: Path
    images: DeviceImages
    bank: tuple[Tensor, Tensor]
    test_images: DeviceImages
    test_labels: Tensor
    net: SimCLRNet
    optimizer: torch.optim.Optimizer
    settings: simclr.Settings
    identity: dict[str, Any]
    rows: list[dict[str, Any]]

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": self.rows,
            "identity": self.identity,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise checkpoint.CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        checkpoint.refuse_other_run(state["identity"], self.identity)
        self.net.load_state_dict(state["net"])
        checkpoint.load_optimizer(self.optimizer, state["optimizer"])
        self.rows = list(state["rows"])

    def features(self) -> tuple[Tensor, Tensor]:
        """Of the bank (N, D) and of the test images (M, D)."""
        everyone = torch.arange(len(self.test_images), device=self.images.device)
        return (
            simclr.features(self.net, self.images, self.bank[0], self.settings.autocast),
            simclr.features(self.net, self.test_images, everyone, self.settings.autocast),
        )

    def knn_accuracy(self) -> float:
        bank, queries = self.features()
        return knn_accuracy(bank, self.bank[1], queries, self.test_labels)


def prepare(args: argparse.Namespace) -> Run:
    """Reads the data, builds the network, finds the run folder; nothing is written yet."""
    device = choose_device(args.device)
    if (
        args.output_dir is not None
        and not args.resume
        and (args.output_dir / checkpoint.LAST).exists()
    ):
        raise checkpoint.CheckpointError(
            f"{args.output_dir} holds a run already: add --resume to continue it, or choose "
            "another --output_dir"
        )
    configure_torch(args.deterministic, device)
    data = datasets.load(args.dataset, args.data_path)
    # DEVIATION(lra_diffusion): SimCLR weights can be made here, by the usual recipe on all training
    # images without their labels; the original only ships weights for CIFAR, made in an unknown
    # way.
    kept = evenly(len(data.train_images), args.limit_train)
    tested = evenly(len(data.test_images), args.limit_test)
    if len(kept) < args.batch_size:
        raise UsageError(
            f"--batch_size {args.batch_size} is more than the {len(kept)} training images: give "
            "less"
        )
    positions = np.flatnonzero(np.isin(kept, split(data)[0]))
    hashed = hashlib.sha256()
    for array in (data.train_images[kept], data.test_images[tested]):
        hashed.update(str(array.shape).encode() + array.tobytes())
    identity = {name: getattr(args, name) for name in DECIDING_FLAGS}
    identity |= {"bf16": use_bfloat16(args.amp, device), "data_sha256": hashed.hexdigest()}
    torch.manual_seed(args.seed)
    net = SimCLRNet(args.arch, args.width, args.hidden).to(
        device=device, memory_format=torch.channels_last
    )
    optimizer = torch.optim.Adam(
        net.parameters(), lr=args.lr, weight_decay=WEIGHT_DECAY, fused=device.type != "mps"
    )
    settings = simclr.Settings(
        args.batch_size,
        args.nepoch,
        args.lr,
        args.temperature,
        args.seed,
        autocast(args.amp, device),
    )
    return Run(
        args=args,
        folder=_folder(args, identity),
        images=on_device(data, data.train_images[kept], device),
        bank=(
            torch.tensor(positions, device=device),
            torch.tensor(data.train_labels[kept[positions]], device=device),
        ),
        test_images=on_device(data, data.test_images[tested], device),
        test_labels=torch.tensor(data.test_labels[tested], device=device),
        net=net,
        optimizer=optimizer,
        settings=settings,
        identity=identity,
        rows=[],
    )


def _folder(args: argparse.Namespace, identity: dict[str, Any]) -> Path:
    """--output_dir; with --resume else the newest run of the same settings, else a new folder in
    runs/.
    """
    if args.output_dir is not None:
        return args.output_dir
    if args.resume:
        for folder in sorted(Path("runs").glob("SimCLR_*"), reverse=True):
            config = report.read_config(folder)
            if config and config["identity"] == identity:
                return folder
    return (
        Path("runs")
        / f"SimCLR_{args.dataset}_{datetime.now().isoformat(timespec='microseconds').replace(':', '-')}"
    )


def places(run: Run) -> tuple[Path, Path]:
    """The encoder's file in the run folder, and where it is looked for, the same folder with
    --output_dir.
    """
    own = run.folder / f"SimCLR_128_{run.args.dataset}.pt"
    return own, own if run.args.output_dir else Path("model") / own.name


def start(args: argparse.Namespace) -> Run:
    """Builds or resumes a run, trains it, and writes the encoder's file."""
    run = prepare(args)
    if args.resume:
        checkpoint.resume(run, run.folder, run.images.device)
    run.folder.mkdir(parents=True, exist_ok=True)
    for unfinished in run.folder.glob(".*.tmp"):  # left by a kill in the middle of writing
        unfinished.unlink()
    report.write_config(run.folder, _config(run))
    _print_start(run)
    if not model_file.may_publish(*places(run)):
        print(
            f"note: {places(run)[1]} is of another run and stays; this run's encoder will be "
            f"{places(run)[0]}"
        )
    _train(run)
    own, published = places(run)
    buffer = io.BytesIO()
    torch.save(state_on_cpu(run.net), buffer)
    free = model_file.publish(own, published, buffer.getvalue())
    _print_end(run, published if free else own)
    return run


def _train(run: Run) -> None:
    augment = simclr.augmentation(
        run.args.dataset, run.images.pixels(torch.zeros(1, dtype=torch.int64)).shape[-1]
    )
    total, log = run.args.nepoch, report.Report(run.folder, run.rows)
    try:
        with tqdm(total=total, desc="epochs", initial=len(run.rows), disable=None) as bar:
            for epoch in range(len(run.rows) + 1, total + 1):
                row = _epoch(run, augment, epoch)
                log.log(row)
                checkpoint.save(run.state_dict(), run.folder / checkpoint.LAST)
                bar.update()
                shown = (
                    ""
                    if row["knn_accuracy"] is None
                    else f", KNN accuracy: {row['knn_accuracy']:.2f}%"
                )
                tqdm.write(
                    f"epoch: {epoch}/{total}, loss: {row['loss']:.4f}{shown}, "
                    f"{row['seconds']:.1f} s"
                )
    finally:
        log.close()


def _epoch(run: Run, augment: nn.Module, epoch: int) -> report.Row:
    begin = time.perf_counter()
    loss = simclr.train_epoch(run.net, run.optimizer, run.images, augment, run.settings, epoch)
    seconds = time.perf_counter() - begin
    judged = epoch % KNN_EVERY == 0 or epoch == run.args.nepoch
    return {
        "epoch": epoch,
        "lr": simclr.learning_rate(epoch, run.settings),
        "loss": loss,
        "knn_accuracy": run.knn_accuracy() if judged else None,
        "seconds": round(seconds, 3),
        "images_per_s": round(len(run.images) / seconds, 1),
    }


def _config(run: Run) -> dict[str, Any]:
    flags = {name: value for name, value in vars(run.args).items() if name != "resume"}
    return flags | {
        "device_used": str(run.images.device),
        "threads": torch.get_num_threads(),
        "identity": run.identity,
    }


def _print_start(run: Run) -> None:
    args = run.args
    print(
        f"SimCLR on {args.dataset}: {len(run.images)} training images without their labels; "
        "labels only judge the result"
    )
    shown = ("nepoch", "batch_size", "lr", "temperature", "width", "seed")
    print(
        f"settings: {args.arch}, " + ", ".join(f"{name} {getattr(args, name):g}" for name in shown)
    )
    if run.identity["dataset"] != "digits":
        print(
            "the usual recipe (Chen et al., 2020, on CIFAR); how the authors made their weights "
            "is not known"
        )
    print(
        f"{run.images.device}, {'bfloat16 autocast' if run.identity['bf16'] else 'float32'}; "
        f"run folder {run.folder}"
    )
    if run.rows:
        print(f"resumed: epoch {len(run.rows)} of {args.nepoch} is done")


def _print_end(run: Run, place: Path) -> None:
    (bank, queries), labels = run.features(), (run.bank[1], run.test_labels)
    nearest = knn_accuracy(bank, labels[0], queries, labels[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = simclr.linear_probe(
            *(part.cpu().numpy() for pair in zip((bank, queries), labels) for part in pair)
        )
    print(
        f"frozen features, clean labels: linear probe accuracy {probe:.2f} %, KNN accuracy "
        f"{nearest:.2f} % on "
        f"{len(queries)} test images"
    )
    print(f"encoder written to {place}")
