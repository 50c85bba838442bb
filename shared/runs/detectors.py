"""Runs of instance segmentation: mmengine's folders, with the epochs of the stage before.

A run that continued from stage 1's checkpoint has rows of its own epochs only; those before are in
the folder of that checkpoint, which the run's config names, or in the folder `..._nl_1` beside it,
where train_stages.py and the paper's commands put them.
"""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.runs.files import LOG, MAX_SETTINGS_BYTES, number, read_json, read_log, read_text
from shared.runs.methods import INSTSEG, Method
from shared.runs.run import RunError

CE, NL = "CrossEntropyLoss", "NewCombinationLoss"
NL_AFTER_CE = "nl"
LOSSES = {
    CE: ("ce", "CE"),
    NL: ("nl_alone", "NewCombinationLoss alone"),
    "SymmetricCrossEntropyLoss": ("sce", "SCE"),
    "GeneralizedCrossEntropyLoss": ("gce", "GCE"),
}
DETECTED = ("segm_mAP", "bbox_mAP", "loss_mask")  # no classifier has such figures
Row = dict[str, Any]


def is_detector(rows: Sequence[Row], settings: dict[str, Any]) -> bool:
    """Whether it is a run of mmengine, by its config or, without one, by its figures."""
    return "train_cfg" in settings or any(not row.keys().isdisjoint(DETECTED) for row in rows)


def whole_log(folder: Path, own: Sequence[Row], settings: dict[str, Any]) -> list[Row]:
    """The run's own rows after those of stage 1, where there was one and its folder is found."""
    first = own[0]["epoch"]
    if first > 1:
        for place in stage_1_folders(folder, settings):
            if (place / LOG).is_file():
                rows = [row for row in read_log(place) if row["epoch"] < first]
                if rows and rows[-1]["epoch"] == first - 1:
                    return [*rows, *own]
    return [*own]


def stage_1_folders(folder: Path, settings: dict[str, Any]) -> list[Path]:
    """Where stage 1 may be: where its checkpoint was, beside the run, ..._nl_1 beside ..._nl_2."""
    here = folder.absolute()
    found = [here.with_name(re.sub(r"(?<![a-z])(nl_2|[a-z]+)$", "nl_1", here.name))]
    if isinstance(checkpoint := settings.get("load_from"), str) and "\0" not in checkpoint:
        there = Path(checkpoint).absolute().parent
        beside = [here.with_name(there.name)] if there.name else []
        found = [there, *beside, *found]
    return [place for place in found if place != here]


def loss_of(settings: dict[str, Any]) -> str | None:
    """The classification loss of the box head."""
    loss = at(settings, "model", "roi_head", "bbox_head", "loss_cls", "type")
    return None if loss is None else str(loss)


def method_of(settings: dict[str, Any], own: Sequence[Row]) -> Method:
    """own: the run's own rows; the loss changed before the first unless that is epoch 1."""
    loss = loss_of(settings)
    if loss == NL and own[0]["epoch"] > 1:
        return Method(INSTSEG, NL_AFTER_CE, f"CE, then {NL}")
    if loss is None:  # without its config
        return Method(INSTSEG, "unknown", "unknown loss")
    return Method(INSTSEG, *LOSSES.get(loss, (loss.lower(), loss)))


def planned(settings: dict[str, Any]) -> float | None:
    return number(at(settings, "train_cfg", "max_epochs"))


def seed_of(folder: Path) -> int | None:
    """By run.json, which runs of before its time lack."""
    if not (folder / "run.json").exists():
        return None
    seed = read_json(folder / "run.json").get("seed")
    return seed if isinstance(seed, int) else None


def read_config(folder: Path) -> dict[str, Any]:
    """The config that mmengine dumped into a run folder; {} unless there is exactly one.

    It is Python and not executed: what is not plain is left out.
    """
    found = sorted(folder.glob("*.py"))
    if len(found) != 1:
        return {}
    try:
        module = ast.parse(read_text(found[0], MAX_SETTINGS_BYTES, "settings"))
        return {
            line.targets[0].id: _value(line.value)
            for line in module.body
            if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
        }
    except (RunError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def at(tree: Any, *keys: str) -> Any:
    """The value below nested names; None where there is none."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


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
