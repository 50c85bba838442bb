"""Which method is best on my noise? `python -m compare run|commands|table|projects`.

From any other folder: `python /path/to/compare ...`. `make compare` and `make compare-commands`
install what is needed first.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

# The repository, so that it runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from compare import plan, slurm, table
from compare.methods import ENCODER, METHODS, Method, chosen
from compare.plan import ROOT, Job
from compare.question import (
    ARRAY,
    DATASETS,
    KINDS,
    NOISE,
    PLAN,
    USUAL_KIND,
    USUAL_RATE,
    Question,
    Task,
    absolute,
    prepare,
    read_task,
)
from compare.run import Outcome, check_flags, counted, failures, is_finished, run_jobs
from compare.spread import span
from shared.errors import AGAIN, UserError, explain, printable
from shared.run_folder import locked
from shared.runs.reader import find_runs

FOLDER_FLAG = "--folder (make: FOLDER)"
# What readers of data and noise files say in the words of the projects' scripts, and here
IN_OUR_WORDS = {
    "--data_path; of ieg_fsr --dataset_dir": "--data, make: DATA",
    "(--data_path)": "(--data, make: DATA)",
    "(--labels)": "(--labels, make: LABELS)",
    ", or leave them out with --skip_broken": "",
}
EPILOG = """\
examples:
  python -m compare run --dataset digits --kind pdn --rate 0.4
  python -m compare run --dataset cifar10 --noise_file sym0.4.csv --limit 2000 --methods sln ieg
  python -m compare run --dataset folder --data my_images --seeds 1 2 3
  python -m compare commands --dataset digits | parallel -j 2
  python -m compare table runs/compare-digits-pdn-0.4
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 where a run failed; 2 with one message for what the user can fix; 130 for Ctrl-C."""
    args = _parser().parse_args(arguments)
    try:
        status: int = args.command(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stdout = None  # else Python complains at exit
        return 0
    except OSError as error:
        print(f"error: {printable(explain(error))}", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"error: {_in_our_words(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {AGAIN} to continue", file=sys.stderr)
        return 130
    return status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without all flags before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {printable(message)}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m compare",
        description="Every method of this repository on the same noisy labels.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    run = actions.add_parser("run", help="train all of them, or continue", allow_abbrev=False)
    run.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="train on Ray, side by side: auto (a cluster that runs here, else one of its own), "
        "local, or host:port; without it one after the other",
    )
    commands = actions.add_parser(
        "commands", help="print the same as commands, one a line", allow_abbrev=False
    )
    for part, command in ((run, _run), (commands, _commands)):
        _add_question(part)
        _add_methods(part)
        part.add_argument("--folder", type=Path, help="of the comparison; runs/compare-<what>")
        part.set_defaults(command=command)
    of_folder = actions.add_parser("table", help="the table of what is finished so far")
    of_folder.add_argument("folder", type=Path, help="of a comparison")
    of_folder.set_defaults(command=lambda args: _table(args.folder))
    projects = actions.add_parser("projects", help="whose environments the methods need")
    _add_methods(projects)
    projects.set_defaults(command=_projects)
    return parser


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", choices=DATASETS, default="digits", help="what to train on (digits)"
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        help=f"of the noise to make ({USUAL_KIND}; for folder none is made unless given)",
    )
    parser.add_argument("--rate", type=float, help=f"of that noise, in [0, 1] ({USUAL_RATE})")
    parser.add_argument(
        "--noise_file",
        type=absolute,
        metavar="FILE[:COLUMN]",
        help="noisy labels of any format instead: .npz .pt .csv .npy .json",
    )
    parser.add_argument(
        "--data",
        type=absolute,
        help="of folder: its pictures, or an .npz; else where data are ($DATA_ROOT, else data)",
    )
    parser.add_argument(
        "--labels", type=absolute, metavar="CSV", help="of folder's pictures: filename,label"
    )
    parser.add_argument(
        "--limit", type=int, help="train on so many images, spread evenly, and test on as many"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of the runs (1)")
    parser.add_argument(
        "--args",
        dest="further",
        default="",
        metavar="FLAGS",
        help="further flags of every script; behind `sln:` those of sln alone",
    )


def _add_methods(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", nargs="+", default=[], help=f"some of {' '.join(METHODS)}")


def _run(args: argparse.Namespace) -> int:
    question, methods, folder = _asked(args)
    _check_environments(methods)
    check_flags(plan.further_flags(question.further), methods)
    with _working_in(folder):
        task, jobs = _planned(question, methods, args.seeds, folder)
        print(f"{counted(len(jobs), 'run')} in {folder}{_total(jobs)}", flush=True)
        for key, difference in plan.differences(task, methods).items():
            print(f"note: {METHODS[key].title}: {difference}", flush=True)
        if args.ray:
            from compare import ray_backend

            outcomes = ray_backend.run_jobs(jobs, args.ray, _say)
        else:
            outcomes = run_jobs(jobs, _say)
        try:
            _table(folder)
        finally:
            status = _told(outcomes, question.further)
    return status


def _told(outcomes: list[Outcome], further: str) -> int:
    """Say which runs failed, if any; the exit status."""
    lines = failures(outcomes)
    if lines:
        lines.append(f"fix that, then {AGAIN}: the rest is finished")
        if further and not all(outcome.failed for outcome in outcomes):
            lines.append("(other --args, make: ARGS, need another --folder, make: FOLDER)")
        print(printable("\n".join(lines)), file=sys.stderr)
    return 1 if lines else 0


def _commands(args: argparse.Namespace) -> int:
    question, methods, folder = _asked(args)
    check_flags(plan.further_flags(question.further), methods)
    with _working_in(folder):
        _, jobs = _planned(question, methods, args.seeds, folder)
        slurm.write(jobs, folder)
    for job in jobs:
        print(job.line)
    array = shlex.quote(str(folder / ARRAY))
    print(f"note: sbatch {array} runs these as an array", file=sys.stderr)
    return 0


def _table(folder: Path) -> int:
    """Print and write the table of the finished runs."""
    task = read_task(folder)
    runs, left_out = find_runs([folder])
    finished, unfinished = table.of_this_comparison(runs, folder)
    # Not where plan.json says, since the folder may have been moved.
    expected = None if task.noise_file is None else folder / NOISE
    if expected is not None and not expected.exists():
        raise UserError(f"{expected} is missing: put it back to the runs, whose labels it has")
    found = table.rows(finished, plan.differences(task, METHODS.values()))
    if found:
        print(f"\n{table.text(found)}\n{table.check_labels(finished, expected)}")
        table.write_csv(found, folder / table.CSV)
        print(f"wrote {folder / table.CSV}")
    for place, reason in (*left_out, *unfinished):
        if not place.name.startswith(f"{ENCODER}-"):
            print(printable(f"left out: {place}: {reason}"))
    return 0


def _projects(args: argparse.Namespace) -> int:
    print(" ".join(dict.fromkeys(method.project for method in chosen(args.methods))))
    return 0


def _asked(args: argparse.Namespace) -> tuple[Question, list[Method], Path]:
    """What is asked, of which methods, and the comparison's folder, absolute; nothing is read yet.

    The folder is by default below runs/ of the repository.
    """
    plan.further_flags(args.further)  # raises UserError
    question = Question(**{name: getattr(args, name) for name in Question.__dataclass_fields__})
    folder: Path = args.folder or ROOT / "runs" / question.name
    return question, chosen(args.methods), folder.absolute()


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Keeps others out of the folder, which is not left behind where no comparison came of it."""
    is_new = not folder.exists()
    with locked(folder, FOLDER_FLAG):
        try:
            yield
        finally:
            if is_new and not (folder / PLAN).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _planned(
    question: Question, methods: Sequence[Method], seeds: Sequence[int], folder: Path
) -> tuple[Task, list[Job]]:
    """The task and its jobs, whose files are in the folder then."""
    if bad := [seed for seed in seeds if not 0 <= seed < 2**31]:
        raise UserError(f"--seeds {bad[0]} (make: SEEDS): give numbers from 0 on, below 2^31")
    task = prepare(question, folder)
    jobs = plan.jobs(task, methods, list(dict.fromkeys(seeds)), question.further, folder)
    return task, jobs


def _check_environments(methods: Sequence[Method]) -> None:
    needed = {method.project for method in methods}
    missing = [name for name in sorted(needed) if not plan.python_of(name).exists()]
    if missing:
        targets = " ".join(f"setup-{project}" for project in missing)
        raise UserError(
            f"the environments of {', '.join(missing)} are missing: `make {targets}`, or "
            "choose other --methods"
        )


def _total(jobs: list[Job]) -> str:
    """How long the unfinished ones take, where that is known of all."""
    times = [job.seconds for job in jobs if not is_finished(job)]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return "; how long they take was not measured"
    return f", about {span(sum(known))} to go on two cores"


def _in_our_words(message: str) -> str:
    for theirs, ours in IN_OUR_WORDS.items():
        message = message.replace(theirs, ours)
    return message


def _say(line: str) -> None:
    print(printable(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
