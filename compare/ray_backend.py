"""The same jobs as tasks of Ray, on this machine or a cluster that shares the folders.

Ray only distributes the work: a job's folder holds all that it needs to continue, so that a killed
comparison goes on with either backend. With GPUs each task gets one, else two cores. The checkout,
the data and the comparison's folder must be at the same path on every machine.
"""

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compare.plan import ROOT, Job
from compare.run import Outcome, counted, estimate, run_job, told, warnings
from shared.errors import UserError

CORES = 2  # of a task where there is no GPU


def run_jobs(
    jobs: Sequence[Job], address: str, say: Callable[[str], None] = print
) -> list[Outcome]:
    """All of them, as many at once as the machines allow, with a line before and after each.

    address: auto (a cluster that runs on this machine, else a Ray of its own), local or host:port.
    Raises UserError where there is no Ray.
    """
    ray = _connect(address)
    try:
        share = share_of([node["Resources"] for node in ray.nodes() if node["Alive"]])
        say(f"Ray: {counted(len(jobs), 'task')}, each with {_words(share)}")
        task = ray.remote(max_retries=1, **share)(run_job)
        for job in jobs:
            say(f"{job.title}: {estimate(job)}; {job.folder}")
        waiting = {task.remote(job): job for job in jobs}
        outcomes = {}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            outcomes[job.folder] = _result(ray, done, job)
            say(f"[{len(outcomes)}/{len(jobs)}] {job.title}: {told(outcomes[job.folder])}")
            for line in warnings(outcomes[job.folder]):
                say(f"      {line}")
        return [outcomes[job.folder] for job in jobs]
    finally:
        ray.shutdown()


def _result(ray: Any, done: Any, job: Job) -> Outcome:
    """How a task ended; one whose machine went away for good has failed like a script."""
    try:
        outcome: Outcome = ray.get(done)
    except ray.exceptions.RayError as error:
        return Outcome(job, 1, 0, str(error).strip().splitlines()[-1])
    return outcome


def share_of(nodes: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """What a task gets of the machines (CPU and GPU of each), so that it fits on one of them."""
    cores = [(int(node.get("CPU", 1)), int(node.get("GPU", 0))) for node in nodes]
    beside_gpus = [cpus // gpus for cpus, gpus in cores if gpus]
    if beside_gpus:
        return {"num_gpus": 1, "num_cpus": max(1, min(beside_gpus))}
    return {"num_cpus": max(1, min(CORES, max(cpus for cpus, _ in cores)))}


def _words(share: dict[str, int]) -> str:
    return "one GPU" if "num_gpus" in share else counted(share["num_cpus"], "core")


def _connect(address: str) -> Any:
    """Ray, joined or started, quietly and with no usage statistics."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Inherited by workers that are started here; those of a cluster get it from runtime_env.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    import ray  # slow, and needed by nobody else

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    cluster = quiet | {"runtime_env": {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}}
    try:
        if address == "auto":
            try:
                ray.init("auto", **cluster)
            except ConnectionError:  # none runs here
                address = "local"
        if address == "local":
            ray.init("local", include_dashboard=False, **quiet)
        elif not ray.is_initialized():
            _knock(address)
            ray.init(address, **cluster)
    except Exception as error:  # Ray's own failures are of any kind
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"no Ray at {address} ({first}): start a cluster with `ray start --head`, or leave "
            "--ray out (make: RAY) to run one after the other here"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Raises OSError if nobody listens at host:port; Ray itself tries for many minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
