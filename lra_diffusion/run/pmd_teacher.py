"""The teacher of PMD noise: trained on clean labels, its outputs of the last epoch are kept.

Zhang et al. (PLC), ICLR 2021. eta: (N, C) float32, the softmax output for each of the N training
images, in train mode, on the augmented image, just before its batch's update.
"""

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lra_diffusion.method import classifier
from shared import run_folder
from shared.datasets.image_data import ImageData
from shared.files import write_atomically
from shared.formats import safe_arrays
from shared.formats.alignment import evenly
from shared.formats.noise_file import label_hash
from shared.labels import Labels
from shared.noise.pmd import checked_posteriors

from . import checkpoint
from .data import on_device
from .device import autocast, use_bfloat16
from .errors import UsageError
from .labels import split
from .presets import TEACHERS
from .tool_schema import PMDConfig

BATCH_SIZE = 128


def name_of(config: PMDConfig) -> str:
    """Names the teacher's files by whatever may differ between two teachers."""
    preset = TEACHERS[config.dataset]
    words = [config.dataset, f"{config.epochs}ep", f"seed{config.seed}"]
    words += [config.network] if config.network != preset["network"] else []
    words += [f"lr{config.lr:g}"] if config.lr != preset["lr"] else []
    words += [f"n{config.limit_train}"] if config.limit_train else []
    return "_".join(words)


def training_part(data: ImageData, limit: int | None) -> tuple[ImageData, Labels]:
    """The N images that training uses, as a dataset, and their rows in the whole one, (N,)."""
    rows, _ = split(data)
    rows = rows[evenly(len(rows), limit)]
    images, labels = data.train_images[rows], data.train_labels[rows]
    return replace(data, train_images=images, train_labels=labels), rows


def posteriors(
    config: PMDConfig, folder: Path, part: ImageData, device: torch.device
) -> NDArray[np.float32]:
    """eta (N, C) of a teacher trained here, also written to `eta_<name>.npy` in the folder.

    The state after each epoch is in `teacher_<name>.ckpt` beside it; a finished teacher is not
    trained again.
    """
    name = name_of(config)
    kept = folder / f"teacher_{name}.ckpt"
    # The folder is one of label files, where other teachers may be in training.
    with run_folder.locked(folder / f".teacher_{name}"):
        try:
            eta = _trained(config, part, device, kept)
        except FloatingPointError as error:
            if kept.exists():
                error.add_note(f"The checkpoint of the last good epoch is kept in {kept}")
            raise
        file = folder / f"eta_{name}.npy"
        stream = io.BytesIO()
        np.save(stream, eta)
        write_atomically(file, stream.getvalue())
    print(f"eta: {file}; with --eta it gives other types and rates without training")
    return eta


def _trained(
    config: PMDConfig, part: ImageData, device: torch.device, kept: Path
) -> NDArray[np.float32]:
    known = {
        "dataset": part.name,
        "seed": config.seed,
        "network": config.network,
        "width": config.width,
        "lr": config.lr,
        "epochs": config.epochs,
        "bf16": use_bfloat16(config.amp, device),
        "labels_sha256": label_hash(part.train_labels),
        "images_sha256": hashlib.sha256(np.ascontiguousarray(part.train_images).data).hexdigest(),
    }
    learner = classifier.build(
        config.network, config.width, part.num_classes, device, config.seed, nesterov=True
    )
    done = 0
    if kept.exists():
        state = checkpoint.load(kept, device)
        checkpoint.refuse_other_run(state["known"], known)
        done = state["epoch"]
        if done == config.epochs:
            print(f"note: the teacher of these settings is trained already: {kept}")
            finished: NDArray[np.float32] = state["eta"].cpu().numpy()
            return finished
        if not config.resume:
            raise UsageError(
                f"{kept} holds {done} of {config.epochs} epochs: add --resume to continue, or "
                "delete it"
            )
        learner.load_networks(state)
        checkpoint.load_optimizer(learner.optimizer, state["optimizer"])
    images = on_device(part, part.train_images, device)
    train_set = classifier.LabelledImages(images, torch.tensor(part.train_labels, device=device))
    eta = torch.zeros(len(part.train_labels), part.num_classes, device=device)
    amp = autocast(config.amp, device)
    settings = classifier.Settings(BATCH_SIZE, config.epochs, lambda _: config.lr, config.seed, amp)
    rows = classifier.epochs(learner, train_set, {}, settings, done + 1, recorded=eta)
    bar = tqdm(rows, "epochs of the teacher", config.epochs, initial=done, disable=None)
    for row in bar:
        finished_now = row["epoch"] == config.epochs
        state = {"net": learner.net.state_dict(), "eta": eta}
        state = state if finished_now else learner.state_dict()
        checkpoint.save({"known": known, "epoch": row["epoch"], **state}, kept)
        tqdm.write(
            f"teacher, epoch {row['epoch']}/{config.epochs}: loss {row['loss']:.4f}, accuracy "
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
            f"--eta {path} has shape {eta.shape}, but {wanted} is needed: a row for each training "
            f"image of {part.name}, without those for validation; check --dataset and --limit_train"
        )
    return eta
