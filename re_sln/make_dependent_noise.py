"""Confidence-dependent noise, the paper's "dependent": wrong labels where a network is least sure.

Chen, Ye, Chen, Zhao, Heng, "Beyond class-conditional assumption", AAAI 2021: WRN-28-10 learns the
clean labels for 150 epochs; the softmax outputs on the training images, averaged over the epochs,
give each image its most probable wrong class; the images where that class is most probable get it
as their label (`shared.noise.confidence_dependent`). The teacher is in method/teacher.py.

    python make_dependent_noise.py --dataset_name cifar10 --p 0.4 --out dependent0.4.npz
    python train_cifar.py --dataset_name cifar10 --noise_file dependent0.4.npz --method sln_mo_lc
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln.run.checks import SEED_LIMIT
from re_sln.run.config import read_flags
from re_sln.run.errors import CheckpointError, UsageError, exit_status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shared.datasets.image_data import ImageData

# Depth, width, epochs.
TEACHER = {"cifar10": (28, 10, 150), "cifar100": (28, 10, 150), "digits": (10, 1, 10)}


@dataclass(frozen=True)
class Request:
    """Which noise to make, and by what teacher."""

    dataset_name: str
    p: float  # share of wrong labels
    out: Path
    seed: int
    n_epochs: int
    data_path: Path | None
    device: str
    amp: str

    @property
    def unfinished(self) -> Path:
        """The state after each epoch, until the noise is made."""
        return self.out.with_name(f"{self.out.name}.ckpt")

    @property
    def place_of_lock(self) -> Path:
        """A folder that one process at a time holds."""
        return self.out.with_name(f"{self.out.name}.lock")


def parse(argv: Sequence[str] | None) -> Request:
    parser = argparse.ArgumentParser(
        prog="make_dependent_noise.py",
        allow_abbrev=False,
        description="Make confidence-dependent label noise by a teacher trained on clean labels.",
        epilog="Example: python make_dependent_noise.py --dataset_name digits --p 0.4 --out "
        "noise.npz",
    )
    add = parser.add_argument
    add("--dataset_name", choices=tuple(TEACHER), required=True, help="whose training labels")
    add("--p", type=float, default=0.4, help="share of wrong labels in [0, 1] (0.4)")
    formats = ".npz .csv .pt .npy .json"
    add("--out", type=Path, required=True, help=f"noise file to write: {formats}")
    add("--seed", type=int, default=123, help="seed of the teacher (123)")
    add("--n_epochs", type=int, help="epochs of the teacher (150; digits: 10)")
    add("--data_path", type=Path, help="where the data are ($DATA_ROOT, else data/)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    amp = ("auto", "off", "bf16")
    add("--amp", choices=amp, default="auto", help="bfloat16 autocast (auto)")
    given = read_flags(parser, argv)
    if given["n_epochs"] is None:
        given["n_epochs"] = TEACHER[given["dataset_name"]][2]
    request = Request(**{name: value for name, value in given.items() if name != "config"})
    if not 0.0 <= request.p <= 1.0:
        parser.error(f"--p {request.p}: a noise rate lies in [0, 1]; 40 percent is --p 0.4")
    if not 0 <= request.seed < SEED_LIMIT:
        parser.error(f"--seed {request.seed}: must be between 0 and {SEED_LIMIT - 1}")
    if request.n_epochs < 1:
        parser.error(f"--n_epochs {request.n_epochs}: must be at least 1")
    return request


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a teacher that diverges; 130 Ctrl-C."""
    request = parse(argv)
    return exit_status(lambda: make_noise_once(request), trains=False)


def make_noise_once(request: Request) -> None:
    """Makes the file while no other process makes the same one."""
    from re_sln.run.launch import alone_only
    from shared.formats.external import format_of
    from shared.run_folder import locked

    alone_only("the teacher trains on one GPU")
    format_of(request.out)  # refused before the hours of training
    _refuse_present(request.out)
    try:
        with locked(request.place_of_lock, "--out"):
            try:
                _refuse_present(request.out)
                make_noise(request)
            finally:
                shutil.rmtree(request.place_of_lock, ignore_errors=True)
    except FloatingPointError as error:
        error.add_note("Try --amp off")
        raise


def _refuse_present(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists: choose another --out, or delete it")


def make_noise(request: Request) -> None:
    """Trains the teacher and writes the noise file."""
    from re_sln.run.places import first_found
    from shared import datasets
    from shared.formats.external import write_any
    from shared.formats.noise_file import WITHOUT_TRUE_CLASS, make
    from shared.noise import GENERATOR, confidence_dependent

    data = first_found(lambda root: datasets.load(request.dataset_name, root), request.data_path)
    noisy = confidence_dependent(data.train_labels, mean_probabilities(request, data), request.p)
    noise = make(
        noisy,
        clean_labels=data.train_labels,
        dataset=data.name,
        split="train",
        seed=request.seed,
        num_classes=data.num_classes,
        kind="confidence",
        convention=WITHOUT_TRUE_CLASS,
        nominal_rate=request.p,
        generator=GENERATOR,
    )
    write_any(request.out, noise)
    request.unfinished.unlink(missing_ok=True)
    rate = noise.header.measured_rate
    print(f"wrote {request.out}: {len(noisy):,} labels, measured rate {rate:.4f}")


def mean_probabilities(request: Request, data: "ImageData") -> "NDArray[np.float64]":
    """Softmax outputs (N, C) of the teacher on the training images, averaged over its epochs.

    The state after each epoch is kept; re-running the command resumes it.
    """
    import torch
    from tqdm import tqdm

    from re_sln.method.images import server_of
    from re_sln.method.networks import WideResNet
    from re_sln.method.teacher import Teacher, epochs
    from re_sln.run import checkpoint
    from re_sln.run.device import autocast, choose_device, use_bfloat16
    from re_sln.run.experiment import on_device
    from shared.formats.noise_file import label_hash

    depth, width, _ = TEACHER[request.dataset_name]
    device = choose_device(request.device)
    torch.manual_seed(request.seed)
    net = on_device(WideResNet(data.num_classes, depth, width), device)
    labels = torch.tensor(data.train_labels, device=device)
    teacher = Teacher(net, torch.zeros(len(labels), data.num_classes, dtype=torch.float64))
    known = {
        "dataset": data.name,
        "seed": request.seed,
        "epochs": request.n_epochs,
        "bf16": use_bfloat16(request.amp, device),
        "labels": label_hash(data.train_labels),
    }
    if request.unfinished.exists():
        state = checkpoint.load(request.unfinished, device)
        try:
            checkpoint.refuse_other_run(state["known"], known)
        except CheckpointError as error:
            what = f"{request.unfinished} (delete it to start again)"
            message = str(error).replace("the checkpoint", what).replace("--output_dir", "--out")
            raise UsageError(message) from error
        net.load_state_dict(state["net"])
        teacher.total, teacher.epoch = state["total"].cpu(), state["epoch"]
    images, n_epochs = server_of(data, device)(data.train_images), request.n_epochs
    low_precision = autocast(request.amp, device)
    training = epochs(teacher, images, labels, n_epochs, request.seed, low_precision)
    for _ in tqdm(training, "teacher", initial=teacher.epoch, total=n_epochs, disable=None):
        state = {"known": known, "net": net.state_dict(), "total": teacher.total}
        checkpoint.save({**state, "epoch": teacher.epoch}, request.unfinished)
    return (teacher.total / n_epochs).numpy()


if __name__ == "__main__":
    sys.exit(main())
