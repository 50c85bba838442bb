"""Pictures of trained networks: prediction probabilities, samples by loss, t-SNE, curves of runs.

    python plot.py --exp_id "exp_2021-12-08 11:28:45.265396" --plot_type pred_probs  # by its id
    python plot.py --exp_id runs/digits-sln_mo --plot_type sample_dissect            # a run folder
    python plot.py --exp_id runs/digits-ce runs/digits-sln_mo --plot_type curves --out curves.png

pred_probs and sample_dissect show the training set, randomly augmented as in training, to the
reported network (the EMA model if the run has one) and compare with the noisy labels of that run.
What differs from the original is in NOTES.md.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln.run.errors import UsageError, exit_status
from shared.files import write_atomically

if TYPE_CHECKING:
    from re_sln.analysis.finished_runs import Run

INTERRUPTED = 130
FILE_NAMES = {
    "pred_probs": "prediction-probabilities",
    "sample_dissect": "sample-dissection",
    "tsne": "tsne",
}


@dataclass(frozen=True)
class Request:
    """What to draw."""

    runs: Sequence[str]  # ids, folders, curves
    plot_type: str
    out: Path | None
    data_path: Path | None
    device: str


def parse(argv: Sequence[str] | None) -> Request:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="plot.py",
        description="Draw what a trained network makes of its samples.",
    )
    add = parser.add_argument
    add(
        "--exp_id",
        nargs="+",
        required=True,
        metavar="RUN",
        help="exp_id of a run of this folder (quoted: it has a space in it), or a run folder; for "
        "curves also a .csv with the columns epoch and accuracy",
    )
    kinds, where = [*FILE_NAMES, "curves"], "where the run had them, else as in train_cifar.py"
    add("--plot_type", choices=kinds, required=True, help="curves: all runs in one picture")
    add("--out", type=Path, help="the picture of the curves (assets/curves.png)")
    add("--data_path", type=Path, help=f"where the data are ({where})")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    args = parser.parse_args(argv)
    if args.out is not None and args.plot_type != "curves":
        parser.error(
            f"--out is for --plot_type curves; {args.plot_type} is written to assets/<exp_id>/, or "
            "into the run folder that is given"
        )
    return Request(args.exp_id, args.plot_type, args.out, args.data_path, args.device)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    request = parse(argv)

    def work() -> int:
        from re_sln.analysis import curves, finished_runs
        from re_sln.run.launch import alone_only

        alone_only("a picture is drawn once")
        found = [finished_runs.find(name) for name in request.runs]
        if request.plot_type == "curves":
            path = request.out or Path("assets/curves.png")
            rows = [finished_runs.read_rows(run) for run in found]
            names = curve_names(request.runs, found)
            write_atomically(path, curves.compare(dict(zip(names, rows))))
            print(f"saved {path}")
            return 0
        status = 0
        for run in found:  # what cannot be drawn does not keep the others from it
            status = max(status, exit_status(partial(draw, run, request), trains=False))
            if status == INTERRUPTED:
                break
        return status

    return exit_status(work, trains=False)


def curve_names(given: Sequence[str], found: "Sequence[Run]") -> list[str]:
    """What the runs are called in a legend: by their settings, and how they were given if equal."""
    from re_sln.analysis.finished_runs import title

    titles = [title(run) if run.settings else run.exp_id for run in found]
    short = [Path(name).name for name in given]
    known_by = short if len(set(zip(titles, short))) == len(given) else given
    return [
        title if titles.count(title) == 1 else f"{title} ({name})"
        for title, name in zip(titles, known_by)
    ]


def draw(run: "Run", request: Request) -> None:
    """One picture of one run, beside its files."""
    from re_sln.analysis import finished_runs

    if not run.settings:
        raise UsageError(
            f"{run.folder} is a curve without a network: give a run folder, or --plot_type curves"
        )
    if run.settings["dataset_name"] == "clothing1m":
        raise UsageError(
            f"{run.exp_id} is a ResNet-50 on Clothing1M, whose images stay on the disk: of it only "
            "--plot_type curves can be drawn"
        )
    path = run.assets / f"{finished_runs.title(run)}-{FILE_NAMES[request.plot_type]}.png"
    write_atomically(path, picture(run, request))
    print(f"saved {path}")


def picture(run: "Run", request: Request) -> bytes:
    from re_sln.analysis import finished_runs, sample_figures, scores
    from re_sln.run.device import choose_device
    from shared.formats.alignment import is_noisy

    title = finished_runs.title(run)
    choice = scores.label_choice(run, request.data_path)
    data = scores.load_data(run, choice)
    device = choose_device(request.device)
    if request.plot_type == "tsne":
        points, labels = scores.mapped_features(run, data, choice, device)
        tested = len(data.test_labels) > 0
        return sample_figures.feature_map(title, points, labels, data.class_names, tested=tested)
    said = scores.score(run, data, choice, device)
    noisy, clean = is_noisy(said.noise), said.noise.clean_labels
    if request.plot_type == "pred_probs":
        is_clean = None if noisy is None else ~noisy
        return sample_figures.prediction_probabilities(title, said.confidence, is_clean)
    observed = said.noise.noisy_labels
    label_right = None if clean is None else observed == clean
    prediction_right = said.predicted == (observed if clean is None else clean)
    return sample_figures.sample_dissection(title, said.losses, label_right, prediction_right)


if __name__ == "__main__":
    sys.exit(main())
