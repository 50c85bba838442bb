"""How the tests of the torch projects start several processes, by torchrun, and watch them."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LAST, BEFORE, DECODED = Path("run", "last.ckpt"), "before.ckpt", "decoded"  # of `watch`


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


def run_on_machines(
    script: Path, words: Sequence[str], folders: Sequence[Path]
) -> list[subprocess.CompletedProcess[str]]:
    """One process in each folder, each by a torchrun of its own, as on so many machines."""
    with socket.create_server(("localhost", 0)) as free:
        endpoint = f"localhost:{free.getsockname()[1]}"
    meeting = [f"--nnodes={len(folders)}", "--rdzv_backend=c10d", f"--rdzv_endpoint={endpoint}"]
    start = ["-m", "torch.distributed.run", *meeting, "--nproc_per_node=1", "--", str(script)]
    command = [sys.executable, *start, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen(command, cwd=folder, env=environment(), **pipes) for folder in folders
    ]
    try:
        said = [each.communicate(timeout=300) for each in started]
    finally:
        for each in started:
            each.terminate()  # which ends its processes as well
    return [
        subprocess.CompletedProcess(command, each.returncode, *texts)
        for each, texts in zip(started, said)
    ]


# ---- for scripts that the tests write


def watch(ranks: Any, pictures: Any) -> None:
    """From here on a run of several ranks into the folder `run` tells what it does.

    ranks, pictures: the project's classes `Ranks` and of the dataset that decodes. Where networks
    are not the same on all ranks after an epoch, the run fails. The file DECODED gets a line for
    every picture: the rank, and what the dataset was asked for. BEFORE is the checkpoint that was
    there when the last epoch had been trained, before that epoch's own.
    """
    share, read = ranks.share_buffers, pictures.__getitem__

    def shared(self: Any, *nets: Any) -> None:
        share(self, *nets)
        digest = hashlib.sha256()
        for value in (value for net in nets for value in net.state_dict().values()):
            digest.update(value.numpy().tobytes())
        assert len({*self.each(digest.hexdigest())}) == 1, "the ranks differ"
        if self.is_first and LAST.exists():
            shutil.copy(LAST, BEFORE)

    def noted(self: Any, item: Any) -> Any:
        with open(DECODED, "a") as file:
            file.write(json.dumps([int(os.environ["RANK"]), *item]) + "\n")
        return read(self, item)

    ranks.share_buffers, pictures.__getitem__ = shared, noted


def decoded(folder: Path) -> list[list[Any]]:
    """What a run that was watched decoded there: of each picture its rank and the item."""
    return [json.loads(line) for line in (folder / DECODED).read_text().splitlines()]
