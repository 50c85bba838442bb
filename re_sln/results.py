"""Tables and figures of all local experiments: last test accuracy by method and noise, curves,
sigma.

    python results.py                                   # of configs/, runs/ and hp/ in this folder, into results/
    python results.py --runs runs --out runs/figures    # of every run folder in there

Reads our runs and those of the original re-sln (configs/ beside runs/ with TensorBoard events).
Cells are mean ± population standard deviation over the runs of a cell, in percent. What differs
from the original is listed in README.md.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

import numpy as np
import yaml

from re_sln import curves, runs, tables
from re_sln.options import METHODS, UsageError
from re_sln.run import BAD_INPUT
from re_sln.tables import AS_GIVEN, Cells, Result
from shared.files import write_atomically

SHORT = {"cifar10": "c10", "cifar100": "c100", "animal-10n": "animal10n"}
HERE = ("configs", "runs", "hp")


class Trial(NamedTuple):
    """A finished trial of a search for sigma."""

    dataset: str
    noise: str
    source: str  # paper, custom, ...
    sigma: float
    accuracy: float  # percent of the held-out noisy labels, last epoch


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="results.py",
        description="Tables and figures of all local experiments.",
    )
    add = parser.add_argument
    add(
        "--runs",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="run folders, folders that contain such, searches, working "
        "folders of re-sln, curves as .csv (configs/, runs/ and hp/ of this folder)",
    )
    add(
        "--out",
        type=Path,
        default=Path("results"),
        help="folder of the tables and figures (results)",
    )
    add(
        "--experiment_id",
        help="not possible any more: TensorBoard.dev, which it names a table of, is shut down",
    )
    args = parser.parse_args(argv)
    if args.experiment_id is not None:
        parser.error(
            f"--experiment_id {args.experiment_id} names an upload to TensorBoard.dev, which "
            "was shut down: leave "
            "it out to read configs/ and runs/ of this folder, or name other folders with --runs"
        )
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    args = parse(argv)
    try:
        collect(args.runs, args.out)
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def collect(given: Sequence[Path] | None, out: Path) -> None:
    """Reads the runs and searches, prints the tables and writes everything."""
    places = list(given) if given else [Path(name) for name in HERE if Path(name).is_dir()]
    results, remarks = read_results(places)
    trials = read_trials(places)
    if not results and not trials:
        where = (
            ", ".join(map(str, places))
            or f"{Path.cwd()}, which has none of the folders {', '.join(HERE)}"
        )
        raise UsageError(f"no finished epoch of any run in {where}: give run folders with --runs")
    kept, left_out = tables.comparable(results)
    for dataset, found in kept.items():
        chosen, said = tables.cells(dataset, found)
        print(
            f"test accuracy (%) on {dataset}, {found[0].recipe[0]} epochs, mean ± standard "
            "deviation over the runs\n"
            f"{tables.printed(chosen)}\n"
        )
        left_out += said
        write_dataset(out, dataset, chosen)
        write_ablation(out, dataset, found)
    write_searches(out, trials)
    for remark in [*remarks, *left_out]:
        print(f"note: {remark}")
    print(f"tables and figures: {out}")


def read_results(places: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """Every run with at least one epoch, and remarks on the others."""
    results, remarks = [], []
    for run in runs.find_all(places):
        try:
            results.append(tables.result_of(run, runs.read_rows(run)))
        except UsageError as error:
            remarks.append(f"left out: {error}")
    return results, remarks


def prefix(dataset: str) -> str:
    return SHORT.get(dataset, dataset)


def write_dataset(out: Path, dataset: str, chosen: Cells) -> None:
    """The table and the curves of one dataset; where nobody added noise, all methods are in one
    picture.
    """
    name = prefix(dataset)
    write_atomically(
        out / f"{name}-test-acc-table.csv", tables.csv_text(tables.table(chosen, tables.last_text))
    )
    columns = tables.columns_of(chosen)
    if columns == [AS_GIVEN]:
        groups = {
            method.replace("_", "-"): [run.rows for run in found]
            for (method, _), found in chosen.items()
        }
        write_curves(out, name, dataset, groups)
        return
    for method in METHODS:
        groups = {
            noise: [run.rows for run in chosen[method, noise]]
            for noise in columns
            if (method, noise) in chosen
        }
        if groups:
            label = method.replace("_", "-")
            write_curves(out, f"{name}-{label}", f"{label} on {dataset}", groups)


def write_curves(
    out: Path, name: str, title: str, groups: Mapping[str, Sequence[tables.Rows]]
) -> None:
    for suffix, zoom in (("", False), ("-zoom", True)):
        write_atomically(
            out / f"{name}-test-acc{suffix}.png", curves.accuracy_by_epoch(title, groups, zoom)
        )
    if any(
        row.get("loss_train") is not None
        for found in groups.values()
        for rows in found
        for row in rows
    ):
        write_atomically(out / f"{name}-train-loss.png", curves.loss_by_epoch(title, groups))


def write_ablation(out: Path, dataset: str, found: Sequence[Result]) -> None:
    """Accuracy by sigma on symmetric noise, from three values of sigma on."""
    accuracies = tables.by_sigma(found, "sym")
    if len(accuracies) < 3:
        return
    lines = tables.sigma_table(accuracies)
    print(
        f"test accuracy (%) of sln on {dataset} sym by sigma, last epoch\n{tables.aligned(lines)}\n"
    )
    write_atomically(out / f"ablation_{dataset}_sln_symmetric.csv", tables.csv_text(lines))
    picture = curves.accuracy_by_sigma(f"SLN on {dataset}, symmetric noise", accuracies)
    write_atomically(out / f"ablation-{prefix(dataset)}-sln-sym.png", picture)


# ---- searches of tune.py


def read_trials(places: Sequence[Path]) -> list[Trial]:
    """The trials of every search at or below the places: folders with params.json and progress.csv,
    config.yml above.
    """
    found = {
        path.resolve(): path
        for place in places
        if place.is_dir()
        for path in sorted(place.rglob("params.json"))
    }
    return [trial for path in found.values() if (trial := read_trial(path.parent)) is not None]


def read_trial(folder: Path) -> Trial | None:
    """None if there is no finished epoch, or nobody knows of which data."""
    settings: dict[str, Any] = {}
    try:
        for name in ("config.yml", "config.yaml"):
            if (folder.parent / name).is_file():
                settings |= yaml.safe_load((folder.parent / name).read_text())
        sigma = float(json.loads((folder / "params.json").read_text())["sigma"])
        settings = runs.checked_settings({**settings, "sigma": sigma}, folder.parent)
        if settings["method"] != "sln":
            raise UsageError(f"it is of {settings['method']}, the table of sln")
        with open(folder / "progress.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        if len(rows) < settings["n_epochs"]:
            raise UsageError(f"{len(rows)} of {settings['n_epochs']} epochs are done")
        accuracy = 100 * float(rows[-1]["accuracy_val"])
        search = runs.Run("", settings, folder, folder, folder)
        return Trial(
            settings["dataset_name"],
            runs.noise_mode(search) or AS_GIVEN,
            runs.noise_source(search) or AS_GIVEN,
            sigma,
            accuracy,
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        print(
            f"note: left out the trial {folder}: {error!r}; it needs params.json, progress.csv "
            f"and {folder.parent.name}/"
            "config.yml"
        )
        return None


def write_searches(out: Path, trials: Sequence[Trial]) -> None:
    """`hp_<dataset>_sln_<mode>.csv`: accuracy on held-out noisy labels by sigma, for each source of
    noise and on average.
    """
    groups = defaultdict(list)
    for trial in trials:
        groups[trial.dataset, trial.noise].append(trial)
    for (dataset, noise), found in groups.items():
        lines = search_table(found)
        print(
            f"accuracy (%) on held-out noisy labels of {dataset} {noise} by sigma, last "
            f"epoch\n{tables.aligned(lines)}\n"
        )
        write_atomically(
            out / f"hp_{dataset}_sln_{noise.replace(' ', '_')}.csv", tables.csv_text(lines)
        )


def search_table(trials: Sequence[Trial]) -> list[list[str]]:
    """A line for each sigma; trials: of one dataset and kind of noise."""
    sources = sorted(
        {trial.source for trial in trials}, key=("paper", "custom", "made", "file", AS_GIVEN).index
    )
    lines = [["sigma", *sources, "mean"]]
    for sigma in sorted({trial.sigma for trial in trials}):
        of_sigma = [trial for trial in trials if trial.sigma == sigma]
        by_source = [
            [trial.accuracy for trial in of_sigma if trial.source == source] for source in sources
        ]
        means = [f"{np.mean(values):.2f}" if values else "" for values in by_source]
        lines.append(
            [f"{sigma:g}", *means, f"{np.mean([trial.accuracy for trial in of_sigma]):.2f}"]
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
