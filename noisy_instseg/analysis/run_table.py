"""A table and a picture of several runs: mask AP of the last and of the best epoch, and its curve.

Runs of the other projects stand there with their test accuracy. A run of the second stage continues
from stage 1's folder, whose epochs are the beginning of its curve; a dotted line marks where the
loss changes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from noisy_instseg.analysis.past_runs import is_whole, noise_rate, switch
from noisy_instseg.run.errors import check_output
from shared.files import write_atomically
from shared.runs.files import number
from shared.runs.reader import Run, runs_to_compare

NOTES = (
    "AP: COCO's mean over IoU 0.50:0.95 in %, of the last evaluated epoch, on clean "
    "validation labels; the paper reports it.",
    "wrong labels: share of the training annotations, by the manifest beside them; seconds: "
    "with evaluation and stage 1.",
)


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by the shortest ends of their paths that differ: mostly the folder's name."""
    paths = [run.folder.absolute().parts for run in runs]
    lengths = range(1, max(map(len, paths)))
    ends = ([str(Path(*parts[-length:])) for parts in paths] for length in lengths)
    names = next((names for names in ends if len(set(names)) == len(names)), None)
    return dict(zip(names or [str(run.folder) for run in runs], runs))


def table(runs: dict[str, Run]) -> str:
    """A line a run; APs in percent."""
    width = max(len("run"), *map(len, runs))
    methods = max(len("loss"), *(len(run.title) for run in runs.values()))
    lines = [
        f"{'run':<{width}}  {'loss':<{methods}}  {'epochs':>7}  {'mask AP':>7}  "
        f"{'best (epoch)':>12}  {'box AP':>6}  {'wrong labels':>12}  {'seconds':>7}"
    ]
    for name, run in runs.items():
        result = run.summary()
        assert result is not None
        boxes = [ap for row in run.rows if (ap := number(row.get("bbox_mAP"))) is not None]
        planned = "?" if run.epochs_planned is None else f"{round(run.epochs_planned, 1):g}"
        epochs = f"{round(run.epochs, 1):g}/{planned}"
        wrong = noise_rate(run)
        rate = "-" if wrong is None else f"{100 * wrong:.1f} %"
        best_ap = f"{result.best:.1f} ({round(result.best_epoch, 1):g})"
        box_ap = f"{100 * boxes[-1]:.1f}" if boxes else "-"
        lines.append(
            f"{name:<{width}}  {run.title:<{methods}}  {epochs:>7}  "
            f"{result.last:>7.1f}  {best_ap:>12}  {box_ap:>6}  {rate:>12}  "
            f"{run.seconds:>7.0f}"
        )
    partial = [
        f"{name}: begins with epoch {run.rows[0]['epoch']}, as the folder of the epochs before was "
        f"not found beside {run.folder} (..._nl_1); seconds without those"
        for name, run in runs.items()
        if not is_whole(run)
    ]
    if others := [name for name, run in runs.items() if run.metric != "mask AP"]:
        partial.append(f"test accuracy (%) instead of mask AP: {', '.join(others)}")
    return "\n".join([*lines, "", *NOTES, *partial])


def report(places: Sequence[Path], plot: Path | None) -> None:
    """Prints the table and writes the picture. Raises UserError."""
    check_output("--plot", plot, ".png")
    found, left_out = runs_to_compare(places)
    for reason in left_out:
        print(f"note: left out: {reason}", file=sys.stderr)
    runs = named(found)
    print(table(runs))
    if plot is not None:
        from noisy_instseg.analysis import figures  # matplotlib takes a second

        curves = {
            name: {epoch: ap / 100 for epoch, ap in one.evaluations} for name, one in runs.items()
        }
        switches = {name: place for name, one in runs.items() if (place := switch(one)) is not None}
        figure = figures.draw_epochs("Mask AP by epoch", curves, switches)
        write_atomically(plot, figures.png(figure))
        print(f"picture: {plot}")
