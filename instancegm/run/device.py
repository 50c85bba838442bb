"""The device of a run, and the precision of its networks' forward passes.

Kept byte-identical in every torch project.
"""

import os
from collections.abc import Callable
from functools import partial

import torch

from .errors import UsageError, of_rank


def choose_device(name: str, gpuid: int = 0) -> torch.device:
    """The device that `--device` names; auto is the first of cuda, mps, cpu that is there.

    gpuid: which GPU, where the name does not say; of torchrun's processes each takes its own.
    Raises UsageError.
    """
    if name == "auto":
        available = (torch.cuda.is_available(), torch.backends.mps.is_available(), True)
        name = ("cuda", "mps", "cpu")[available.index(True)]
    if name.startswith("cuda:") and of_rank():
        raise UsageError(f"--device {name}: torchrun's processes each take their own: leave it out")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', gpuid)}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"--device {name}: choose auto, cpu, cuda, cuda:<number> or mps"
        ) from error
    counts = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    count = counts.get(device.type, 0)
    if (device.index or 0) >= count:
        fix = "start no more processes" if of_rank() else "leave --device out to auto-select"
        raise UsageError(f"--device {name}: this machine has {count} devices of that kind; {fix}")
    return device


def use_bfloat16(amp: str, device: torch.device) -> bool:
    """What `--amp` (auto, off or bf16) comes to; auto: does the hardware multiply bfloat16?"""
    if amp != "auto":
        return amp == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # absent from older torch
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def autocast(amp: str, device: torch.device) -> Callable[[], torch.autocast]:
    """What the networks' forward passes run in: bfloat16 autocast, or nothing."""
    enabled = use_bfloat16(amp, device)
    return partial(torch.autocast, device.type, torch.bfloat16, enabled=enabled)


def configure_torch(deterministic: bool, device: torch.device) -> None:
    """Only deterministic kernels, or on a GPU the fastest convolutions that cuDNN finds."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True
