"""The search for sigma: a trial for each value, and the one with the best validation accuracy."""

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from re_sln.analysis import curves
from re_sln.analysis.accuracy_tables import aligned
from re_sln.method.train import Row
from re_sln.run import checkpoint
from re_sln.run.device import choose_device
from re_sln.run.errors import CheckpointError
from re_sln.run.experiment import Experiment, prepare, same_run
from re_sln.run.places import pinned
from re_sln.run.record import read_config, write_config
from re_sln.run.report import PUBLISHED_KEYS, write_published_config
from re_sln.run.settings import Config, SearchConfig
from re_sln.search import ray_backend
from re_sln.search.ray_backend import Advice
from re_sln.search.sigma_trial import (
    GRID,
    METRICS,
    TIME_FORMAT,
    read_rows,
    train_trial,
    trial_names,
)
from shared.files import write_atomically
from shared.run_folder import is_locked, locked

Results = Mapping[float, list[Row]]  # the rows of the finished trials by sigma


def search(config: SearchConfig) -> int:
    """Runs or continues the search, says which sigma is best, draws hp.png; the exit status."""
    config, sample = _check(config)
    folder = _find_folder(config, sample)
    with locked(folder):
        _refuse_begun(config.training)
        return _run(config, sample, folder)


def _run(config: SearchConfig, sample: Experiment, folder: Path) -> int:
    recorded, time = read_config(folder) or {}, datetime.now().strftime(TIME_FORMAT)
    names = recorded.get("trials") or trial_names(time)
    trials = dict(zip(GRID, (folder / name for name in names)))
    jobs = {sigma: _job(config, sigma, trial) for sigma, trial in trials.items()}
    n_epochs = config.training.n_epochs
    done = {sigma: len(read_rows(trial)) for sigma, trial in trials.items()}
    if max(done.values()) > n_epochs:
        raise CheckpointError(
            f"the search has done {max(done.values())} epochs already: --n_epochs {n_epochs} "
            "cannot shorten it"
        )
    _write_config(config, sample, folder, names)  # a prolonged search has other epochs by now
    left = {sigma: job for sigma, job in jobs.items() if done[sigma] < n_epochs}
    _print_start(config, sample, folder, len(left))

    def line(sigma: float, metrics: Mapping[str, Any]) -> str:
        known = [f"{name}={metrics[name]:.4f}" for name in METRICS if name in metrics]
        return f"sigma={sigma:g} epoch={metrics['epoch']}/{n_epochs}, {', '.join(known)}"

    work = partial(train_trial, config.held_out)
    advice = Advice("run the same command with --resume", "lower --lr, or try --amp off")
    failures = {}
    if left:
        failures = ray_backend.run_all(config.backend, left, "sigma", work, line, advice)
    rows = {sigma: read_rows(trial) for sigma, trial in trials.items()}
    results = {sigma: found for sigma, found in rows.items() if len(found) >= n_epochs}
    if any(sigma not in results and sigma not in failures for sigma in left):
        raise KeyboardInterrupt  # Ray stops its trials itself and comes back
    print(table(results, {sigma: failure.message for sigma, failure in failures.items()}))
    if results:
        _print_best(config, results, folder)
    return max((failure.status for failure in failures.values()), default=0)


def _check(config: SearchConfig) -> tuple[SearchConfig, Experiment]:
    """Reads data and noise once, so that problems with them are reported before any trial runs.

    The settings come back with the rate that a noise file names, and with $DATA_ROOT, which may
    be unknown to a cluster.
    """
    training = config.training
    _refuse_begun(training)
    if config.backend.ray_address is None:
        choose_device(training.device)
    training = replace(training, data_path=pinned(training.data_path))
    here = replace(training, device="cpu", amp="off", output_dir=None, resume=False)
    sample = prepare(here, config.held_out)
    return replace(config, training=replace(training, p=sample.config.p)), sample


def _refuse_begun(training: Config) -> None:
    folder = training.output_dir
    if folder is not None and not training.resume and (folder / "config.yaml").exists():
        raise CheckpointError(
            f"{folder} holds a search or a run already: add --resume to continue it, or choose "
            "another --output_dir"
        )


def _identity(config: SearchConfig, sample: Experiment) -> dict[str, Any]:
    """What decides every number of the search."""
    settings = {k: v for k, v in sample.identity.items() if k not in ("sigma", "bf16")}
    held_out = config.held_out
    return settings | {"val_size": held_out.val_size, "augment_val": held_out.augment_val}


