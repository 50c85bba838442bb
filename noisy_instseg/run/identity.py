"""What has to stay the same for a run to be continued, as its checkpoints and run.json keep it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

from noisy_instseg.run.datasets import annotation_file, innermost, parts_of
from noisy_instseg.run.device import world_size


def identify(cfg: Config) -> dict[str, Any]:
    """What has to stay the same for a run to be continued: all but the loss and the epochs' number.

    Of both stages alike. Plain values, as a checkpoint brings them back.
    """
    plain = cfg.to_dict()
    model, loader = plain["model"], plain["train_dataloader"]
    model["roi_head"]["bbox_head"].pop("loss_cls", None)
    model["backbone"].pop("init_cfg", None)
    dataset = loader["dataset"]
    dataset = dataset["dataset"] if dataset["type"] == "SeededDataset" else dataset
    digests = []
    for _, part in innermost(dataset):
        digests.append(_digest(annotation_file(part)))
        part.pop("ann_file", None)  # data may move, as long as the annotations stay what they are
        part.pop("data_root", None)
    for scheduler in (schedulers := plain.get("param_scheduler") or []):
        # what mmengine fills in, and the checkpoint hands on to the second stage
        if scheduler.get("by_epoch", True):
            scheduler.setdefault("end", plain["train_cfg"].get("max_epochs"))
    found = {
        "seed": cfg.randomness.seed,
        "training annotations (SHA-256)": ", ".join(digests),
        "batch (images of a step)": world_size() * loader.get("batch_size", 1),
        "model": model,
        "training set": dataset,
        "optim_wrapper": plain["optim_wrapper"],
        "param_scheduler": schedulers,
    }
    identity: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return identity


def loss_and_validation(cfg: Config) -> dict[str, Any]:
    """What else has to stay the same where a run goes on in its own folder, as `identify`.

    Without validation, the loss alone.
    """
    found = {"loss_cls": cfg.model.roi_head.bbox_head.loss_cls}
    if parts := list(parts_of(cfg, ["val"])):
        digests = [_digest(part.annotations) for part in parts]
        found["validation annotations (SHA-256)"] = ", ".join(digests)
        found["validation images"] = parts[0].settings.get("indices") or "all"
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
