"""Runs many trainings: on Ray Tune, side by side on a machine or a cluster, or one after the other
in this process.

Ray only shares out the work. All that a training needs to go on lies in its own folder, so a search
killed at any moment is continued by starting what is left of it again, on either backend, and
nothing of Ray's pickled state is ever read back. On a cluster the checkout, the data and the output
folder must be at the same path on every node (a shared file system).
"""

import argparse
import logging
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from re_sln.options import UsageError
from re_sln.run import BAD_INPUT
from re_sln.train import NonFiniteLossError

Metrics = dict[str, Any]
Work = Callable[
    [argparse.Namespace, Callable[[Metrics], None]], None
]  # a training that reports its figures
ROOT = Path(__file__).absolute().parents[1]
# nothing goes through it; Ray's own 30 % of the memory does not fit a container's /dev/shm
OBJECT_STORE_BYTES = 80_000_000
RETRIES = 2  # of a training whose process or machine went away


class Failure(NamedTuple):
    """Why a training stopped; status: what the script exits with."""

    status: int
    message: str


class Share(NamedTuple):
    """What each of the trainings that run at once gets."""

    at_once: int
    cpus: int
    gpus: float

    def __str__(self) -> str:
        gpus = f", {self.gpus:.2g} GPU" if self.gpus else ""
        return f"{self.at_once} at once, each with {self.cpus} CPU{gpus}"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("where it runs").add_argument
    add(
        "--backend",
        choices=("ray", "local"),
        default="ray",
        help="Ray Tune, or one training after the other in this process, without Ray (ray)",
    )
    add(
        "--ray_address",
        metavar="ADDRESS",
        help="a Ray cluster that runs already, host:port or auto; checkout, data and "
        "output at the same path on all its machines (starts Ray on this one)",
    )
    add(
        "--trials_at_once",
        type=int,
        metavar="N",
        help="with Ray: so many side by side, sharing GPUs, else CPU cores "
        "(one for each GPU, else for each core)",
    )


