"""The device of a run and the processes it is made of. torch is imported where it is needed."""

import os
import sys
import warnings
from typing import TYPE_CHECKING

from noisy_instseg.run.config import RANK_NAMES, Settings
from shared.errors import UserError

if TYPE_CHECKING:
    import torch

OF_LIBRARIES = (FutureWarning, DeprecationWarning)


def prepare_environment(settings: Settings) -> None:
    """Flags that take effect through the environment, before torch is imported."""
    os.environ.setdefault("LOCAL_RANK", str(settings.local_rank))
    for ours, theirs in zip(("RANK", "WORLD_SIZE"), RANK_NAMES.get(settings.launcher, ())):
        if theirs in os.environ:  # mmengine would set them too, but only after our checks
            os.environ.setdefault(ours, os.environ[theirs])
    if settings.wandb:
        os.environ.setdefault("WANDB_MODE", "offline")
    if settings.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif ids := settings.gpu_ids:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(number) for number in range(max(ids) + 1)]
        if ids[0] < len(names):
            os.environ["CUDA_VISIBLE_DEVICES"] = names[ids[0]]


def make_deterministic() -> None:
    """Else cuBLAS may sum in any order. Before torch uses a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def choose_device(name: str, flag: str = "--device cuda") -> "torch.device":
    """auto: a GPU where there is one. The first thing that is slow: it imports torch.

    flag: that asks for cuda. Raises UserError for cuda where there is none.
    """
    for category in OF_LIBRARIES:
        warnings.filterwarnings("ignore", category=category)
    import torch

    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError(
            f"no usable GPU: torch.cuda.is_available() is False here; leave out {flag} to use the "
            "CPU"
        )
    return torch.device("cuda" if found and name != "cpu" else "cpu")


def join_processes(settings: Settings) -> None:
    """Refuses what this machine does not have; on CPUs, joins the other processes of the run."""
    wanted = ("cuda", "--gpu-ids") if settings.gpu_ids else (settings.device,)
    cuda = choose_device(*wanted).type == "cuda"
    if settings.amp == "bf16" and not cuda:
        raise UserError("--amp bf16 needs a GPU: leave it out, float32 is the default")
    if settings.launcher == "none":
        return
    if settings.launcher != "pytorch" and not cuda:
        raise UserError(
            f"--launcher {settings.launcher} needs GPUs; on CPUs use tools/dist_train.sh, or "
            "one process"
        )
    if "RANK" not in os.environ:
        raise UserError(
            f"--launcher {settings.launcher} is set by what starts several processes, such as "
            "tools/dist_train.sh and dist_test.sh: start the run with those, or leave it out"
        )
    if not cuda:
        import torch

        torch.distributed.init_process_group("gloo")


def is_first_process() -> bool:
    """Whether this is the process, of those a launcher started, that talks."""
    return int(os.environ.get("RANK", 0)) == 0


def world_size() -> int:
    """The number of processes that a launcher started."""
    return int(os.environ.get("WORLD_SIZE", 1))


def leave_process_group(together: bool) -> None:
    """together: waits for the other processes; gloo aborts some that leave while others compute."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        if together:
            distributed.barrier()
        distributed.destroy_process_group()
