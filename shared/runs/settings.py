"""Runs of one method with the same settings, which are seeds of one another, and runs with others.

told_apart(runs)        # ["n_epochs 20", "n_epochs 55", "n_epochs 20"]
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from shared.runs.run import Run

MOST_NAMED = 3
# Entries of a config that do not tell two ways to train apart
_OF_THE_RUN = {
    *("seed", "exp_id", "id", "name", "output_dir", "work_dir", "checkpoint_path", "restore_step"),
    *("resume", "export", "save_probs", "wandb", "plots", "saved"),
}
_PLACES = {  # of the labels `shared.runs.labels` says whether they are the same
    *("data_path", "dataset_dir", "data_location", "data_root", "ann_file", "cache_dir"),
    *("labels", "noise_file", "noise_dir", "fp_weights", "fp_embed_train", "fp_embed_test"),
    *("load_from", "custom_imports"),
}
_MACHINE = {
    *("device", "device_used", "gpuid", "gpu_devices", "ranks", "threads", "num_workers"),
    "launcher",
}
_OUTCOMES = {"identity", "measured_noise_rate", "bf16", "versions"}
_OTHERS = _OF_THE_RUN | _PLACES | _MACHINE | _OUTCOMES


def told_apart(runs: Sequence[Run]) -> list[str]:
    """What the settings of each run are, as far as they differ from those of others.

    runs: of one method. Runs with the same words have the same settings, as far as both recorded
    them, but for seeds, places and the machine; "" for all where none differ. Up to MOST_NAMED
    differing settings are named, of more as few as tell the runs apart.
    """
    groups: list[dict[str, str]] = []
    homes = []
    for run in runs:
        own = dict(_settings(run.config))
        home = next((group for group in groups if _agree(group, own)), None)
        if home is None:
            groups.append(home := {})
        home.update(own)
        homes.append(home)
    names = [name for name in dict.fromkeys(chain(*groups)) if len(_values(groups, name)) > 1]
    shown = names if len(names) <= MOST_NAMED else _fewest(groups, names)
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return [", ".join(f"{name} {home.get(name, '?')}" for name in shown) + more for home in homes]


def _settings(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Names, with those of the settings that they lie in, and values."""
    for key, value in config.items():
        name = str(key)  # in YAML it may be a number or a date
        is_place = isinstance(value, str) and value.startswith("/")
        if name in _OTHERS or name.endswith("sha256") or is_place:
            continue
        if isinstance(value, dict):
            yield from _settings(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)


def _agree(one: Mapping[str, str], two: Mapping[str, str]) -> bool:
    return all(one[name] == two[name] for name in one.keys() & two.keys())


def _values(groups: Sequence[Mapping[str, str]], name: str) -> set[str]:
    return {group[name] for group in groups if name in group}


def _fewest(groups: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[str]:
    """Some of the names that tell all groups apart: each that tells more of them apart."""
    chosen: list[str] = []
    told = 1
    for name in names:
        now = len({tuple(group.get(each) for each in (*chosen, name)) for group in groups})
        if now > told:
            chosen.append(name)
            told = now
    return chosen
