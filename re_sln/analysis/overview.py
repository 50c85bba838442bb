"""All tables and figures of some experiments, as re-sln's results.py wrote them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from re_sln.analysis import accuracy_tables as tables
from re_sln.analysis import curves, finished_runs
from re_sln.analysis.accuracy_tables import AS_GIVEN, Cells, Result
from re_sln.analysis.searches import Trial, read_trials, search_table
from re_sln.run.errors import UsageError
from re_sln.run.presets import METHODS
from shared.errors import UserError
from shared.files import write_atomically
from shared.runs.methods import RE_SLN

SHORT = {"cifar10": "c10", "cifar100": "c100", "animal-10n": "animal10n"}
HERE = ("configs", "runs", "hp")


def collect(given: Sequence[Path] | None, out: Path) -> None:
    """Reads the runs and searches, prints the tables and writes everything."""
    places = list(given) if given else [Path(name) for name in HERE if Path(name).is_dir()]
    results, remarks = read_results(places)
    trials = read_trials(places)
    if not results and not trials:
        where = ", ".join(map(str, places))
        where = where or f"{Path.cwd()}, which has none of the folders {', '.join(HERE)}"
        why = "".join(f"\n  {remark}" for remark in remarks)
        raise UsageError(
            f"no tested epoch of any run in {where}: give run folders with --runs{why}"
        )
    kept, left_out = tables.comparable(results)
    for dataset, found in kept.items():
        chosen, said = tables.cells(dataset, found)
        epochs = {f", {run.recipe[0]} epochs" for run in found if run.project == RE_SLN}
        print(
            f"test accuracy (%) on {dataset}{''.join(epochs)}, mean ± standard deviation over the "
            f"runs\n{tables.printed(chosen)}\n"
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
    found = finished_runs.find_all(places)
    results, remarks = [], [f"left out: {reason}" for reason in found.left_out]
    for run in found.runs:
        try:
            rows = finished_runs.read_rows(run)
            if all(row["accuracy"] is None for row in rows):
                remarks.append(f"left out: {run.exp_id} has no test set, and so no accuracy")
                continue
            results.append(tables.result_of(run, rows))
        except UserError as error:
            remarks.append(f"left out: {error}")
    for other in found.others:
        if other.metric != "accuracy":
            remarks.append(f"left out: {other.folder} has a {other.metric}, and no accuracy")
        elif not other.evaluations:
            remarks.append(f"left out: {other.folder} has no test set, and so no accuracy")
        elif not other.is_finished:
            remarks.append(f"left out: {other.folder} is not finished")
        else:
            results.append(tables.result_of_other(other))
    return tables.shortly_named(results), remarks


def prefix(dataset: str) -> str:
    return SHORT.get(dataset, dataset)


def write_dataset(out: Path, dataset: str, chosen: Cells) -> None:
    """The table and the curves of one dataset, all in one picture where nobody added noise."""
    name = prefix(dataset)
    table = tables.table(chosen, tables.last_text)
    write_atomically(out / f"{name}-test-acc-table.csv", tables.csv_text(table))
    columns = tables.columns_of(chosen)
    if columns == [AS_GIVEN] and any(method in METHODS for method, _ in chosen):
        groups = {
            tables.shown(method): [run.rows for run in found]
            for (method, _), found in chosen.items()
            if method in METHODS
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
        picture = curves.accuracy_by_epoch(title, groups, zoom)
        write_atomically(out / f"{name}-test-acc{suffix}.png", picture)
    every = [row for found in groups.values() for rows in found for row in rows]
    if any(row.get("loss_train") is not None for row in every):
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


def write_searches(out: Path, trials: Sequence[Trial]) -> None:
    """`hp_<dataset>_sln_<mode>.csv`: accuracy on held-out noisy labels by sigma and source."""
    groups = defaultdict(list)
    for trial in trials:
        groups[trial.dataset, trial.noise].append(trial)
    for (dataset, noise), found in groups.items():
        lines = search_table(found)
        print(
            f"accuracy (%) on held-out noisy labels of {dataset} {noise} by sigma, last "
            f"epoch\n{tables.aligned(lines)}\n"
        )
        name = f"hp_{dataset}_sln_{noise.replace(' ', '_')}.csv"
        write_atomically(out / name, tables.csv_text(lines))
