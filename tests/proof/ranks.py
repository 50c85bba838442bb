"""A run of two processes, joined as torchrun or TF_CONFIG join them, without a launcher: when one
of them is killed, nobody ends what is left.
"""

import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from tests.proof.process import HANGS, HELD, KILLED, Ended, Started, start
from tests.proof.projects import RUN

COUNT = 2
PATIENCE = 60.0  # seconds that a rank may take to notice the end of another


def run_until(words: Sequence[str], folder: Path, delay: float, moments: random.Random) -> Ended:
    """Runs a command as COUNT ranks, and kills some of them, drawn by chance, `delay` seconds after
    one holds the run folder in `folder`. What is left must end by itself, and say why.
    """
    holder = folder / RUN / HELD
    holder.unlink(missing_ok=True)
    ranks, begun = _started(words, folder), time.monotonic()
    while not _are_over(ranks) and not holder.exists() and time.monotonic() < begun + HANGS:
        time.sleep(0.002)
    begun = time.monotonic()
    while not _are_over(ranks) and time.monotonic() < begun + delay:
        time.sleep(0.002)
    victims = [] if _are_over(ranks) else _drawn(ranks, moments)
    for rank in victims:
        os.killpg(rank.pid, signal.SIGKILL)
    ends = [rank.ended(begun, PATIENCE) for rank in ranks]
    seconds = max(each.seconds for each in ends)
    left = [end for rank, end in zip(ranks, ends) if rank not in victims]
    if any(end.status == KILLED for end in left):
        return Ended(1, f"a rank did not end within {PATIENCE:.0f} s of the other", seconds)
    expected = (0, 2) if victims else (0,)
    if wrong := [end for end in left if end.status not in expected or "Traceback" in end.errors]:
        return wrong[0]
    return Ended(KILLED if victims else 0, "", seconds)


def _are_over(ranks: Sequence[Started]) -> bool:
    return all(rank.is_over() for rank in ranks)


def _drawn(ranks: Sequence[Started], moments: random.Random) -> Sequence[Started]:
    """One of them, or all, as when a machine dies."""
    return moments.choice([*([rank] for rank in ranks), ranks])


def _started(words: Sequence[str], folder: Path) -> list[Started]:
    ports = _free_ports()
    return [start(words, folder, variables=_joining(rank, ports)) for rank in range(COUNT)]


def _joining(rank: int, ports: Sequence[int]) -> dict[str, str]:
    """What torchrun would say, and what TensorFlow reads; each framework minds its own."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    tensorflow = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
    return {
        "WORLD_SIZE": str(COUNT),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(ports[0]),
        "TF_CONFIG": json.dumps(tensorflow),
    }


def _free_ports() -> list[int]:
    """One for each rank, different ones."""
    with contextlib.ExitStack() as held:
        return [
            held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for _ in range(COUNT)
        ]
