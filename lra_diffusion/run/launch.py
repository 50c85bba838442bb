"""Several processes for one run, one for each GPU: by torchrun, or by `--gpu_devices 0 1 2 3`.

    torchrun --nproc_per_node=4 -- SCRIPT ...                            # one machine
    torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d \
        --rdzv_endpoint=HOST:29400 -- SCRIPT ...                         # on each of two

Without the -- torchrun takes a flag of the script, such as --p, for one of its own cut short.
Kept byte-identical in every torch project.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from ..method.ranks import ALONE, Ranks
from .errors import PeerError, UsageError, of_rank

JOIN = timedelta(seconds=50)  # for all to start: torchrun starts none before all machines have met
JOIN_BY_HAND = timedelta(minutes=10)  # where something else set RANK and WORLD_SIZE
WAIT = timedelta(hours=2)  # for another rank, which may be decoding a million pictures
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Read error")


def start_on(gpu_devices: Sequence[int] | None) -> None:
    """Where --gpu_devices names several GPUs: becomes torchrun with this command on those there.

    Does nothing under torchrun, and where one of them is there or none. Raises UsageError.
    """
    if gpu_devices is None:
        return
    asked = " ".join(map(str, gpu_devices))
    if min(gpu_devices) < 0 or len(set(gpu_devices)) < len(gpu_devices):
        raise UsageError(
            f"--gpu_devices {asked}: different numbers from 0 on, as nvidia-smi shows them"
        )
    if len(gpu_devices) < 2 or "WORLD_SIZE" in os.environ:
        return
    count = torch.cuda.device_count()
    there = [number for number in gpu_devices if number < count]
    if len(there) < len(gpu_devices):
        print(f"note: --gpu_devices {asked}: this machine has {count} GPUs")
    if len(there) < 2:
        return
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names.split(",")[number] for number in there)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(there))))
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={len(there)}"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *torchrun, "--", *sys.argv])


def alone_only(why: str) -> None:
    """Refuses to be one of several processes. Raises UsageError."""
    if of_rank():
        script = Path(sys.argv[0]).name
        raise UsageError(f"{script} runs in one process ({why}): start it without torchrun")


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started for this run, connected until the block ends.

    From here on the first one alone prints; errors of the others are still seen. Raises UsageError,
    and PeerError where another one does not start or ends before its time.
    """
    if not of_rank():
        yield ALONE
        return
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"several processes train on CUDA or CPUs, not on {device}: --device cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    ranks = _connect("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    if not ranks.is_first:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
        sys.stderr.isatty = lambda: False  # type: ignore[method-assign]  # so tqdm shows no bar
    try:
        yield ranks
        ranks.wait()  # the first one writes the report; what fails there ends all
        dist.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in LOST):
            raise PeerError(
                "another process of this run has ended, see its message; after that `torchrun ... "
                "--resume` goes on from the last checkpoint"
            ) from error
        raise


def _connect(backend: str) -> Ranks:
    """All processes start within JOIN(_BY_HAND), then wait for each other for WAIT."""
    by_torchrun = dist.is_torchelastic_launched()
    patience = JOIN if by_torchrun else JOIN_BY_HAND
    reach = JOIN / 2 if by_torchrun else JOIN_BY_HAND  # its store is there; torch tries twice
    try:
        store, rank, size = next(rendezvous("env://", timeout=reach))
        store.set(f"started {rank}", "")
        _wait_for_all(store, size, patience)
    except dist.DistError as error:
        raise PeerError(
            f"not all processes of this run started within {patience}: see their messages, and "
            "whether the machines reach each other"
        ) from error
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    return Ranks(rank, size)


def _wait_for_all(store: Any, size: int, patience: timedelta) -> None:
    started = {rank: f"started {rank}" for rank in range(size)}
    try:
        store.wait([*started.values()], patience)
    except dist.DistError as error:
        missing = [str(rank) for rank, key in started.items() if not store.check([key])]
        if not missing:
            return
        raise PeerError(
            f"not all processes of this run started within {patience}: rank {', '.join(missing)} "
            f"of {size} is missing, see its message, and whether the machines reach each other"
        ) from error


@contextmanager
def first_on_its_machine(ranks: Ranks) -> Iterator[None]:
    """One process of a machine runs the block, then the others: what is downloaded is there."""
    if ranks.size == 1:
        yield
        return
    is_first = os.environ["LOCAL_RANK"] == "0"
    if not is_first:
        ranks.wait()
    yield
    if is_first:
        ranks.wait()


def check_same(found: Mapping[str, Any], ranks: Ranks) -> None:
    """Raises UsageError on a rank that does not find what the first one does, and no more.

    Else one of them would wait for the others in vain.
    """
    first = ranks.each(found)[0]
    for name in sorted({*found, *first}):  # a flag may be given to one of them alone
        if found.get(name) != first.get(name):
            raise UsageError(
                f"{name} is {found.get(name)} here and {first.get(name)} in the first process: "
                "give all machines the same data, weights and flags (bf16: --amp off, where one of "
                "them has no bfloat16)"
            )
