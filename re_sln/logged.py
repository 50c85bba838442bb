"""Our curves on CIFAR-10 over those that the re-implementation re-sln logged, and how far apart.

    python logged.py                        # the runs in results/
    python logged.py runs/mine --out here   # a run of yours, 40 % symmetric or dependent noise

re-sln's learning rate is constant, so its first epochs can be compared with a run of any length.
All its runs have the same seed: they differ in their labels (the paper's, or re-sln's own) and in
what a GPU adds, so they lie closer together than runs from different initial weights would.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln.run.errors import UsageError, exit_status

HERE = Path(__file__).absolute().parent
LOGGED = HERE / "results/logged_by_re-sln.csv"
OURS = {"network": "accuracy_test_base", "ema": "accuracy_test_ema"}
NAMES = {(True, "network"): "CE", (False, "network"): "SLN", (False, "ema"): "SLN+MO"}
COLUMNS = (
    *("model", "noise", "seed", "epochs", "mean difference", "largest difference", "spread"),
    *("mean / spread", "largest / spread", "epochs outside the band", "in a row"),
)


class Pair(NamedTuple):
    """One model's test accuracy in percent by epoch, here and there."""

    model: str  # of NAMES
    noise: str
    seed: int
    ours: Any  # (E,)
    logged: Any  # (runs, E)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for runs that cannot be compared, with a message."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="Our curves over those that re-sln logged."
    )
    kept = sorted((HERE / "results").glob("cifar10_*_seed*.csv"))
    parser.add_argument(
        "runs", nargs="*", type=Path, default=kept, help="run folders or curves (results/cifar10_*)"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="of logged.csv and logged.png (results)"
    )
    args = parser.parse_args(argv)
    return exit_status(lambda: write(args.runs, args.out), trains=False)


def write(places: Sequence[Path], out: Path) -> None:
    """Prints the table and writes it, and the picture. Raises UserError."""
    from shared.files import write_atomically

    found = [pair for place in places for pair in pairs_of(place)]
    order = [*NAMES.values()]
    pairs = sorted(found, key=lambda pair: (order.index(pair.model), pair.noise, pair.seed))
    lines = [[*COLUMNS], *map(described, pairs)]
    for line in lines:
        print(" | ".join(line))
    write_atomically(out / "logged.csv", "".join(",".join(line) + "\n" for line in lines).encode())
    write_atomically(out / "logged.png", picture(pairs))
    print(f"table and figure: {out}/logged.csv, {out}/logged.png")


def pairs_of(place: Path) -> list[Pair]:
    """The models of a run that re-sln has logged, and their logged curves. Raises UserError.

    Only epochs before label correction, which re-sln begins after those kept here.
    """
    import numpy as np

    from re_sln.analysis import curves, finished_runs

    run = finished_runs.find(str(place))
    settings = run.settings
    corrects_from = settings.get("lc_n_epoch", -1)
    rows = [
        row
        for row in finished_runs.read_rows(run)
        if corrects_from < 1 or row["epoch"] < corrects_from
    ]
    noise, sigma = finished_runs.noise_mode(run), float(settings.get("sigma") or 0)
    logged: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    lines = LOGGED.read_text().splitlines()
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        runs = logged.setdefault((row["noise_mode"], float(row["sigma"]), row["model"]), {})
        runs.setdefault(row["exp_id"], []).append(float(row["accuracy_test"]))
    pairs = []
    for model, column in OURS.items():
        runs, ours = logged.get((noise, sigma, model), {}), curves.column(rows, column)
        is_cifar10 = settings.get("dataset_name") == "cifar10" and settings.get("p") == 0.4
        if not is_cifar10 or not runs or np.isnan(ours).all():
            continue
        theirs = np.array(list(runs.values()))
        length = min(len(ours), theirs.shape[1])
        named = (NAMES[sigma == 0, model], str(noise), int(settings["seed"]))
        pairs.append(Pair(*named, ours[:length], theirs[:, :length]))
    if not pairs:
        raise UsageError(
            f"{place}: re-sln logged CIFAR-10 with 40 % noise: sym with --sigma 0 or 1, dependent "
            "with --sigma 0 or 0.5; give such a run"
        )
    return pairs


def described(pair: Pair) -> list[str]:
    """A line of the table, see COLUMNS.

    The spread is the standard deviation between the logged runs, pooled over the epochs.
    """
    import numpy as np

    difference = pair.ours - pair.logged.mean(axis=0)
    low, high = pair.logged.min(axis=0), pair.logged.max(axis=0)
    outside = (pair.ours < low) | (pair.ours > high)
    row = longest = 0
    for is_outside in outside:
        row = row + 1 if is_outside else 0
        longest = max(longest, row)
    largest = difference[np.abs(difference).argmax()]
    figures = [difference.mean(), largest]
    spread, relative, counts = "-", ["-", "-"], ["-", "-"]
    if len(pair.logged) > 1:  # one run is no band
        counts = [f"{outside.sum()} of {len(outside)}", str(longest)]
        pooled = np.sqrt(pair.logged.var(axis=0, ddof=1).mean())
        spread, relative = f"{pooled:.2f}", [f"{value / pooled:+.2f}" for value in figures]
    named = [pair.model, pair.noise, str(pair.seed), str(len(outside))]
    return [*named, *(f"{v:+.2f}" for v in figures), spread, *relative, *counts]


def picture(pairs: Sequence[Pair]) -> bytes:
    """A row a kind of noise, a panel a model: logged runs as band and thin lines, ours on top."""
    import matplotlib

    matplotlib.use("Agg")  # no display
    import matplotlib.pyplot as plt
    import numpy as np

    from re_sln.analysis.sample_figures import png

    kinds = sorted({pair.noise for pair in pairs}, reverse=True)  # symmetric noise first
    models = [name for name in NAMES.values() if any(pair.model == name for pair in pairs)]
    seeds = sorted({pair.seed for pair in pairs})
    colours = {seed: f"C{number}" for number, seed in enumerate(seeds)}
    shape = (len(kinds), len(models))
    size = (4.2 * len(models), 3.4 * len(kinds))
    figure, grid = plt.subplots(*shape, figsize=size, layout="constrained", squeeze=False)
    for (row, column), axes in np.ndenumerate(grid):
        model, kind = models[column], kinds[row]
        of_panel = [pair for pair in pairs if (pair.model, pair.noise) == (model, kind)]
        if not of_panel:
            axes.set_axis_off()
            continue
        longest = max(of_panel, key=lambda pair: len(pair.ours)).logged
        epochs = range(1, longest.shape[1] + 1)
        count = len(longest)
        label = f"re-sln, {count} run{'s' * (count > 1)}"
        axes.fill_between(epochs, longest.min(axis=0), longest.max(axis=0), color="0.85")
        for number, curve in enumerate(longest):
            axes.plot(epochs, curve, color="0.55", linewidth=0.8, label=label if not number else "")
        for pair in of_panel:
            style = {"marker": ".", "color": colours[pair.seed], "label": f"here, seed {pair.seed}"}
            axes.plot(range(1, len(pair.ours) + 1), pair.ours, **style)
        axes.set(title=f"{model}, {kind}", xlabel="epoch", ylabel="test accuracy (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8, loc="lower right")
    return png(figure)


if __name__ == "__main__":
    sys.exit(main())
