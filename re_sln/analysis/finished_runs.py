"""Finished runs, found and read: ours and the folders that the original re-sln left.

    run = find("exp_2021-12-08 11:28:45.265396")        # in the working directory: configs/, runs/
    run = find("runs/digits-sln")                       # an --output_dir, or a run folder elsewhere
    run = find("re_sln/results/digits_sym0.4_ce_seed1.csv")   # a curve, with settings as remarks
    read_rows(run), load_model(run)

The one reader of settings and rows. Accuracies are in percent. Nothing that is read is executed.
"""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from torch import nn

from re_sln.method.networks import network_from
from re_sln.method.train import Row
from re_sln.run import checkpoint
from re_sln.run.errors import UsageError
from re_sln.run.labels import KINDS, rate_name
from re_sln.run.presets import HUMAN_NOISE, NOISE_MODES, PRESETS, name_of_method
from shared import plain_yaml, run_folder
from shared.errors import UserError
from shared.formats.noise_file import NoiseFileError, read
from shared.runs.methods import RE_SLN
from shared.runs.reader import Run as OtherRun
from shared.runs.reader import find_runs, read_curve_file

NEEDED = ("dataset_name", "sigma", "mo", "lc_n_epoch", "n_epochs", "seed")
WHOLE, LIMIT = ("lc_n_epoch", "n_epochs", "seed"), 2**63  # of the numbers among them
SUB_RUNS = {
    "loss_train": "loss_train_all",
    "loss_train_noisy": "loss_train_noisy",
    "loss_train_clean": "loss_train_clean",
}
# Of what a noise file says.
MODES = {**{kind: mode for mode, kind in KINDS.items()}, "pair_flip": "asym"}


@dataclass(frozen=True)
class Run:
    """Where a run's files are, and its settings.

    settings: the original's keys, `method`, and for our runs all of config.yaml.
    """

    exp_id: str
    settings: dict[str, Any]  # empty: a curve whose settings nobody wrote down
    folder: Path  # metrics.jsonl or event files; a .csv file: the curve itself
    models: Path  # model.pth, model_ema.pth
    assets: Path  # where pictures of the run go


def find(name: str) -> Run:
    """The run of that exp_id in the working directory, or of that folder or curve.

    Raises UsageError.
    """
    given = Path(name)
    if given.suffix == ".csv":
        return _curve(given)
    home = given.absolute().parent.parent
    published = home / "configs" / given.name / "config.yml"
    if given.parent.name in ("configs", "runs") and published.is_file():
        return _of_id(home, given.name)
    if (given / "config.yaml").is_file() or (given / "config.yml").is_file():
        return _of_folder(given)
    return _of_id(Path(), name)


class Found(NamedTuple):
    """What is at or below some places."""

    runs: list[Run]  # ours and the original's
    others: list[OtherRun]  # of other projects
    left_out: list[str]  # what was not read, and why


def find_all(places: Sequence[Path]) -> Found:
    """Every run at or below the places, each once; searches and curves without settings are not.

    places: run folders, folders that contain such, working directories of re-sln, or curves (.csv).
    """
    for place in places:
        if not place.exists():
            raise UsageError(
                f"{place}: no such folder; give one that contains run folders, or configs/ and "
                "runs/"
            )
    kept = [path for place in places for path in sorted(place.glob("*.csv"))]
    configs = [path.parent for place in places for path in sorted(place.rglob("config.yml"))]
    known, unread = find_runs([*places, *kept])
    found: dict[Path, Run] = {}
    left_out = {folder: f"{folder}: {reason}" for folder, reason in unread}
    for folder in [*(run.folder for run in known if run.project == RE_SLN), *configs]:
        try:
            run = find(str(folder))
            found.setdefault(run.folder.resolve(), run)
        except UserError as error:
            left_out[folder] = str(error)
    for folder in [*left_out]:
        of_search = any((one / "params.json").exists() for one in (folder, *folder.glob("*")))
        is_read = folder.resolve() in found or any(folder in one.parents for one in configs)
        if of_search or is_read or folder in kept:
            del left_out[folder]
    others = [run for run in known if run.project not in (RE_SLN, "")]
    return Found(list(found.values()), others, list(left_out.values()))


