"""How many CPU cores this process may use, which on a shared machine are not all there are."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU in so many


def usable_cores() -> int:
    """The fewest of: the cores this process may run on, Slurm's share of them, a container's."""
    return max(1, min(filter(None, (_affinity(), _of_slurm(), _of_container()))))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS, Windows


def _of_slurm() -> int | None:
    """Cores of this task, else those of the job on this machine."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if (value := os.environ.get(name, "")).isdecimal():
            return int(value)
    return None


def _of_container() -> int | None:
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # none, or "max"
        return None
