"""The files of the original scripts: their names, their two logs, their checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instancegm.run.config import Config
from instancegm.run.errors import CheckpointError
from instancegm.run.record import Row
from shared.files import write_atomically


def rate_name(rate: float) -> str:
    """The rate in file names: one digit after the point, or as many as it has."""
    # DEVIATION(instancegm): 0.45 and 0.5 have files of their own; the original writes both as 0.5
    # and takes the labels of whichever came first.
    return f"{rate:.1f}" if round(rate, 1) == rate else f"{rate:g}"


def setting_name(data_word: str, config: Config, noise_word: str) -> str:
    """<dataset>_<rate>_<noise>: what logs and run folders are called."""
    return "_".join([data_word, rate_name(config.r), noise_word])


def _method_suffix(config: Config) -> str:
    return "" if config.method == "instancegm" else f"_{config.method}"


def write_logs(data_word: str, config: Config, noise_word: str, rows: Sequence[Row]) -> None:
    """`checkpoint/<setting>_acc.txt` and `_stats.txt` in the original's words, typos included."""
    setting = setting_name(data_word, config, noise_word)
    prefix = Path("checkpoint") / f"{setting}{_method_suffix(config)}"
    accuracy = [f"Epoch:{row['epoch']:d}   Accuracy:{row['accuracy']:.2f}\n" for row in rows]
    stats = [
        f"Numer of labeled samples:{row[f'n_labelled_{k}']:d}   AUC:{_auc(row, k):.3f}\n"
        for row in rows
        if row["phase"] == "co_divide"
        for k in (1, 2)
    ]
    for suffix, lines in (("_acc.txt", accuracy), ("_stats.txt", stats)):
        write_atomically(prefix.with_name(prefix.name + suffix), "".join(lines).encode())


def _auc(row: Row, k: int) -> float:
    value: float | None = row[f"auc_{k}"]
    return float("nan") if value is None else value


def checkpoint_path(data_word: str, config: Config) -> Path:
    # DEVIATION(instancegm): each dataset has its own folder in saved; the original keeps CIFAR-100
    # in saved/cifar10 too.
    name = f"checkpoint_{config.r}{_method_suffix(config)}.tar"
    return Path("saved") / data_word / name


def published_form(state: Mapping[str, Any]) -> dict[str, Any]:
    """The dictionary that the original script saves at the end, from ours with two networks."""
    form = {"epoch": state["epoch"]}
    for number, (peer, losses) in enumerate(zip(state["peers"], state["losses"]), start=1):
        form[f"net{number}_state_dict"] = peer["net"]
        form[f"vae{number}_state_dict"] = peer.get("vae", {})
        form[f"optimizer{number}_state_dict"] = peer["net_optimizer"]
        form[f"loss_{number}"] = losses[-1] if losses else torch.empty(0)
    return form


def network_states(state: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """State dicts of the one or two classifiers in a checkpoint, ours or the original's."""
    if "peers" in state:
        return [peer["net"] for peer in state["peers"]]
    published = [state[key] for key in ("net1_state_dict", "net2_state_dict") if key in state]
    if not published:
        entries = ", ".join(map(str, state))
        raise CheckpointError(
            f"no networks in this checkpoint, whose entries are {entries}: give one of "
            "instanceGM.py, ours or the original's"
        )
    return published
