"""A trained model and images for it: everything as in testing, without a Runner."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.data import DataLoader, Subset

from noisy_instseg.run import checkpoints, experiment, run_folder
from noisy_instseg.run.config import Settings
from noisy_instseg.run.datasets import Part, parts_of
from noisy_instseg.run.progress import watched
from noisy_instseg.run.training import import_modules
from shared.errors import UserError


def load_config(path: Path, settings: Settings, part: str) -> Config:
    """The final config for the `train` or `val` set, its registries filled. Raises UserError."""
    cfg = experiment.load(path, settings, [part])
    import_modules(cfg)
    init_default_scope("mmdet")
    return cfg


def load_model(
    cfg: Config, checkpoint: Path, device: torch.device
) -> tuple[nn.Module, tuple[str, ...] | None]:
    """The config's detector with the weights of a checkpoint, ready to predict, and its classes.

    None for a checkpoint that does not name them. Raises UserError.
    """
    state = checkpoints.load(run_folder.find(checkpoint))
    backbone = {**cfg.model.backbone, "init_cfg": None}  # all weights are in the checkpoint
    model: nn.Module = MODELS.build({**cfg.model, "backbone": backbone})
    weights = checkpoints.check_weights(model.state_dict(), state, checkpoint)
    model.load_state_dict(weights, strict=False)  # the network may lack some, as in test.py
    return model.to(device).eval(), checkpoints.class_names(state)


def only_part(cfg: Config, name: str) -> Part:
    """The one dataset below wrappers. Raises UserError if there are more."""
    found = list(parts_of(cfg, [name]))
    if len(found) > 1:
        raise UserError(
            f"the {name} set is made of {len(found)} datasets: give a config with one annotation "
            "file"
        )
    return found[0]


def load_dataset(cfg: Config, name: str) -> Any:
    """The images of `train` or `val` as the test pipeline scales them, without labels.

    What training leaves out is left out.
    """
    steps = only_part(cfg, "val").settings["pipeline"]
    pipeline = [step for step in steps if step["type"] != "LoadAnnotations"]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells how it builds its index
        return DATASETS.build({**only_part(cfg, name).settings, "pipeline": pipeline})


def batches(cfg: Config, dataset: Any, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Batches of the dataset's items as the model's data preprocessor takes them, in this order."""
    settings = cfg.val_dataloader
    loader = DataLoader(
        Subset(dataset, indices),
        batch_size=settings.get("batch_size", 1),
        collate_fn=pseudo_collate,
        num_workers=settings.get("num_workers", 0),
    )
    yield from watched(loader, "looking at images", len(loader), "step", least=100)