def _find_folder(config: SearchConfig, sample: Experiment) -> Path:
    """The folder of the search: --output_dir, or the newest of equal settings, or a new one.

    A folder that a living process holds is not taken, unless it is --output_dir.
    """
    given, settings = config.training.output_dir, _identity(config, sample)
    if config.training.resume:
        if given:
            recorded = read_config(given) or {}
            if "trials" in recorded:
                checkpoint.refuse_other_run(recorded["identity"], settings)
                return given
            if "exp_id" in recorded:
                raise CheckpointError(f"{given} holds a training run: choose another --output_dir")
        else:
            for folder in sorted(Path("hp").glob("hp_*"), reverse=True):
                recorded = read_config(folder) or {}
                is_search = "trials" in recorded
                if is_search and same_run(recorded, settings) and not is_locked(folder):
                    return folder
        print("note: no search of these settings, starting a new one")
    if given:
        return given
    name = f"hp_{datetime.now().strftime(TIME_FORMAT)}"
    folders = (Path("hp") / f"{name}{f'-{n}' if n > 1 else ''}" for n in itertools.count(1))
    return next(folder for folder in folders if not folder.exists())


def _write_config(
    config: SearchConfig, sample: Experiment, folder: Path, trials: Sequence[str]
) -> None:
    """Writes what the search is. trials: names of their folders, in the order of the grid."""
    outcome = {
        "grid": list(GRID),
        "trials": list(trials),
        "measured_noise_rate": sample.data.noise.header.measured_rate,
        "identity": _identity(config, sample),
    }
    write_config(folder, {"exp_id": folder.name, **config.record(), **outcome})
    write_published_config(folder, config.training, folder.name, sigma=None)


def _job(config: SearchConfig, sigma: float, folder: Path) -> Config:
    """The settings of a trial; custom noise is made by now."""
    training = replace(config.training, make_new_custom_noise=False, resume=True)
    return replace(training, sigma=sigma, output_dir=folder)


def choose(results: Results) -> float:
    """The sigma whose last validation accuracy is highest; of equal ones the smallest."""
    return max(sorted(results), key=lambda sigma: float(results[sigma][-1]["accuracy_val"]))


def table(results: Results, failed: Mapping[float, str]) -> str:
    """A line for each sigma: validation accuracy, and the other figures of the last epoch."""
    names = ("accuracy_train", "loss_train", "loss_train_noisy", "loss_train_clean", "loss_val")
    titles = ("train acc", "loss train", "noisy", "clean", "loss val")
    lines = [["sigma", "val acc last", "val acc best (epoch)", *titles]]
    for sigma, rows in sorted(results.items()):
        last, best = rows[-1], max(rows, key=lambda row: float(row["accuracy_val"]))
        accuracy = f"{best['accuracy_val']:.4f} ({best['training_iteration']:g})"
        figures = ["-" if last[name] is None else f"{last[name]:.4f}" for name in names]
        lines.append([f"{sigma:g}", f"{last['accuracy_val']:.4f}", accuracy, *figures])
    stopped = [f"{sigma:g}  stopped: {reason}" for sigma, reason in sorted(failed.items())]
    return "\n".join([aligned(lines), *stopped])


# ---- what is printed


def _judge(config: SearchConfig) -> str:
    """Whose accuracy decides, on which images."""
    model = "the EMA model" if config.training.mo else "the network itself"
    images = "augmented" if config.held_out.augment_val else "un-augmented"
    return f"accuracy of {model} on {images} held-out images, noisy labels"


def _print_start(config: SearchConfig, sample: Experiment, folder: Path, left: int) -> None:
    training, data = config.training, sample.data
    rate = data.noise.header.measured_rate
    noise = "labels unchanged"
    if rate is not None:
        noise = f"{training.noise_file or training.noise_mode}, measured rate {rate:.4f}"
    print(
        f"sigma of {training.method_name} on {training.dataset_name}: "
        f"{len(data.train_set.noisy)} training images, {len(data.test_sets['val'].labels)} held "
        f"out; noise: {noise}"
    )
    for remark in data.remarks:
        print(remark)
    print(f"chosen by the {_judge(config)}, after the last epoch; folder {folder}")
    how = "Ray Tune" if config.backend.backend == "ray" else "one after the other"
    print(f"{left} of {len(GRID)} trials to run: {how}", flush=True)


def _print_best(config: SearchConfig, results: Results, folder: Path) -> None:
    training, sigma = config.training, choose(results)
    last = results[sigma][-1]
    title = f"{training.method_name} on {training.dataset_name}: {_judge(config)}"
    write_atomically(folder / "hp.png", curves.sigma_search(title, results, sigma))
    print(
        f"best: sigma={sigma:g}, accuracy_val={last['accuracy_val']:.4f}, "
        f"loss_val={last['loss_val']:.4f}, accuracy_train={last['accuracy_train']:.4f} in epoch "
        f"{last['training_iteration']:g} ({_judge(config)})"
    )
    names = [name for name in PUBLISHED_KEYS if name != "exp_id"]
    chosen = {**{name: getattr(training, name) for name in names}, "sigma": sigma}
    print("its config: " + ", ".join(f"{name}={value}" for name, value in chosen.items()))
    print(f"curves: {folder / 'hp.png'}")
    script, settings = Path(__file__).parents[1] / "train_cifar.py", folder / "config.yaml"
    flags = ["--config", settings, "--sigma", f"{sigma:g}", "--n_epochs", training.n_epochs]
    print(f"train with it: {shlex.join(['python', str(script), *map(str, flags)])}")
