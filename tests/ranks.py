"""How the tests of the torch projects start several processes, as torchrun does on one machine."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def torchrun(script: Path, words: Sequence[str], count: int = 2) -> list[str]:
    """The command `torchrun --nproc_per_node=<count> -- <script> <words>`."""
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", "--"]
    return [sys.executable, *start, str(script), *words]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(
    script: Path, words: Sequence[str], folder: Path, count: int = 2
) -> subprocess.CompletedProcess[str]:
    """Runs it in a folder to its end; five minutes without one count as a hang."""
    command = torchrun(script, words, count)
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )
