"""Finished searches for sigma, ours and re-sln's, and the table made of them."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from re_sln.analysis.accuracy_tables import AS_GIVEN
from re_sln.analysis.finished_runs import Run, checked_settings, noise_mode, noise_source, read_csv
from re_sln.run.errors import UsageError
from shared import plain_yaml


class Trial(NamedTuple):
    """A finished trial of a search for sigma."""

    dataset: str
    noise: str
    source: str  # paper, custom, ...
    sigma: float
    accuracy: float  # percent of the held-out noisy labels, last epoch


def read_trials(places: Sequence[Path]) -> list[Trial]:
    """The trials of every search at or below the places.

    They are folders with params.json and progress.csv, in one with config.yml.
    """
    found = {
        path.resolve(): path
        for place in places
        if place.is_dir()
        for path in sorted(place.rglob("params.json"))
    }
    return [trial for path in found.values() if (trial := read_trial(path.parent)) is not None]


def read_trial(folder: Path) -> Trial | None:
    """None, with a note, if it is not finished, or nobody knows of which data."""
    settings: dict[str, Any] = {}
    try:
        for name in ("config.yml", "config.yaml"):
            if (folder.parent / name).is_file():
                settings |= plain_yaml.safe_load((folder.parent / name).read_text())
        sigma = float(json.loads((folder / "params.json").read_text())["sigma"])
        settings = checked_settings({**settings, "sigma": sigma}, folder.parent)
        if settings["method"] != "sln":
            raise UsageError(f"it is of {settings['method']}, the table of sln")
        rows = read_csv((folder / "progress.csv").read_text())
        epochs = [row["training_iteration"] for row in rows if row.get("training_iteration")]
        if any(after <= before for before, after in pairwise(epochs)):
            raise UsageError("its epochs do not increase: two runs wrote into one file")
        if len(rows) < settings["n_epochs"]:
            raise UsageError(f"{len(rows)} of {settings['n_epochs']} epochs are done")
        accuracy = 100 * float(rows[-1]["accuracy_val"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        print(
            f"note: left out the trial {folder}: {error!r}; it needs params.json, progress.csv and "
            f"{folder.parent.name}/config.yml"
        )
        return None
    search = Run("", settings, folder, folder, folder)
    noise, source = noise_mode(search) or AS_GIVEN, noise_source(search) or AS_GIVEN
    return Trial(settings["dataset_name"], noise, source, sigma, accuracy)


def search_table(trials: Sequence[Trial]) -> list[list[str]]:
    """A line for each sigma, a column for each source of noise; trials: of one kind of noise."""
    order = ("paper", "custom", "made", "file", "human", AS_GIVEN)
    sources = sorted({trial.source for trial in trials}, key=order.index)
    lines = [["sigma", *sources, "mean"]]
    for sigma in sorted({trial.sigma for trial in trials}):
        line = [f"{sigma:g}"]
        for chosen in (*([source] for source in sources), sources):
            values = [t.accuracy for t in trials if t.sigma == sigma and t.source in chosen]
            line.append(f"{np.mean(values):.2f}" if values else "")
        lines.append(line)
    return lines
