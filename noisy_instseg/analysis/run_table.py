"""A table and a picture of several runs: mask AP of the last and of the best epoch, and its curve.

A run of the second stage continues from stage 1's folder, whose epochs are the beginning of its
curve; a dotted line marks where the loss changes.
"""

from collections.abc import Sequence
from pathlib import Path

from noisy_instseg.analysis import past_runs
from noisy_instseg.analysis.past_runs import Run
from noisy_instseg.run.errors import check_output
from shared.errors import UserError
from shared.files import write_atomically

NOTES = (
    "AP: COCO's mean over IoU 0.50:0.95 in %, of the last evaluated epoch, on clean "
    "validation labels; the paper reports it.",
    "wrong labels: share of the training annotations, by the manifest beside them; seconds: "
    "with evaluation and stage 1.",
)


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by the shortest ends of their paths that differ: mostly the folder's name."""
    paths = [run.folder.absolute().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        names = [str(Path(*parts[-length:])) for parts in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, runs))
    raise UserError(f"{runs[0].folder}: a run folder is given twice; name each once")


def table(runs: dict[str, Run]) -> str:
    """A line a run; APs in percent."""
    width = max(len("run"), *map(len, runs))
    methods = max(len("loss"), *(len(run.method) for run in runs.values()))
    lines = [
        f"{'run':<{width}}  {'loss':<{methods}}  {'epochs':>7}  {'mask AP':>7}  "
        f"{'best (epoch)':>12}  {'box AP':>6}  {'wrong labels':>12}  {'seconds':>7}"
    ]
    for name, run in runs.items():
        mask = run.evaluated
        best = max(mask, key=lambda epoch: mask[epoch])
        boxes = [row["bbox_mAP"] for row in run.rows if row.get("bbox_mAP") is not None]
        epochs = f"{run.rows[-1]['epoch']}/{run.max_epochs or '?'}"
        rate = "-" if run.noise_rate is None else f"{100 * run.noise_rate:.1f} %"
        best_ap = f"{100 * mask[best]:.1f} ({best})"
        box_ap = f"{100 * boxes[-1]:.1f}" if boxes else "-"
        lines.append(
            f"{name:<{width}}  {run.method:<{methods}}  {epochs:>7}  "
            f"{100 * list(mask.values())[-1]:>7.1f}  {best_ap:>12}  {box_ap:>6}  {rate:>12}  "
            f"{run.seconds:>7.0f}"
        )
    partial = [
        f"{name}: begins with epoch {run.rows[0]['epoch']}, as the folder of the epochs before was "
        f"not found beside {run.folder} (..._nl_1); seconds without those"
        for name, run in runs.items()
        if not run.is_whole
    ]
    return "\n".join([*lines, "", *NOTES, *partial])


def report(folders: Sequence[Path], plot: Path | None) -> None:
    """Prints the table and writes the picture. Raises UserError."""
    check_output("--plot", plot, ".png")
    runs = named([past_runs.read(folder) for folder in folders])
    for name, one in runs.items():
        if not one.evaluated:
            raise UserError(
                f"{name}: no epoch was evaluated, or to NaN alone; tools/test.py evaluates a "
                "checkpoint"
            )
    print(table(runs))
    if plot is not None:
        from noisy_instseg.analysis import figures  # matplotlib takes a second

        curves = {name: one.evaluated for name, one in runs.items()}
        switches = {name: one.switch for name, one in runs.items() if one.switch is not None}
        write_atomically(plot, figures.ap_by_epoch("Mask AP by epoch", curves, switches))
        print(f"picture: {plot}")
