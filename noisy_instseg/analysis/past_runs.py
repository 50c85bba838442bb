"""Past runs by their folders, read without torch: epochs, with those of stage 1, and settings.

    run = read(Path("work_dirs/mask_rcnn_tiny_shapes_nl_2"))
    run.rows[-1]["segm_mAP"], run.max_epochs, run.method, run.noise_rate

A run that continued from stage 1's checkpoint has rows of its own epochs only; those before are in
the folder of that checkpoint, which the run's config names, or in the folder `..._nl_1` beside it,
where train_stages.py and the paper's commands put them.
"""

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisy_instseg.run.run_folder import METRICS, read_rows
from shared.coco import manifest as coco_manifest
from shared.errors import UserError

METHODS = {
    "CrossEntropyLoss": "CE",
    "NewCombinationLoss": "NewCombinationLoss alone",
    "SymmetricCrossEntropyLoss": "SCE",
    "GeneralizedCrossEntropyLoss": "GCE",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run of at least one epoch."""

    folder: Path
    rows: list[Row]  # by epoch, those of stage 1 included
    settings: dict[str, Any]  # top-level variables of the config that mmengine wrote
    first_epoch: int  # that this folder's run trained; above 1, stage 1 trained those before

    @property
    def is_whole(self) -> bool:
        """Whether the rows begin with the first epoch: stage 1's were found."""
        return bool(self.rows[0]["epoch"] == 1)

    @property
    def loss(self) -> str:
        return str(_at(self.settings, "model", "roi_head", "bbox_head", "loss_cls", "type"))

    @property
    def method(self) -> str:
        return METHODS.get(self.loss, self.loss) if self.switch is None else f"CE, then {self.loss}"

    @property
    def max_epochs(self) -> int | None:
        epochs: int | None = _at(self.settings, "train_cfg", "max_epochs")
        return epochs

    @property
    def switch(self) -> float | None:
        """Between which epochs the loss changed, such as 6.5; None where it never did."""
        changed = self.loss == "NewCombinationLoss" and self.first_epoch > 1
        return self.first_epoch - 0.5 if changed else None

    @property
    def noise_rate(self) -> float | None:
        """Share of changed training labels by the manifest beside the file; None without one."""
        dataset: Any = _at(self.settings, "train_dataloader", "dataset")
        while isinstance(dataset, dict) and "dataset" in dataset:
            dataset = dataset["dataset"]
        if not isinstance(dataset, dict) or "ann_file" not in dataset:
            return None
        manifest = coco_manifest.default_path(
            Path(dataset.get("data_root") or "", dataset["ann_file"])
        )
        return coco_manifest.read_manifest(manifest).realised_rate if manifest.is_file() else None

    @property
    def evaluated(self) -> dict[int, float]:
        """Epoch -> mask AP in [0, 1], of the epochs that were evaluated."""
        return {
            row["epoch"]: row["segm_mAP"]
            for row in self.rows
            if row.get("segm_mAP") is not None and math.isfinite(row["segm_mAP"])
        }

    @property
    def seconds(self) -> float:
        """Of training and evaluation, stage 1 included."""
        return sum(row.get("seconds") or 0.0 for row in self.rows)

    @property
    def is_done(self) -> bool:
        return bool(self.rows[-1]["epoch"] == self.max_epochs)


def read(folder: Path) -> Run:
    """Raises UserError, saying what is missing."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; give a run folder of tools/train.py, such as "
            "work_dirs/<name of the config>"
        )
    rows = read_rows(folder)
    if not rows:
        raise UserError(
            f"{folder}: no epoch is finished yet (no rows in {METRICS}); give the run folder of "
            "a training run"
        )
    first, settings = rows[0]["epoch"], read_settings(folder)
    if first > 1:
        rows = rows_before(first, folder, settings) + rows
    return Run(folder, rows, settings, first)


def rows_before(first: int, folder: Path, settings: dict[str, Any]) -> list[Row]:
    """The rows of stage 1 up to the epoch before `first`; none where its folder is not found."""
    for place in stage_1_folders(folder, settings):
        rows = [row for row in read_rows(place) if row["epoch"] < first]
        if rows and rows[-1]["epoch"] == first - 1:
            return rows
    return []


def stage_1_folders(folder: Path, settings: dict[str, Any]) -> list[Path]:
    """Where stage 1 may be: where its checkpoint was, beside the run, ..._nl_1 beside ..._nl_2."""
    here = folder.absolute()
    found = [here.with_name(re.sub(r"(?<![a-z])(nl_2|[a-z]+)$", "nl_1", here.name))]
    if isinstance(checkpoint := settings.get("load_from"), str):
        there = Path(checkpoint).absolute().parent
        found = [there, here.with_name(there.name), *found]
    return [place for place in found if place != here]


def read_settings(folder: Path) -> dict[str, Any]:
    """The config that mmengine dumped into a run folder.

    It is Python and not executed: what is not plain is left out.
    """
    found = sorted(folder.glob("*.py"))
    if len(found) != 1:
        return {}
    try:
        module = ast.parse(found[0].read_text())
    except (SyntaxError, UnicodeDecodeError):
        return {}
    settings: dict[str, Any] = {}
    for line in module.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            settings[line.targets[0].id] = _value(line.value)
    return settings


def _value(node: ast.expr) -> Any:
    """A value of nested dict(...), lists, tuples and constants; None for anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {item.arg: _value(item.value) for item in node.keywords}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            key.value: _value(item)
            for key, item in zip(node.keys, node.values)
            if isinstance(key, ast.Constant)
        }
    return node.value if isinstance(node, ast.Constant) else None


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
