"""What all scripts share: the flags added here, the choice of device and precision, errors as one
message.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lra_diffusion.checkpoint import CheckpointError
from shared.datasets import DatasetError
from shared.formats.noise_file import NoiseFileError


class UsageError(ValueError):
    """Flags that do not fit this machine, this data or each other; the message says what mends it."""


class NonFiniteLossError(RuntimeError):
    """A loss is NaN or infinite."""


def check_finite(batch_losses: Sequence[Tensor], epoch: int) -> None:
    """Raises NonFiniteLossError, naming the first step whose loss, a scalar, is not finite; waits
    for the device.
    """
    losses = torch.stack(list(batch_losses))
    finite = torch.isfinite(losses)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise NonFiniteLossError(
            f"epoch {epoch}, step {step + 1} of {len(losses)}: loss {losses[step].item()}"
        )


BAD_INPUT = (UsageError, DatasetError, NoiseFileError, CheckpointError, OSError)
ADDED_HERE: dict[str, dict[str, Any]] = {
    "--data_path": {
        "type": Path,
        "help": "where the data are ($DATA_ROOT, else data/ in the repository's root)",
    },
    "--noise_file": {
        "help": "noisy labels from a file of any project: .npz .npy .pt .csv .json; FILE:COLUMN "
        "chooses one of "
        "several"
    },
    "--seed": {"type": int, "default": 123, "help": "seed of everything (123)"},
    "--limit_train": {"type": int, "help": "train on that many images, evenly spread over the set"},
    "--limit_test": {
        "type": int,
        "help": "validate and test on that many images, evenly spread over the sets",
    },
    "--device": {"default": "auto", "help": "auto, cpu, cuda, cuda:1, mps (auto)"},
    "--amp": {
        "choices": ("auto", "off", "bf16"),
        "default": "auto",
        "help": "bfloat16 autocast of the image encoders; auto: where the hardware has it",
    },
    "--output_dir": {"type": Path, "help": "the run folder"},
    "--resume": {
        "action": "store_true",
        "help": "continue the run in --output_dir, or the newest one with these settings",
    },
    "--deterministic": {
        "action": "store_true",
        "help": "only deterministic kernels (slower on a GPU)",
    },
    "--wandb": {
        "action": "store_true",
        "help": "log to Weights & Biases; offline unless WANDB_MODE says other",
    },
}


def add_flags(group: Any, *flags: str) -> None:
    """Adds flags of ADDED_HERE, spelled and explained alike in every script, to a parser or a group
    of one.
    """
    for flag in flags:
        group.add_argument(flag, **ADDED_HERE[flag])


def choose_device(name: str) -> torch.device:
    """The device that `--device` names; auto is the first of cuda, mps, cpu that is there.

    Raises UsageError.
    """
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"--device {name}: choose auto, cpu, cuda, cuda:<number> or mps"
        ) from error
    count = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if (device.index or 0) >= count.get(device.type, 0):
        raise UsageError(
            f"--device {name}: this machine has {count.get(device.type, 0)} devices of that "
            "kind; leave "
            "--device out to take what it has"
        )
    return device


def use_bfloat16(amp: str, device: torch.device) -> bool:
    """What `--amp` comes to on this device; auto asks whether the hardware multiplies bfloat16
    itself.
    """
    # DEVIATION(lra_diffusion): bfloat16 in the image encoders where the hardware has it; the
    # original is float32, its CLIP float16 on a GPU. Predictor, diffusion, losses, distances and
    # averages are float32.
    if amp != "auto":
        return amp == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # from Ampere on
    if device.type == "cpu" and hasattr(
        torch.cpu, "get_capabilities"
    ):  # missing from older versions
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def autocast(amp: str, device: torch.device) -> Callable[[], torch.autocast]:
    """What the image encoders' forward passes run in: bfloat16 autocast, or nothing."""
    return partial(torch.autocast, device.type, torch.bfloat16, enabled=use_bfloat16(amp, device))


def configure_torch(deterministic: bool, device: torch.device) -> None:
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def report_errors(work: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> int:
    """Runs a script's work; what the user can mend is one message.

    Exit status: 0, 2 bad input, 3 a loss not finite.
    """
    try:
        work(args)
    except NonFiniteLossError as error:
        print(
            f"stopped: the loss is not finite ({error}). The checkpoint of the last good epoch "
            "is kept. Lower --lr, or "
            "try --amp off",
            file=sys.stderr,
        )
        return 3
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; the same command with --resume goes on after the last whole epoch",
            file=sys.stderr,
        )
        return 130
    return 0
