"""What a command line cannot mean, each with the fix; no data is read for it."""

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from instancegm.method.settings import Settings
from instancegm.run.presets import HUMAN, REAL, SMALL_SETS, spellings

if TYPE_CHECKING:
    from instancegm.run.config import Config


def wrong_values(config: "Config") -> Iterator[str]:
    """Values outside their interval."""
    if not 0.0 <= config.r <= 1.0:
        yield f"--r {config.r}: a noise rate lies in [0, 1]; 20 percent is --r 0.2"
    for field in fields(config):
        value, allowed = config.__dict__[field.name], field.metadata.get("allowed")
        if not allowed or value is None:
            continue
        low, high = map(float, allowed[1:-1].split(","))
        above = value >= low if allowed[0] == "[" else value > low
        below = value <= high if allowed[-1] == "]" else value < high
        if not (above and below):
            words = f"at least {low:g}" if allowed[0] == "[" else f"greater than {low:g}"
            if high < math.inf:
                words = f"in {allowed}"
            yield f"{spellings(field.name)[0]} {value}: must be {words}"


def wrong_combinations(config: "Config") -> Iterator[str]:
    """What cannot work, as far as that is known before any data is read."""
    if config.mode == "ce":
        for flag, is_on in (("no-vae", config.no_vae), ("guess_eval", config.guess_eval)):
            if is_on:
                yield f"--mode ce has no co-divide phase: leave out --{flag}"
    if config.no_vae and config.numerics == "paper":
        yield "--numerics concerns the VAE, and --no-vae leaves it out: drop one of them"
    if config.noise_file and "noise_mode" in config.given:
        yield "--noise_file and --noise_mode both say where the noise comes from: drop one of them"
    if config.wandb and importlib.util.find_spec("wandb") is None:
        yield (
            "--wandb needs the package wandb, which is not installed: `pip install wandb`, or "
            "with uv `uv pip install --python .venv/instancegm wandb`"
        )
    if config.gpu_devices and config.gpuid:
        yield "--gpuid and --gpu_devices both say which GPUs: drop one of them"
    if config.gpu_devices and config.device not in ("auto", "cuda"):
        yield f"--gpu_devices says which GPUs: leave out --device {config.device}"
    if config.evaluate and config.gpu_devices:
        yield "--evaluate takes one GPU: leave out --gpu_devices, --gpuid says which one"
    if config.evaluate and config.save_probs:
        yield "--evaluate writes no file: leave out --save_probs"
    if config.dataset == "folder" and config.data_path is None and not config.evaluate:
        yield (
            "--dataset folder needs --data_path: a folder with a folder for each class, or with "
            "train/ and test/ of these, or an .npz"
        )
    if config.dataset in (*SMALL_SETS, *HUMAN) and not config.export:
        for flag, used in (("cache_dir", config.cache_dir), ("skip_broken", config.skip_broken)):
            if used:
                yield f"--{flag} does nothing for {config.dataset}: leave it out"
    in_memory = config.data_path is not None and config.data_path.suffix == ".npz"
    padding, cut_out = config.crop_padding, config.network == "resnet50" and not in_memory
    if cut_out and padding != Settings.crop_padding and not config.export:
        yield (
            f"--crop_padding {padding} does nothing here, for pictures at {config.image_size} "
            "pixels are parts of larger ones: leave it out"
        )
    for flag in ("labels", "val_fraction"):
        if config.dataset != "folder" and getattr(config, flag) is not None:
            yield f"--{flag} is for --dataset folder, not for {config.dataset}: leave it out"
    if config.dataset not in HUMAN and config.noise_type is not None:
        yield f"--noise_type is for --dataset cifar10n and cifar100n, not for {config.dataset}"
    if config.dataset in HUMAN:
        for flag in {"noise_file", "noise_mode", "r"} & config.given:
            yield f"--dataset {config.dataset} brings its labels: leave out --{flag}"
    if config.pretrained == "imagenet" and config.width != Settings.width and not config.weights:
        yield (
            f"ImageNet weights are for --width {Settings.width}: leave --width out, or start from "
            "scratch with --pretrained none"
        )
    if config.redraw_vae and config.num_batches is None:
        yield "--redraw_vae is about the draws of --num_batches: give that, or leave it out"
    if config.weights is not None and config.pretrained == "none":
        if "pretrained" in config.given:
            yield "--pretrained none starts from scratch: leave out --weights"
        else:
            yield "--weights are for --pretrained imagenet: add that"
    if config.noise_mode == "asym" and config.dataset not in ("cifar10", "cifar100", *REAL):
        yield (
            "--noise_mode asym knows the class pairs of cifar10 and cifar100 only; for another "
            "set make a noise file with `python -m shared noise make` and give it with "
            "--noise_file"
        )
