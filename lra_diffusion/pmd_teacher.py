"""The teacher of PMD noise: a classifier trained on clean labels, whose outputs of the last epoch
are kept.

Zhang et al. (PLC), ICLR 2021. eta: (N, C) float32, the softmax output for each of the N training
images, in train mode, on the augmented image, just before its batch's update.
"""

import argparse
import hashlib
import io
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lra_diffusion import checkpoint, classifier
from lra_diffusion.command_line import UsageError, autocast, use_bfloat16
from lra_diffusion.data import evenly, on_device, split
from shared.datasets.image_data import ImageData
from shared.files import write_atomically
from shared.formats import safe_arrays
from shared.formats.noise_file import label_hash
from shared.noise.pmd import checked_posteriors

BATCH_SIZE = 128


@dataclass(frozen=True)
class Teacher:
    """A network for 32 x 32 images and how it is trained."""

    network: str
    width: int
    lr: float
    epochs: int


PUBLISHED = Teacher("resnet34", 64, 1e-3, 25)
PRESETS = {
    "digits": Teacher("resnet18", 16, 5e-3, 5)
}  # stops while it still hesitates, as the published one does
# DEVIATION(lra_diffusion): --network of PLC's generator chooses the teacher; the original ignores
# it. What it calls preact_resnet34 is a ResNet-34 with activations after the additions, and so it
# is here.
NETWORKS = {
    "preact_resnet34": "resnet34",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
}


def chosen(args: argparse.Namespace) -> Teacher:
    """The teacher of --dataset with what --network, --lr and --epochs change."""
    preset = PRESETS.get(args.dataset, PUBLISHED)
    network = NETWORKS[args.network] if args.network else preset.network
    return Teacher(network, preset.width, args.lr or preset.lr, args.epochs or preset.epochs)


def name_of(args: argparse.Namespace) -> str:
    """Names the teacher's files by whatever may differ between two, so that none takes another's."""
    teacher, preset = chosen(args), PRESETS.get(args.dataset, PUBLISHED)
    words = [args.dataset, f"{teacher.epochs}ep", f"seed{args.seed}"]
    words += [teacher.network] * (teacher.network != preset.network) + [f"lr{teacher.lr:g}"] * (
        teacher.lr != preset.lr
    )
    return "_".join(words + ([f"n{args.limit_train}"] if args.limit_train else []))


def training_part(data: ImageData, limit: int | None) -> tuple[ImageData, NDArray[np.int64]]:
    """The N images that training uses, as a dataset of their own, and their rows in the whole one,
    (N,).
    """
    rows, _ = split(data)
    rows = rows[evenly(len(rows), limit)]
    return replace(
        data, train_images=data.train_images[rows], train_labels=data.train_labels[rows]
    ), rows


def posteriors(
    args: argparse.Namespace, part: ImageData, device: torch.device
) -> NDArray[np.float32]:
    """eta (N, C) of a teacher trained here, also written to `eta_<name>.npy` in --output_dir.

    The state after each epoch is in `teacher_<name>.ckpt` beside it; a finished teacher is not
    trained again.
    """
    kept = args.output_dir / f"teacher_{name_of(args)}.ckpt"
    eta = _trained(args, part, device, kept)
    file = args.output_dir / f"eta_{name_of(args)}.npy"
    stream = io.BytesIO()
    np.save(stream, eta)
    write_atomically(file, stream.getvalue())
    print(f"eta: {file}; with --eta it gives other types and rates without training")
    return eta


def _trained(
    args: argparse.Namespace, part: ImageData, device: torch.device, kept: Path
) -> NDArray[np.float32]:
    teacher = chosen(args)
    known = {
        "dataset": part.name,
        "seed": args.seed,
        **asdict(teacher),
        "bf16": use_bfloat16(args.amp, device),
        "labels_sha256": label_hash(part.train_labels),
        "images_sha256": hashlib.sha256(np.ascontiguousarray(part.train_images).data).hexdigest(),
    }
    learner = classifier.build(
        teacher.network, teacher.width, part.num_classes, device, args.seed, nesterov=True
    )
    done = 0
    if kept.exists():
        state = checkpoint.load(kept, device)
        checkpoint.refuse_other_run(state["known"], known)
        done = state["epoch"]
        if done == teacher.epochs:
            print(f"note: the teacher of these settings is trained already: {kept}")
            return state["eta"].cpu().numpy()
        if not args.resume:
            raise UsageError(
                f"{kept} holds {done} of {teacher.epochs} epochs: add --resume to continue, or "
                "delete it"
            )
        learner.load_state_dict(state)
    images = on_device(part, part.train_images, device)
    train_set = classifier.LabelledImages(images, torch.tensor(part.train_labels, device=device))
    eta = torch.zeros(len(part.train_labels), part.num_classes, device=device)
    settings = classifier.Settings(
        BATCH_SIZE, teacher.epochs, lambda epoch: teacher.lr, args.seed, autocast(args.amp, device)
    )
    with tqdm(
        total=teacher.epochs, desc="epochs of the teacher", initial=done, disable=None
    ) as bar:
        for row in classifier.epochs(learner, train_set, {}, settings, done + 1, recorded=eta):
            finished = row["epoch"] == teacher.epochs
            state = (
                {"net": learner.net.state_dict(), "eta": eta} if finished else learner.state_dict()
            )
            checkpoint.save({"known": known, "epoch": row["epoch"], **state}, kept)
            bar.update()
            tqdm.write(
                f"teacher, epoch {row['epoch']}/{teacher.epochs}: loss {row['loss']:.4f}, accuracy "
                f"{row['accuracy_train']:.2f} %, {row['images_per_s']:.0f} images/s"
            )
    return eta.cpu().numpy()


def read_posteriors(path: Path, part: ImageData) -> NDArray[Any]:
    """eta (N, C) from a .npy file, checked against the training part. Raises UsageError."""
    try:
        eta = checked_posteriors(safe_arrays.parse_npy(safe_arrays.read_limited(path), "f"))
    except FileNotFoundError as error:
        raise UsageError(f"--eta {path} does not exist: leave it out to train a teacher") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"--eta {path}: {error}") from error
    wanted = (len(part.train_labels), part.num_classes)
    if eta.shape != wanted:
        raise UsageError(
            f"--eta {path} has shape {eta.shape}, but {wanted} is needed: a row for each "
            f"training image of {part.name}, "
            "without those for validation; check --dataset and --limit_train"
        )
    return eta
