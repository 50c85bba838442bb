"""Pictures of a finished run, from its folder: retrieved labels, and reverse diffusion."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lra_diffusion.analysis.figures import ddim_trajectories, retrieval_quality
from lra_diffusion.method.evaluate import EvaluationSet, embed_images, label_trajectory, steps_of
from lra_diffusion.method.images import channels
from lra_diffusion.method.networks import Model
from lra_diffusion.method.retrieval import Bank
from lra_diffusion.run.config import SCRIPTS, recorded_config, run_name
from lra_diffusion.run.data import load
from lra_diffusion.run.device import autocast, configure_torch
from lra_diffusion.run.errors import UsageError
from lra_diffusion.run.experiment import device_of
from lra_diffusion.run.features import compute_features
from lra_diffusion.run.finished import check_model, load_model
from lra_diffusion.run.record import read_config
from lra_diffusion.run.schema import TrainConfig
from lra_diffusion.run.splits import RunData
from shared.files import write_atomically
from shared.formats import noise_file
from shared.formats.alignment import evenly

NEIGHBOURS = 50  # as far as the quality of retrieval is drawn
SAMPLES = 6  # test images whose trajectory is drawn


def draw(run: Path, out: Path, moved: Mapping[str, Any]) -> None:
    """Reads the run, its data and its model, and writes the pictures.

    moved: settings that are not those of the run any more, such as where its data are.
    """
    recorded = config_of(run)
    config = replace(recorded, **{"device": "auto", **moved})
    device = device_of(config)
    configure_torch(config.deterministic, device)
    path, noise = run / f"{run_name(recorded)}.pt", run / "noise.npz"
    finished = load_model(path, device)
    data = load(config, device, noise_file.read(noise) if noise.exists() else None)
    data, features = compute_features(config, data, device, training=True)
    identity = (read_config(run) or {}).get("identity") or {}
    check_model(finished, data, features, identity.get("fp_encoder"))
    encoder = features.encoder.name if features.encoder else "given"
    title = f"{encoder} features, {config.dataset}"
    pictures = {}
    if data.clean is not None and features.bank is not None:
        labels = data.train.labels
        count = min(max(NEIGHBOURS, config.k), len(labels) - 1)
        own_rows = torch.arange(len(labels), device=device)
        nearest = Bank(features.bank).nearest(features.bank, count, own_rows, progress=True)
        pictures["retrieval.png"] = retrieval_quality(
            f"Retrieved labels: {title}",
            labels[nearest.index].cpu().numpy(),
            labels.cpu().numpy(),
            data.clean,
            min(config.k, count),
        )
    title = f"Labels by reverse diffusion: {title}"
    test_sets = features.test_sets(data)
    if data.tested:
        test_set = test_sets[[*data.tested][-1]]
    else:  # own pictures that all train
        assert features.bank is not None  # as for training
        test_set = EvaluationSet(data.train.images, data.train.labels, features.bank)
    pictures["trajectories.png"] = trajectories(title, finished.model, data, test_set, config)
    for name, picture in pictures.items():
        write_atomically(out / name, picture)
        print(f"wrote {out / name}")


def config_of(run: Path) -> TrainConfig:
    """The configuration of a run by its config.yaml."""
    entries = read_config(run)
    if entries is None or entries.get("script") not in SCRIPTS:
        raise UsageError(
            f"{run}: no config.yaml of LRA-diffusion; give the run folder that train_CIFAR.py, or "
            "a script like it, printed"
        )
    return recorded_config(entries)


def trajectories(
    title: str, model: Model, data: RunData, test_set: EvaluationSet, config: TrainConfig
) -> bytes:
    """The picture of SAMPLES test images, right and wrong ones if there are both."""
    device, labels = test_set.labels.device, test_set.labels
    steps, amp = steps_of(config, device), autocast(config.amp, device)
    [embeddings] = embed_images([model.encoder], test_set.images, config, amp)
    points = label_trajectory(model.predictor, embeddings, test_set.features, steps)
    predicted = (1 - points[-1]).abs().argmin(dim=1)
    wrong = (predicted != labels).nonzero()[:, 0][: SAMPLES // 3]
    right = (predicted == labels).nonzero()[:, 0]
    some = torch.from_numpy(evenly(len(right), SAMPLES - len(wrong))).to(device)
    rows = torch.cat([right[some], wrong])
    [pixels] = test_set.images.plain([rows])
    mean, std = channels(test_set.images.normalisation, device)
    colours = ((pixels * std + mean).clamp(0, 1) * 255).round().byte()
    return ddim_trajectories(
        title,
        np.asarray(colours.permute(0, 2, 3, 1).cpu()),
        points[:, rows].cpu().numpy(),
        [*steps.times.flip(0).tolist(), 0],
        labels[rows].cpu().numpy(),
        predicted[rows].cpu().numpy(),
        data.class_names,
        "given" if data.name == "folder" else "true",
    )
