"""What a trained network says of samples: confidences, losses, predictions, features."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from re_sln.analysis import finished_runs
from re_sln.analysis.finished_runs import Run
from re_sln.method.images import SIDE, Images, server_of
from re_sln.method.networks import features_of
from re_sln.method.progress import watched
from re_sln.method.streams import in_order, stream_seed
from re_sln.run.data import images_on_disk, load_files, load_images
from re_sln.run.errors import UsageError
from re_sln.run.labels import MissingLabelsError, noisy_training_set
from re_sln.run.settings import LabelChoice
from shared.datasets.folders import to_get
from shared.datasets.image_data import ImageData, ImageFiles
from shared.formats.alignment import evenly, labels_for
from shared.formats.noise_file import NoiseFile, read

BATCH = 500
TSNE_SAMPLES = 2000


class Scores(NamedTuple):
    """What a network says of N training samples."""

    confidence: NDArray[np.float32]  # (N,) largest softmax output
    losses: NDArray[np.float32]  # (N,) cross-entropy with the noisy label
    predicted: NDArray[np.int64]  # (N,)
    noise: NoiseFile


def label_choice(run: Run, data_path: Path | None) -> LabelChoice:
    """Where the run's data and noise are; nothing is made again."""
    known = run.settings
    recorded = (known.get(name) for name in ("data_path", "data_location"))
    if data_path is None:
        data_path = next((Path(p) for p in recorded if p is not None and Path(p).exists()), None)
    return LabelChoice(
        dataset_name=known["dataset_name"],
        noise_mode=known.get("noise_mode"),
        p=known.get("p"),
        custom_noise=known.get("custom_noise", False),
        make_new_custom_noise=False,
        noise_file=known.get("noise_file"),
        noise_type=known.get("noise_type"),
        labels=None if known.get("labels") is None else Path(known["labels"]),
        skip_broken=bool(known.get("skip_broken")),
        cache_dir=None if known.get("cache_dir") is None else Path(known["cache_dir"]),
        seed=known["seed"],
        data_path=data_path,
    )


def load_data(run: Run, choice: LabelChoice) -> ImageData | ImageFiles:
    """The run's images, or the files of those that it decoded at 224 pixels."""
    if run.settings.get("network") == "resnet50":
        return load_files(choice, run.settings.get("num_workers") or 0)
    return load_images(choice)


def training_set(
    run: Run, data: ImageData, choice: LabelChoice
) -> tuple[NoiseFile, NDArray[np.uint8]]:
    """The labels that the run was trained on, and its N images (N, H, W, 3)."""
    kept = run.folder / "noise.npz"
    if not kept.is_file():  # a run of the original
        try:
            noise, images = noisy_training_set(choice, data, may_make=False)
        except MissingLabelsError as error:
            raise UsageError(
                f"the labels of {run.exp_id} are missing: {error.what}; `{to_get('sln-noise')}` "
                "(in the repository's root) gets the published ones, or name the folder that the "
                "run had with --data_path"
            ) from error
        return noise, images[noise.indices]
    noise = read(kept)
    rows, _ = labels_for(
        noise, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
    )
    if noise.open_set is None or not noise.open_set.any():
        return noise, data.train_images[rows]
    found, images = noisy_training_set(_with_other_data(run, choice), data)
    assert found.open_set is not None and found.indices is not None  # noqa: PT018
    flags = dict(zip(found.indices.tolist(), found.open_set.tolist()))
    if [flags.get(row) for row in rows.tolist()] != noise.open_set.tolist():
        raise UsageError(
            f"the open-set files in the data folder were remade since {run.exp_id} was trained, "
            "and replace other images: put the old ones back"
        )
    return noise, images[rows]


def _with_other_data(run: Run, choice: LabelChoice) -> LabelChoice:
    """Where noise files and CIFAR-100 are looked for: not in the folder of the images themselves.

    What the run had made from its seed is made again; `training_set` compares it with noise.npz.
    """
    location, recorded = (run.settings.get(name) for name in ("data_location", "data_path"))
    is_its_own = str(choice.data_path) == str(location) != str(recorded)
    return replace(choice, data_path=None) if is_its_own else choice


def _trained_on(
    run: Run, data: ImageData | ImageFiles, choice: LabelChoice, device: torch.device
) -> tuple[NoiseFile, Images]:
    """The labels that the run was trained on, and its N images as the network sees them."""
    if isinstance(data, ImageData):
        noise, images = training_set(run, data, choice)
        return noise, server_of(data, device)(images)
    noise = read(run.folder / "noise.npz")
    rows, _ = labels_for(
        noise, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
    )
    return noise, _pictures(run, data, [data.train_files[row] for row in rows], device)


def _pictures(run: Run, data: ImageFiles, names: Sequence[str], device: torch.device) -> Images:
    return images_on_disk(data, names, device, run.settings.get("num_workers") or 0)


def _batch(images: Images) -> int:
    return min(BATCH, images.evaluation_batch) if images.side > SIDE else BATCH


@torch.no_grad()
def score(
    run: Run, data: ImageData | ImageFiles, choice: LabelChoice, device: torch.device
) -> Scores:
    """The reported network in eval mode, on one random augmentation of each training image."""
    noise, source = _trained_on(run, data, choice, device)
    net = finished_runs.load_model(run).to(device).eval()
    # DEVIATION(re_sln): the run's seed decides the random augmentation; the original draws another
    # at every call.
    seed = stream_seed(run.settings["seed"], 0, "plot")
    batches = in_order(len(source), _batch(source), device)
    shown = watched(source.views(batches, seed), "outputs", len(batches), len(source))
    logits = torch.cat([net(batch) for batch in shown]).cpu()
    if logits.shape[1] != data.num_classes:
        raise UsageError(
            f"the network of {run.exp_id} knows {logits.shape[1]} classes, {data.name} has "
            f"{data.num_classes}: is --data_path that of another data set?"
        )
    losses = F.cross_entropy(logits, torch.tensor(noise.noisy_labels), reduction="none")
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    return Scores(confidence.numpy(), losses.numpy(), predicted.numpy(), noise)


@torch.no_grad()
def mapped_features(
    run: Run, data: ImageData | ImageFiles, choice: LabelChoice, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """t-SNE (M, 2) of what the classifier sees of test images, spread evenly, and labels (M,).

    Without test images those of training, and the labels trained on.
    """
    from sklearn.manifold import TSNE  # slow to import, and only needed here

    source: Images
    labels = data.test_labels
    if len(labels) == 0:
        noise, source = _trained_on(run, data, choice, device)
        labels = noise.noisy_labels
    elif isinstance(data, ImageData):
        source = server_of(data, device)(data.test_images)
    else:
        source = _pictures(run, data, data.test_files, device)
    rows = evenly(len(labels), TSNE_SAMPLES)
    features = features_of(finished_runs.load_model(run).to(device).eval())
    batches = torch.split(torch.tensor(rows, device=device), _batch(source))
    shown = watched(source.plain(batches), "features", len(batches), len(rows))
    seen = torch.cat([features(batch) for batch in shown]).cpu().numpy()
    print(f"t-SNE of {len(rows)} samples", file=sys.stderr, flush=True)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=run.settings["seed"])
    return tsne.fit_transform(seen), labels[rows]
