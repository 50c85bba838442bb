"""`--evaluate`: the test accuracy of the checkpoints of a run, or of one file, ours or theirs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from instancegm.method.networks import load_classifier
from instancegm.method.peers import ensemble_accuracy, place, predict
from instancegm.method.signs import SILENT, SignsOfLife
from instancegm.run import checkpoint
from instancegm.run.config import Config
from instancegm.run.data import test_data
from instancegm.run.device import autocast, choose_device
from instancegm.run.errors import CheckpointError, UsageError
from instancegm.run.presets import SCRIPTS
from instancegm.run.published import network_states
from instancegm.run.record import read_config

# What decides the test images of a run, beside the place of the data
OF_THE_DATA = (
    *("labels", "val_fraction", "colour", "noise_file", "noise_mode", "noise_type", "r", "seed"),
    *("limit_test", "skip_broken"),
)
PATHS = ("labels",)


def evaluate(path: Path, config: Config, signs: SignsOfLife = SILENT) -> None:
    """Prints the accuracies of a run folder or checkpoint file, on the data that flags name."""
    device = choose_device(config.device, config.gpuid)
    files = [path]
    if path.is_dir():
        files = [path / name for name in (checkpoint.LAST, checkpoint.BEST)]
        files = [file for file in files if file.exists()]
        if not files:
            raise CheckpointError(f"{path} holds neither {checkpoint.LAST} nor {checkpoint.BEST}")
        config = _as_in_the_run(path, config)
    states = [checkpoint.load(file, device) for file in files]
    networks = [network_states(state) for state in states]
    config = _with_dataset_of(files[0], states[0], networks[0][0], config)
    data = test_data(config, device, signs)
    if not data.tests:
        raise UsageError(
            f"{data.location} has no test images to score on: add a folder test/, or hold some "
            "training images out with --val_fraction"
        )
    for file, state, saved in zip(files, states, networks):
        normalise = config.normalise or _normalises(file, state)
        nets = [
            place(load_classifier(each, len(data.class_names), normalise=normalise), device)
            for each in saved
        ]
        for name, part in data.tests.items():
            title = f"{file}, {name} set"
            logits = predict(nets, part.images, autocast(config.amp, device), signs, title)
            alone = [
                f"network {k} {ensemble_accuracy(each[None], part.labels):.2f} %"
                for k, each in enumerate(logits, start=1)
            ]
            print(
                f"{file}: {name} accuracy {ensemble_accuracy(logits, part.labels):.2f} % "
                f"({', '.join(alone)}; {len(part.labels)} images)"
            )


def _normalises(file: Path, state: Mapping[str, Any]) -> bool:
    """Whether the run used --normalise: what the checkpoint says, or the config.yaml beside it."""
    known = state.get("identity") or read_config(file.parent) or state
    return bool(known.get("normalise", False))


def _with_dataset_of(
    file: Path, state: dict[str, Any], network: dict[str, Tensor], config: Config
) -> Config:
    """The configuration with the dataset that a checkpoint was trained on, unless flags say else.

    Ours name it. The original's do not: saved/<dataset>/ does, but for CIFAR-100, whose files the
    original puts to those of CIFAR-10; its 100 classes tell.
    """
    datasets = SCRIPTS[config.script].datasets
    if "dataset" not in config.given:
        if "identity" in state:
            name = state["identity"]["dataset"]
            if name not in datasets:
                raise _of_another_script(file, name)
        elif config.script == "instanceGM":
            folder = file.absolute().parent.name
            names = [name for name in datasets if folder == name or folder.startswith(f"{name}_")]
            name = names[0] if names else config.dataset
            if name == "cifar10" and len(network.get("linear.weight", ())) == 100:
                name = "cifar100"
            print(f"note: {file} is taken to be of {name}; --dataset says otherwise")
        else:
            name = config.dataset
        config = replace(config, dataset=name)
    if config.dataset == "folder" and config.data_path is None:
        run = read_config(file.parent) or {}
        if not run.get("data_location"):
            raise UsageError(f"{file} was trained on images of your own: say where, --data_path")
        config = replace(config, data_path=Path(run["data_location"]))
    return config


def _of_another_script(path: Path, dataset: str) -> UsageError:
    script = next((name for name, each in SCRIPTS.items() if dataset in each.datasets), None)
    return UsageError(f"{path} is a run of {script}.py: evaluate it with that script")


def _as_in_the_run(folder: Path, config: Config) -> Config:
    """The configuration with precision, data and test images of the run, unless flags say else."""
    run = read_config(folder)
    if run is None:
        raise UsageError(
            f"{folder / 'config.yaml'} is not the configuration of a run: give the folder of a "
            "run, or a checkpoint file"
        )
    if run.get("script", config.script) != config.script:
        raise UsageError(f"{folder} is a run of {run['script']}.py: evaluate it with that script")
    of_run = {name: run[name] for name in OF_THE_DATA if run.get(name) is not None}
    of_run |= {name: Path(of_run[name]) for name in PATHS if name in of_run}
    of_run["amp"] = "bf16" if run.get("bf16") else "off"
    of_run["data_path"] = Path(run["data_location"]) if run.get("data_location") else None
    return replace(
        config, **{name: value for name, value in of_run.items() if name not in config.given}
    )
