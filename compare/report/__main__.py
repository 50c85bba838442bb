"""One page about finished runs: which method is best, and which labels are wrong.

python -m compare.report runs/compare-digits-pdn-0.4 --out report.html
python -m compare.report runs/a runs/b --format label-studio --out tasks.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared import datasets
from shared.errors import UserError, explain, printable
from shared.files import save

if TYPE_CHECKING:
    from compare.report.collect import Collected
    from compare.report.thumbnails import Source
    from shared.runs.reader import Run

PICTURES = 300  # of each method; 50,000 samples and eight methods make a page of about 8 MB
DATASETS = (*datasets.NAMES, *datasets.LISTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    args = _parser().parse_args(argv)
    try:
        _run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {printable(explain(error))}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compare.report",
        description="One HTML page about finished runs of all methods, which opens offline.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUNS",
        help="run folders, folders that hold some, or a label_quality.csv",
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--format",
        choices=("html", "label-studio"),
        default="html",
        help="html: the page; label-studio: tasks for reviewing the suspicious labels there (html)",
    )
    parser.add_argument(
        "--first",
        type=int,
        default=PICTURES,
        metavar="N",
        help=f"suspicious labels of each method that are shown ({PICTURES})",
    )
    parser.add_argument(
        "--dataset", choices=DATASETS, help="whose pictures they are (as the runs recorded it)"
    )
    parser.add_argument(
        "--data_path",
        type=Path,
        metavar="DIR",
        help="where the pictures are: a folder or an .npz (as the runs recorded it)",
    )
    parser.add_argument(
        "--ann",
        type=Path,
        metavar="FILE",
        help="of instance segmentation: the annotations, for the masks (as the run recorded them)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="of instance segmentation: the folder of images (as the run recorded it)",
    )
    return parser


def _run(args: argparse.Namespace) -> None:
    endings = {"html": (".html", ".htm"), "label-studio": (".json",)}[args.format]
    if args.out.suffix.lower() not in endings:
        raise UserError(f"--out {args.out}: --format {args.format} writes a {endings[0]} file")
    if args.first < 1:
        raise UserError(f"--first {args.first}: show at least one label of each method")
    # plotly and scikit-learn take two seconds, which --help and a wrong flag need not wait for.
    from compare.report import label_studio, review
    from compare.report.collect import collect
    from compare.report.page import page

    found = collect(args.runs)
    source = _source(found, args)
    if args.format == "html":
        html, problem = page(found, source, args.first)
        save(args.out, html.encode(), "--out")
    else:
        config = args.out.with_suffix(".xml")
        tasks, problem = label_studio.tasks(found, source, args.first)
        save(args.out, tasks, "--out")
        save(config, label_studio.labelling_config(found.samples).encode())
    for note in (*found.notes, *filter(None, [problem])):
        print(printable(f"note: {note}"), file=sys.stderr)
    for folder, reason in found.left_out:
        print(printable(f"left out: {folder}: {reason}"), file=sys.stderr)
    print(f"wrote {printable(str(args.out))} ({args.out.stat().st_size / 1e6:.1f} MB)")
    if args.format == "label-studio":
        print(
            f"wrote {printable(str(config))}: the labelling interface, for the project's settings"
        )
        command = printable(review.command(found, "export.json"))
        print(f"its export becomes a noise file to train on by: {command}")


def _source(found: "Collected", args: argparse.Namespace) -> "Source":
    """Where the pictures are: by the flags, else as the runs recorded it."""
    from compare.report import objects
    from compare.report.thumbnails import Source

    runs = [run for method in found.methods for run in method.runs]
    places = list(filter(None, map(_recorded, runs)))
    known = next((place for place in places if place.exists()), next(iter(places), None))
    annotations = images = None
    if found.samples.boxes is not None:  # a table alone may lie in its run's folder, too
        folders = [*(run.folder for run in runs), *(place.parent for place in args.runs)]
        recorded = filter(None, map(objects.recorded, folders))
        annotations, images = next(recorded, (None, None))
    return Source(
        dataset=args.dataset or found.samples.dataset,
        data_path=args.data_path or known,
        annotations=args.ann or annotations,
        images=args.images or images,
    )


def _recorded(run: "Run") -> Path | None:
    """Where the run had its pictures, or where they are beside a run that was moved with them."""
    place = run.config.get("data_location") or run.config.get("data_path")
    if not isinstance(place, str) or not place:
        return None
    beside = run.folder.parent / Path(place).name
    return beside if not Path(place).exists() and beside.exists() else Path(place)


if __name__ == "__main__":
    sys.exit(main())
