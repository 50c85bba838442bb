"""A model's columns stand for classes by name: those of the data are numbered alike, or refused."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mmengine.config import Config

from noisy_instseg.run.datasets import parts_of, some_of
from noisy_instseg.run.errors import say
from shared.errors import UserError


def number_as_trained(
    cfg: Config, names: Sequence[str] | None, checkpoint: Path, parts: Iterable[str]
) -> None:
    """Numbers the classes of `parts` as the network was trained on them: by name.

    names: of the checkpoint, None if it has none. Raises UserError for other classes.
    """
    for part in parts_of(cfg, parts):
        if part.classes is None or same_classes(names, part.classes, checkpoint, part.annotations):
            continue
        for one in parts_of(cfg, ("train", "val", "test")):
            one.settings["metainfo"] = {**(one.settings.get("metainfo") or {}), "classes": names}


def same_classes(
    names: Sequence[str] | None, classes: Sequence[str], checkpoint: Path, annotations: Path
) -> bool:
    """Whether a checkpoint's classes are those of the data in one order. UserError for others."""
    if names is None:
        say(
            f"note: {checkpoint} does not say what its classes are called; they are taken for "
            f"{some_of(classes)}, in this order"
        )
        return True
    if sorted(names) != sorted(classes):
        raise UserError(
            f"{checkpoint} was trained on the {len(names)} classes {some_of(names)}, and "
            f"{annotations} has the {len(classes)} classes {some_of(classes)}: give annotations "
            "with the names of those classes, or the checkpoint of a model of these"
        )
    if same := list(names) == list(classes):
        return same
    say(
        f"note: {annotations} has its classes in another order than {checkpoint}, so they are "
        f"matched by name: {some_of(names)}"
    )
    return False