def check_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses what does not fit together."""
    if args.backend == "local" and (args.ray_address or args.trials_at_once):
        parser.error("--ray_address and --trials_at_once are Ray's: drop them, or --backend local")
    if args.trials_at_once is not None and args.trials_at_once < 1:
        parser.error(f"--trials_at_once {args.trials_at_once}: must be at least 1")
    if args.backend == "ray" and args.device.startswith("cuda:"):
        parser.error(
            f"--device {args.device}: Ray hands out the GPUs itself, say --device cuda; "
            "CUDA_VISIBLE_DEVICES="
            f"{args.device[5:]} in front of the command leaves it only that one"
        )


def run_all(
    flags: argparse.Namespace,
    jobs: Mapping[Any, argparse.Namespace],
    parameter: str,
    work: Work,
    line: Callable[[Any, Metrics], str],
) -> dict[Any, Failure]:
    """Runs `work` on the arguments of each job; returns those that failed.

    flags: backend, ray_address, trials_at_once, device. A job's key is its value of `parameter` in
    Ray; its output_dir is its own folder, all in one. line: what to print when a job reports.
    """
    if flags.backend == "local":
        return _run_here(jobs, work, line)
    return _run_on_ray(flags, jobs, parameter, work, line)


def _run_here(
    jobs: Mapping[Any, argparse.Namespace], work: Work, line: Callable[[Any, Metrics], str]
) -> dict[Any, Failure]:
    threads, failures = torch.get_num_threads(), {}
    for value, args in jobs.items():
        failure = _attempt(
            work,
            args,
            lambda metrics, value=value: print(line(value, metrics), flush=True),
            threads,
        )
        if failure is not None:
            failures[value] = failure
    return failures


def _attempt(
    work: Work, args: argparse.Namespace, report: Callable[[Metrics], None], threads: int
) -> Failure | None:
    """One training; what the user can mend comes back as a message, whatever machine it ran on."""
    torch.set_num_threads(threads)
    try:
        work(args, report)
    except NonFiniteLossError as error:
        return Failure(3, f"the loss is not finite ({error}): lower --lr, or try --amp off")
    except BAD_INPUT as error:
        return Failure(2, str(error))
    return None


def _run_on_ray(
    flags: argparse.Namespace,
    jobs: Mapping[Any, argparse.Namespace],
    parameter: str,
    work: Work,
    line: Callable[[Any, Metrics], str],
) -> dict[Any, Failure]:
    share = share_out(_connect(flags.ray_address), len(jobs), flags.device, flags.trials_at_once)
    import ray
    from ray import tune

    threads = max(1, share.cpus)
    print(f"Ray: {share}; {threads} thread{'s' * (threads > 1)}", flush=True)
    sent = {value: _for_any_machine(args, share) for value, args in jobs.items()}

    def trial(config: dict[str, Any]) -> None:
        failure = _attempt(work, sent[config[parameter]], tune.report, threads)
        if failure is not None:
            tune.report({"failure": tuple(failure)})

    class Lines(tune.Callback):
        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: Metrics, **_: Any
        ) -> None:
            if "failure" not in result:
                print(line(trial.config[parameter], result), flush=True)

    folder = next(iter(jobs.values())).output_dir.absolute().parent
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": share.cpus, "gpu": share.gpus}),
        param_space={parameter: tune.grid_search(list(jobs))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=share.at_once,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: jobs[trial.config[parameter]].output_dir.name,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            verbose=0,
            callbacks=[Lines()],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )
    try:
        results = tuner.fit()
    finally:
        ray.shutdown()
    failures, of_folder = {}, {args.output_dir.name: value for value, args in jobs.items()}
    for result in results:
        value = of_folder[Path(result.path).name]
        if result.error is not None:
            reason = str(result.error).strip().splitlines()[-1]
            failures[value] = Failure(
                1, f"{reason}; more in {jobs[value].output_dir / 'error.txt'}"
            )
        elif result.metrics and "failure" in result.metrics:
            failures[value] = Failure(*result.metrics["failure"])
    return failures


def _connect(address: str | None) -> list[dict[str, float]]:
    """Joins or starts Ray, quietly and without a word to anybody outside; the resources of each
    machine.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other output prints tables in spite of verbose=0
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the trials write their own files
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": python_path}}}
    if address == "local":
        os.environ["PYTHONPATH"] = (
            python_path  # inherited; a runtime_env would start every worker a second time
        )
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except (OSError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UsageError(
            f"no Ray at {address} ({first}): start a cluster with `ray start --head`, leave out "
            "--ray_address"
            " (and RAY_ADDRESS) for one on this machine, or take --backend local"
        ) from error
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _knock(address: str) -> None:
    """Raises OSError if nobody listens at host:port; Ray itself tries for many minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def share_out(
    nodes: Sequence[Mapping[str, float]], jobs: int, device: str, at_once: int | None
) -> Share:
    """What each job gets of the machines, given the CPU and GPU that each has: whole GPUs, unless
    more are asked at once.
    """
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    if device == "cuda" and not sum(gpus):
        raise UsageError(
            "--device cuda: Ray knows of no GPU; leave --device out to take what it has"
        )
    if device in ("auto", "cuda") and sum(gpus):
        at_once = at_once or min(jobs, sum(gpus))
        on_each = math.ceil(at_once / sum(gpus))
        share = min(cpu // (gpu * on_each) for cpu, gpu in zip(cpus, gpus) if gpu)
        return Share(at_once, share, 1 / on_each)
    at_once = min(at_once or jobs, max(1, sum(cpus)))
    share = max(1, sum(cpus) // at_once)
    while (
        share > 1 and sum(cpu // share for cpu in cpus) < at_once
    ):  # a job cannot span two machines
        share -= 1
    return Share(at_once, share, 0)


def _for_any_machine(args: argparse.Namespace, share: Share) -> argparse.Namespace:
    """The same arguments where the working directory is another one, and the device is the one that
    Ray assigns.
    """
    absolute = {
        name: value.absolute()
        for name in ("data_path", "output_dir")
        if (value := getattr(args, name))
    }
    if args.noise_file:
        absolute["noise_file"] = os.path.abspath(args.noise_file)
    return argparse.Namespace(
        **{**vars(args), **absolute, "device": "cuda" if share.gpus else args.device}
    )
