"""Many trainings: on Ray Tune, side by side on a machine or a cluster, or one after the other here.

Ray only distributes the work. All that a training needs to continue is in its own folder, so a
search killed at any moment is continued by starting what is left of it again, on either backend,
and nothing of Ray's pickled state is ever read back. On a cluster the checkout, the data and the
output folder must be at the same path on every node (a shared file system).
"""

import logging
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from re_sln.run.errors import UsageError
from re_sln.run.settings import Backend, Config
from re_sln.search.cores import usable_cores
from shared.errors import UserError, explain

Metrics = dict[str, Any]
Work = Callable[[Config, Callable[[Metrics], None]], None]  # a training that reports its figures
Key = TypeVar("Key")
ROOT = Path(__file__).absolute().parents[2]
# Nothing goes through it; Ray's own 30 % of the memory does not fit a container's /dev/shm.
OBJECT_STORE_BYTES = 80_000_000
RETRIES = 2  # of a training whose process or machine went away


class Failure(NamedTuple):
    """Why a training stopped; status: what the script exits with."""

    status: int
    message: str


class Advice(NamedTuple):
    """What the script that runs the trainings can recommend, with flags that it has."""

    again: str  # how to continue once a disk has space
    not_finite: str  # what to change where a loss is not finite


class Share(NamedTuple):
    """What each of the trainings that run at once gets."""

    at_once: int
    cpus: int
    gpus: float

    def __str__(self) -> str:
        gpus = f", {self.gpus:.2g} GPU" if self.gpus else ""
        return f"{self.at_once} at once, each with {self.cpus} CPU{gpus}"


def run_all(
    backend: Backend,
    jobs: Mapping[Key, Config],
    parameter: str,
    work: Work,
    line: Callable[[Key, Metrics], str],
    advice: Advice,
) -> dict[Key, Failure]:
    """Runs `work` on the settings of each job; returns those that failed.

    A job's key is its value of `parameter` in Ray; its output_dir is its own folder, all in one.
    line: what to print when a job reports.
    """
    if backend.backend == "local":
        return _run_here(jobs, work, line, advice)
    return _run_on_ray(backend, jobs, parameter, work, line, advice)


def _run_here(
    jobs: Mapping[Key, Config], work: Work, line: Callable[[Key, Metrics], str], advice: Advice
) -> dict[Key, Failure]:
    threads, failures = torch.get_num_threads(), {}
    for key, config in jobs.items():

        def show(metrics: Metrics, key: Key = key) -> None:
            print(line(key, metrics), flush=True)

        failure = _attempt(work, config, show, threads, advice)
        if failure is not None:
            failures[key] = failure
    return failures


def _attempt(
    work: Work, config: Config, report: Callable[[Metrics], None], threads: int, advice: Advice
) -> Failure | None:
    """One training; what the user can fix comes back as a message, whatever machine it ran on."""
    torch.set_num_threads(threads)
    try:
        work(config, report)
    except FloatingPointError as error:
        kept = "".join(f". {note}" for note in getattr(error, "__notes__", ()))
        return Failure(3, f"the loss is not finite ({error}): {advice.not_finite}{kept}")
    except UserError as error:
        return Failure(2, str(error))
    except OSError as error:
        return Failure(2, explain(error, advice.again))
    return None


def _run_on_ray(
    backend: Backend,
    jobs: Mapping[Key, Config],
    parameter: str,
    work: Work,
    line: Callable[[Key, Metrics], str],
    advice: Advice,
) -> dict[Key, Failure]:
    folders = {key: _folder(config) for key, config in jobs.items()}
    device = next(iter(jobs.values())).device
    nodes = _connect(backend.ray_address)
    share = share_out(nodes, len(jobs), device, backend.trials_at_once)
    import ray
    from ray import tune

    threads = max(1, share.cpus)
    print(f"Ray: {share}; {threads} thread{'s' * (threads > 1)}", flush=True)
    sent = {key: _for_any_machine(config, share) for key, config in jobs.items()}

    def trial(config: dict[str, Any]) -> None:
        failure = _attempt(work, sent[config[parameter]], tune.report, threads, advice)
        if failure is not None:
            tune.report({"failure": tuple(failure)})

    class Lines(tune.Callback):
        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: Metrics, **_: Any
        ) -> None:
            if "failure" not in result:
                print(line(trial.config[parameter], result), flush=True)

    folder = next(iter(folders.values())).parent
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": share.cpus, "gpu": share.gpus}),
        param_space={parameter: tune.grid_search(list(jobs))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=share.at_once,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: folders[trial.config[parameter]].name,
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
    failures, of_folder = {}, {folder.name: key for key, folder in folders.items()}
    for result in map(results.__getitem__, range(len(results))):
        key = of_folder[Path(result.path).name]
        if result.error is not None:
            reason = str(result.error).strip().splitlines()[-1]
            failures[key] = Failure(1, f"{reason}; more in {jobs[key].output_dir}/error.txt")
        elif result.metrics and "failure" in result.metrics:
            failures[key] = Failure(*result.metrics["failure"])
    return failures


def _folder(config: Config) -> Path:
    assert config.output_dir is not None
    return config.output_dir.absolute()


def _connect(address: str | None) -> list[dict[str, float]]:
    """Joins or starts Ray, quietly and with no usage statistics; the resources of each machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other output prints tables in spite of verbose=0
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the trials write their own files
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": python_path}}}
    if address == "local":
        # Inherited; a runtime_env would start every worker a second time.
        os.environ["PYTHONPATH"] = python_path
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        own["num_cpus"] = usable_cores()
    try:
        import ray

        _knock(address)
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]
    except Exception as error:  # Ray's own failures are of any kind
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if address == "local":
            raise UsageError(
                f"Ray does not start on this machine ({first}): --backend local trains without it, "
                "one after the other"
            ) from error
        raise UsageError(
            f"no Ray at {address} ({first}): start a cluster with `ray start --head`, leave out "
            "--ray_address (and RAY_ADDRESS) for one on this machine, or use --backend local"
        ) from error


def _knock(address: str) -> None:
    """Raises OSError if nobody listens at host:port; Ray itself tries for many minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def share_out(
    nodes: Sequence[Mapping[str, float]], jobs: int, device: str, at_once: int | None
) -> Share:
    """What each job gets of the machines (CPU, GPU of each): whole GPUs unless more run at once."""
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    all_gpus, all_cpus = sum(gpus), sum(cpus)
    if device == "cuda" and not all_gpus:
        raise UsageError("--device cuda: Ray knows of no GPU; leave --device out to auto-select")
    if device in ("auto", "cuda") and all_gpus:
        at_once = at_once or min(jobs, all_gpus)
        on_each = math.ceil(at_once / all_gpus)
        share = min(cpu // (gpu * on_each) for cpu, gpu in zip(cpus, gpus) if gpu)
        return Share(at_once, share, 1 / on_each)
    at_once = min(at_once or jobs, max(1, all_cpus))
    share = max(1, all_cpus // at_once)
    # A job cannot span two machines.
    while share > 1 and sum(cpu // share for cpu in cpus) < at_once:
        share -= 1
    return Share(at_once, share, 0)


def _for_any_machine(config: Config, share: Share) -> Config:
    """The settings for a worker: another working directory, and the device that Ray assigns."""
    return replace(
        config,
        data_path=config.data_path and config.data_path.absolute(),
        cache_dir=config.cache_dir and config.cache_dir.absolute(),
        output_dir=_folder(config),
        noise_file=config.noise_file and os.path.abspath(config.noise_file),
        device="cuda" if share.gpus else config.device,
    )
