"""`--evaluate`: the test accuracy of the checkpoints of a run, or of one file, ours or theirs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instancegm.method.images import DeviceImages
from instancegm.method.networks import PreActResNet18
from instancegm.method.peers import ensemble_accuracy, place, predict
from instancegm.method.signs import SILENT, SignsOfLife
from instancegm.run import checkpoint
from instancegm.run.config import PRESETS, Config
from instancegm.run.device import autocast, choose_device
from instancegm.run.errors import CheckpointError, UsageError
from instancegm.run.experiment import load_data
from instancegm.run.published import network_states
from instancegm.run.record import read_config
from shared.formats.alignment import evenly


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
    data = load_data(config)
    rows = evenly(len(data.test_labels), config.limit_test)
    images = DeviceImages(data.test_images[rows], device, crop_padding=0)
    labels = torch.from_numpy(data.test_labels[rows]).to(device)
    for file, peers in zip(files, networks):
        nets = [network_from_state(state, data.num_classes, device) for state in peers]
        logits = predict(nets, images, autocast(config.amp, device), signs, str(file))
        alone = [
            f"network {k} {ensemble_accuracy(each[None], labels):.2f} %"
            for k, each in enumerate(logits, start=1)
        ]
        print(
            f"{file}: test accuracy {ensemble_accuracy(logits, labels):.2f} % "
            f"({', '.join(alone)}; {len(labels)} images)"
        )


def _with_dataset_of(
    file: Path, state: dict[str, Any], network: dict[str, Tensor], config: Config
) -> Config:
    """The configuration with the dataset that a checkpoint was trained on, unless flags say else.

    Ours name it. The original's do not: saved/<dataset>/ does, but for CIFAR-100, whose files the
    original puts to those of CIFAR-10; its 100 classes tell.
    """
    if "dataset" not in config.given:
        if "identity" in state:
            name = state["identity"]["dataset"]
        else:
            folder = file.absolute().parent.name
            names = [name for name in PRESETS if folder == name or folder.startswith(f"{name}_")]
            name = names[0] if names else config.dataset
            if name == "cifar10" and len(network.get("linear.weight", ())) == 100:
                name = "cifar100"
            print(f"note: {file} is taken to be of {name}; --dataset says otherwise")
        config = replace(config, dataset=name)
    if config.dataset == "folder" and config.data_path is None:
        run = read_config(file.parent) or {}
        if not run.get("data_location"):
            raise UsageError(f"{file} was trained on images of your own: say where, --data_path")
        config = replace(config, data_path=Path(run["data_location"]))
    return config


def _as_in_the_run(folder: Path, config: Config) -> Config:
    """The configuration with precision, data and test images of the run, unless flags say else."""
    run = read_config(folder)
    if run is None:
        raise UsageError(
            f"{folder / 'config.yaml'} is not the configuration of a run: give the folder of a "
            "run, or a checkpoint file"
        )
    location = run.get("data_location")
    of_run: dict[str, Any] = {
        "amp": "bf16" if run.get("bf16") else "off",
        "data_path": Path(location) if location else None,
        "limit_test": run.get("limit_test"),
    }
    free = {name: value for name, value in of_run.items() if name not in config.given}
    return replace(config, **free)


def network_from_state(
    state: dict[str, Tensor], num_classes: int, device: torch.device
) -> nn.Module:
    """A classifier as wide as the saved one, with its weights."""
    try:
        net = PreActResNet18(num_classes, width=len(state["conv1.weight"]))
        net.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint's network does not fit {num_classes} classes; is it of another "
            f"--dataset? ({str(error).splitlines()[-1].strip()})"
        ) from error
    return place(net, device)
