"""The files of the original scripts: their names, their logs, their checkpoints, their metrics."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instancegm.method.losses import VaeLoss
from instancegm.method.peers import Peer
from instancegm.run import checkpoint
from instancegm.run.config import Config
from instancegm.run.errors import CheckpointError
from instancegm.run.presets import REAL
from instancegm.run.record import Row
from shared.files import write_atomically

# In saved/, where it is not <dataset>/checkpoint_<rate>.tar; one of them names a ResNet-152 that no
# script has.
# DEVIATION(instancegm): published checkpoints are written at the end; the original overwrites those
# of these sets after every epoch, as last.ckpt is here.
CHECKPOINTS = {
    "red_blue": "redBlue/checkpoint_",
    "animal10N": "animal10N/checkpoint",
    "clothing1M": "clothing1M/checkpoint_resnet152",
}


VAE_TERMS = (  # the factors are part of the names, and the same for every data set
    *("Reconstruction_VAE_x[1*]", "Noisy_label_CE[1*]"),
    *("Uniform_categorical_x[-0.00001*]", "Gaussian_z[-0.0003*]"),
)


def rate_name(rate: float) -> str:
    """The rate in file names: one digit after the point, or as many as it has."""
    # DEVIATION(instancegm): 0.45 and 0.5 have files of their own; the original writes both as 0.5
    # and takes the labels of whichever came first.
    return f"{rate:.1f}" if round(rate, 1) == rate else f"{rate:g}"


def setting_name(data_word: str, config: Config, noise_word: str) -> str:
    """<dataset>_<rate>_<noise>: what logs and run folders are called."""
    # No noise is made for these: whatever the rate, the labels are the same.
    rate = f"{config.r:.1f}" if config.dataset in REAL else rate_name(config.r)
    return "_".join([data_word, rate, noise_word])


def _method_suffix(config: Config) -> str:
    return "" if config.method == "instancegm" else f"_{config.method}"


def write_logs(data_word: str, config: Config, noise_word: str, rows: Sequence[Row]) -> None:
    """The logs below `checkpoint/` in the original's words, typos included.

    `<setting>_acc.txt` and `_stats.txt`; of Clothing1M `<id>.txt`.
    """
    tested = [row for row in rows if row["accuracy"] is not None]
    if config.dataset == "clothing1M":
        lines = [
            f"Validation Epoch:{row['epoch']:d}      Acc1:{row['val_accuracy_1']:.2f}  "
            f"Acc2:{row['val_accuracy_2']:.2f}\n"
            for row in rows
            if "val_accuracy_2" in row
        ]
        if tested and tested[-1]["epoch"] == config.num_epochs:
            lines.append(f"Test Accuracy:{tested[-1]['accuracy']:.2f}\n")
        _write(f"{config.id}{_method_suffix(config)}.txt", lines)
        return
    prefix = f"{setting_name(data_word, config, noise_word)}{_method_suffix(config)}"
    accuracy = [f"Epoch:{row['epoch']:d}   Accuracy:{row['accuracy']:.2f}\n" for row in tested]
    stats = [
        f"Numer of labeled samples:{row[f'n_labelled_{k}']:d}   AUC:{_auc(row, k):.3f}\n"
        for row in rows
        if row["phase"] == "co_divide" and config.dataset not in REAL  # whose truth is unknown
        for k in (1, 2)
    ]
    _write(f"{prefix}_acc.txt", accuracy)
    _write(f"{prefix}_stats.txt", stats)


def _write(name: str, lines: Sequence[str]) -> None:
    write_atomically(Path("checkpoint") / name, "".join(lines).encode())


def _auc(row: Row, k: int) -> float:
    value: float | None = row[f"auc_{k}"]
    return float("nan") if value is None else value


# DEVIATION(instancegm): Weights & Biases get the means of an epoch; the original logs the loss of
# warm-up per iteration, and images and gradients besides.
def wandb_metrics(row: Row, config: Config) -> dict[str, float]:
    """The figures of an epoch, and again under the names that the original logs them by."""
    numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
    named: dict[str, float | None] = {"epochs": row["epoch"], "Test/accuracy": row["accuracy"]}
    named["Test/top1.avg"] = row.get("accuracy_1")
    if row["phase"] == "warm_up":
        named["Loss/Warmup(CE)"] = row["loss_1"] - row.get("penalty_1", 0.0)
    for k in (1, 2) if row["phase"] == "co_divide" else ():
        terms = [row[f"{name}_{k}"] for name in VaeLoss._fields if f"{name}_{k}" in row]
        vae = sum(terms) if terms else None
        total = row[f"loss_{k}"]
        named |= {
            f"Train/net{k}/total_loss": total,
            f"Train/net{k}/DivideMix": total - (vae or 0.0),
            f"Train/net{k}/vae_loss": vae,
            f"Train/DM{k}/DivideMix_total": total - (vae or 0.0),
            f"Train/DM{k}/labeled_loss": row[f"labelled_loss_{k}"],
            f"Train/DM{k}/unlabeled_loss": row[f"unlabelled_loss_{k}"],
            f"Train/VAE{k}/vae_loss_total": vae,
        }
        named |= {f"Train/VAE{k}/{word}": term for word, term in zip(VAE_TERMS, terms)}
    if config.dataset == "clothing1M":
        named |= {f"Test/valid_acc_{k}": row.get(f"val_accuracy_{k}") for k in (1, 2)}
        named["Test/acc"] = row["accuracy"]
    return numbers | {name: value for name, value in named.items() if value is not None}


def checkpoint_path(data_word: str, config: Config) -> Path:
    # DEVIATION(instancegm): each dataset has its own folder in saved; the original keeps CIFAR-100
    # in saved/cifar10 too.
    name = CHECKPOINTS.get(config.dataset, f"{data_word}/checkpoint_{config.r}")
    return Path("saved") / f"{name}{_method_suffix(config)}.tar"


def published_form(state: Mapping[str, Any]) -> dict[str, Any]:
    """The dictionary that the original script saves at the end, from ours with two networks."""
    form = {"epoch": state["epoch"]}
    if state["identity"].get("normalise"):
        form["normalise"] = True  # the networks do, and their parameters do not say so
    for number, (peer, losses) in enumerate(zip(state["peers"], state["losses"]), start=1):
        form[f"net{number}_state_dict"] = peer["net"]
        form[f"vae{number}_state_dict"] = peer.get("vae", {})
        form[f"optimizer{number}_state_dict"] = peer["net_optimizer"]
        form[f"loss_{number}"] = losses[-1] if losses else torch.empty(0)
    return form


def save_best_network(folder: Path, config: Config, peer: Peer) -> None:
    """The network as it was best on the validation set, in the run folder, and as published."""
    paths = [folder / f"best_net{peer.number}.ckpt"]
    if config.dataset == "clothing1M":
        name = f"{config.id}{_method_suffix(config)}_net{peer.number}.pth.tar"
        paths.append(Path("checkpoint") / name)
    checkpoint.save(peer.net.state_dict(), *paths)


def best_networks(folder: Path, peers: Sequence[Peer], device: torch.device) -> list[nn.Module]:
    """The networks that `save_best_network` saved."""
    nets = []
    for peer in peers:
        net = copy.deepcopy(peer.net)
        net.load_state_dict(checkpoint.load(folder / f"best_net{peer.number}.ckpt", device))
        nets.append(net)
    return nets


def network_states(state: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """State dicts of the one or two classifiers in a checkpoint, ours or the original's."""
    if "peers" in state:
        return [peer["net"] for peer in state["peers"]]
    if state and all(isinstance(value, Tensor) for value in state.values()):
        return [dict(state)]  # a network alone, such as <id>_net1.pth.tar
    published = [state[key] for key in ("net1_state_dict", "net2_state_dict") if key in state]
    if not published:
        entries = ", ".join(map(str, state))
        raise CheckpointError(
            f"no networks in this checkpoint, whose entries are {entries}: give one of "
            "instanceGM.py, ours or the original's"
        )
    return published