def _of_id(home: Path, exp_id: str) -> Run:
    """A run as the original lays it out below its working directory."""
    folder, published = home / "runs" / exp_id, home / "configs" / exp_id / "config.yml"
    settings = _settings([published, folder / "config.yaml"])
    if settings is None:
        raise UsageError(
            f"no experiment {exp_id!r}: neither {published} nor {folder / 'config.yaml'} in "
            f"{Path.cwd()}; give the exp_id of a run of this folder (quoted, it has a space in "
            "it), or the path of a run folder"
        )
    return Run(exp_id, settings, folder, home / "saved_models" / exp_id, Path("assets") / exp_id)


def _of_folder(folder: Path) -> Run:
    """A run whose files are all in one folder, its --output_dir."""
    settings = _settings([folder / "config.yml", folder / "config.yaml"])
    assert settings is not None
    return Run(str(settings.get("exp_id") or folder.name), settings, folder, folder, folder)


def _curve(path: Path) -> Run:
    """A curve kept as .csv; its leading comments are YAML, or ordinary remarks."""
    try:
        settings = checked_settings(read_curve_file(path).config, path)
    except UsageError:
        settings = {}
    return Run(path.stem, settings, path, path.parent, path.parent)


def _settings(paths: Sequence[Path]) -> dict[str, Any] | None:
    """What the config files say together, later ones first; None if none is there."""
    settings: dict[str, Any] = {}
    present = [path for path in paths if path.is_file()]
    for path in present:
        try:
            content = plain_yaml.safe_load(path.read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise UsageError(
                f"{path} is no config of a run: it holds {type(content).__name__}, not settings "
                "by name"
            )
        settings |= content
    return checked_settings(settings, present[-1]) if present else None


def checked_settings(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings with their method; UsageError for those of a search or another project."""
    if missing := [name for name in NEEDED if settings.get(name) is None]:
        raise UsageError(f"{path} is no config of a run: it does not say {', '.join(missing)}")
    dataset, mode = settings["dataset_name"], settings.get("noise_mode")
    if dataset not in [*PRESETS] or mode not in (None, *NOISE_MODES):  # either may be a list
        raise UsageError(
            f"{path}: there is no {mode or 'noise'} on {dataset!r} in this project; its data are "
            f"{', '.join(PRESETS)}, its noise {', '.join(NOISE_MODES)}"
        )
    numbers = {name: settings[name] for name in NEEDED[1:]}
    numbers |= {"p": settings["p"]} if settings.get("p") is not None else {}
    if wrong := [name for name, value in numbers.items() if not _is_usable(value, name in WHOLE)]:
        raise UsageError(
            f"{path}: {', '.join(f'{name} is {settings[name]!r}' for name in wrong)}, not a usable "
            "number"
        )
    method = name_of_method(settings["sigma"], settings["mo"], settings["lc_n_epoch"])
    return {**settings, "method": method}


def _is_usable(value: Any, whole: bool) -> bool:
    """Is it a number, and neither NaN nor out of all proportion?"""
    return isinstance(value, int if whole else int | float) and -LIMIT < value < LIMIT


# ---- what kind of noise


def noise_mode(run: Run) -> str | None:
    """sym, asym, openset, dependent, whose labels they are, or what its noise file calls it.

    None: no noise was added.
    """
    if run.settings["dataset_name"] in HUMAN_NOISE:
        return str(run.settings.get("noise_type"))
    mode: str | None = run.settings.get("noise_mode")
    if mode is not None or not run.settings.get("noise_file"):
        return mode
    try:
        kind = read(run.folder / "noise.npz").header.kind
    except NoiseFileError:
        kind = None
    name = MODES.get(kind, kind) if kind else Path(str(run.settings["noise_file"])).stem
    return re.sub(r"[^\w.+-]+", "_", name)  # it becomes part of file names


def noise_source(run: Run) -> str | None:
    """custom: of re-sln's generator; paper; file: --noise_file; made: in memory; human: CIFAR-N's.

    None: no noise.
    """
    if noise_mode(run) is None:
        return None
    if run.settings["dataset_name"] in HUMAN_NOISE:
        return "human"
    if run.settings.get("noise_file"):
        return "file"
    if run.settings.get("custom_noise"):
        return "custom"
    return "paper" if run.settings["dataset_name"] in ("cifar10", "cifar100") else "made"


def title(run: Run) -> str:
    """`<dataset>-<ce|sln|sln-mo|sln-mo-lc>-<mode>-<paper|custom>-<p>`, as far as there is such."""
    rate = run.settings.get("p")
    noise = [noise_mode(run), noise_source(run), None if rate is None else rate_name(rate)]
    parts = [run.settings["dataset_name"], run.settings["method"].replace("_", "-"), *noise]
    return "-".join(part for part in parts if part is not None)


# ---- figures of each epoch


def read_rows(run: Run) -> list[Row]:
    """One row an epoch, with the columns of metrics.jsonl as far as they are known.

    An epoch without an evaluation has no accuracy (None), a run without a test set in no epoch.
    Raises UserError if there is no row, or if two runs wrote into one log.
    """
    metrics = run.folder / "metrics.jsonl"
    if run.folder.suffix == ".csv":
        rows = [_epoch(row) for row in read_curve_file(run.folder).rows]
    elif metrics.is_file():
        rows = read_metrics(run.folder)
    else:
        rows = _read_events(run)
    if all(row["accuracy"] is None and row.get("loss_train") is None for row in rows):
        raise UsageError(
            f"{run.exp_id} has no figures yet: neither rows in {metrics} nor TensorBoard events "
            f"with accuracy/test in {run.folder}; wait for its first epoch, or copy that folder "
            "here"
        )
    return rows


def read_csv(text: str) -> list[Row]:
    """Numbers by column; None where there is none. Lines that begin with # are remarks."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(lines)]


def _epoch(row: Row) -> Row:
    accuracy = row["accuracy"]
    known = accuracy is not None and math.isfinite(accuracy)
    return {**row, "epoch": int(row["epoch"]), "accuracy": float(accuracy) if known else None}


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def read_metrics(folder: Path) -> list[Row]:
    """The rows of a folder's metrics.jsonl. Raises UserError if it is of two runs, or of none."""
    rows = run_folder.read_rows(folder)
    try:
        return [_epoch(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder / 'metrics.jsonl'} has a row without figures ({error!r}): is it of another "
            "program?"
        ) from error


def _read_events(run: Run) -> list[Row]:
    """From the original's TensorBoard tags, which hold fractions."""
    tested = "ema" if run.settings.get("mo") else "base"
    main = _scalars(run.folder, ("accuracy/test", "accuracy/train", "loss/test"))
    accuracies = {"accuracy": "accuracy/test", f"accuracy_test_{tested}": "accuracy/test"}
    accuracies["accuracy_train"] = "accuracy/train"
    columns = {f"loss_test_{tested}": main["loss/test"]}
    for column, name in SUB_RUNS.items():
        columns[column] = _scalars(run.folder / name, ("loss/train",))["loss/train"]
    for column, tag in accuracies.items():
        columns[column] = {epoch: 100 * value for epoch, value in main[tag].items()}
    return [
        {"epoch": epoch} | {name: values.get(epoch) for name, values in columns.items()}
        for epoch in sorted(main["accuracy/test"])
    ]


def _scalars(folder: Path, tags: Sequence[str]) -> dict[str, dict[int, float]]:
    """Value by step of each tag, from the folder's own event files; of a step the last counts."""
    # Slow, and mostly not needed.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not folder.is_dir():
        return {tag: {} for tag in tags}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    known = events.Tags()["scalars"]
    return {
        tag: {e.step: e.value for e in events.Scalars(tag)} if tag in known else {} for tag in tags
    }


# ---- the network


def load_model(run: Run) -> nn.Module:
    """The reported network: the EMA model if there is one; of an unfinished run the last one."""
    for path in (run.models / "model_ema.pth", run.models / "model.pth"):
        if path.is_file():
            return network_from(checkpoint.load(path))
    last = run.folder / checkpoint.LAST
    if not last.is_file():
        raise UsageError(
            f"{run.exp_id} has no network: neither model_ema.pth nor model.pth in {run.models}, "
            f"and no {last}; finish the run, or copy its saved_models here"
        )
    state = checkpoint.load(last).get("average" if run.settings.get("mo") else "net")
    if not isinstance(state, dict):
        raise UsageError(f"{last} is no checkpoint of train_cifar.py or train_real.py")
    return network_from(state)
