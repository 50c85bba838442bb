"""A trained model and images for it, as find_noisy and pictures need them: everything as in
testing, without a Runner.
"""

import argparse
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

from noisy_instseg import checkpoints, experiment, run_folder
from noisy_instseg.errors import UserError
from noisy_instseg.run import import_modules


def load_config(path: Path, args: argparse.Namespace, part: str) -> Config:
    """The final config with these flags, its registries filled; `train` or `val` is the data set it
    needs. Raises UserError.
    """
    cfg = experiment.load(path, args, [part])
    import_modules(cfg)
    init_default_scope("mmdet")
    return cfg


def choose_device(name: str) -> torch.device:
    """auto: a GPU where there is one. Raises UserError for cuda where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU; use --device cpu, or leave it out")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def load_model(cfg: Config, checkpoint: Path, device: torch.device) -> nn.Module:
    """The config's detector with the weights of a checkpoint, ready to predict.

    Raises UserError.
    """
    state = checkpoints.load(run_folder.find(checkpoint))
    model_cfg = {
        **cfg.model,
        "backbone": {**cfg.model.backbone, "init_cfg": None},
    }  # all weights are in the checkpoint
    model = MODELS.build(model_cfg)
    checkpoints.check_weights(model.state_dict(), state, checkpoint)
    model.load_state_dict(state.get("state_dict", state))
    return model.to(device).eval()


def innermost(dataset: Any, part: str) -> Any:
    """The one data set below wrappers. Raises UserError if there are more."""
    found = list(experiment.datasets_of(dataset))
    if len(found) > 1:
        raise UserError(
            f"the {part} set is made of {len(found)} data sets: give a config with one "
            "annotation file"
        )
    return found[0]


def annotation_path(cfg: Config) -> Path:
    """The annotation file of the training set."""
    return experiment.annotation_file(innermost(cfg.train_dataloader.dataset, "training"))


def load_dataset(cfg: Config, part: str) -> Any:
    """The images of `train` or `val` as the test pipeline scales them, without labels; what
    training leaves out is left out.
    """
    steps = innermost(cfg.val_dataloader.dataset, "validation").pipeline
    pipeline = [step for step in steps if step["type"] != "LoadAnnotations"]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells how it builds its index
        return DATASETS.build(
            {**innermost(cfg[f"{part}_dataloader"].dataset, part), "pipeline": pipeline}
        )


def batches(cfg: Config, dataset: Any, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Batches of the dataset's items as the model's data preprocessor takes them, in this order."""
    loader = cfg.val_dataloader
    yield from DataLoader(
        Subset(dataset, indices),
        batch_size=loader.get("batch_size", 1),
        collate_fn=pseudo_collate,
        num_workers=loader.get("num_workers", 0),
    )
