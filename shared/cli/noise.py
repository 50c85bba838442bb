"""The commands `python -m shared noise make|add|info|convert|compare`: flags, and what they do."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared import datasets
from shared.cli import coco as coco_cli
from shared.cli.common import SubParsers, add_command, say
from shared.coco import file as coco_file
from shared.coco import noise as coco_noise
from shared.datasets.image_data import ImageData, ImageFiles
from shared.files import must_write, save
from shared.formats import external, noise_file, safe_arrays, text_table
from shared.formats import report as noise_report
from shared.formats.alignment import labels_for
from shared.formats.noise_file import NoiseFile, NoiseFileError
from shared.noise import on_top as noise_on_top
from shared.noise import pmd
from shared.noise.kinds import FILES, OPTIONS, TABLE, Floats, help_text, takers
from shared.noise.recipe import KINDS, Recipe, generate, usual_seed

MOST_CLASSES = 10_000
EXAMPLES = """\
examples:
  python -m shared noise make --dataset cifar10 --kind pdn --rate 0.5 --out 0.5_pdn.npz
  python -m shared noise make --dataset digits --kind symmetric --rate 0.4 --exclude_true_class \\
      --out sym0.4.npz
  python -m shared noise make --dataset cifar10 --kind open_set --rate 0.4 --out openset0.4.csv
  python -m shared noise add cifar10-1-0.35.npy --dataset cifar10 --kind uniform --rate 0.3 \\
      --out cifar10-1-0.35_U_0.3.npy
  python -m shared noise info 0.5_pdn.npz --plot matrix.png
  python -m shared noise info CIFAR-10_human.pt             (lists its columns with their rates)
  python -m shared noise convert CIFAR-10_human.pt:worse_label worse.csv
  python -m shared noise convert cifar10-1-0.35.npy pmd.npz --dataset cifar10 --data_path data
  python -m shared noise compare sym0.4.npz sym0.4_custom.csv
  python -m shared noise info train_sn20.manifest.json      (what `make --format coco` did)
  python -m shared noise compare instances_train.json train_sn20.json
files: .npz (ours, keeps everything), .pt (InstanceGM, CIFAR-N), .csv (SLN), .npy (PLC,
       LRA-diffusion), .json (DivideMix: a list; COCO annotations and their manifest: an object)
"""
MAKE_EXAMPLES = f"""\
kinds:
{help_text()}
maps:
  cifar10                  bird-airplane, cat-dog, deer-horse, dog-cat, truck-automobile
                           (DivideMix, SLN's files)
  cifar10_four_rules       without deer-horse (custom noise of re-sln)
  cifar100                 the next class (SLN, re-sln)
  cifar100_blocks_of_five  the next id within 0-4, 5-9, ... (PLC, LRA-diffusion)
  cifar100_super_classes   the next class within the super-class (Patrini et al. 2017)
The same arguments give the same bytes. The ending of FILE chooses the format; only .npz keeps rate,
seed and origin.

examples:
  python -m shared noise make --dataset cifar10 --data_path data --kind asymmetric --rate 0.4 \\
      --out asym0.4.npz
  python -m shared noise make --dataset cifar10 --kind pmd --pmd_type 1 --eta eta.npy --rate 0.35 \\
      --out cifar10-1-0.35.npz
  python -m shared noise make --dataset cifar10 --kind transition --matrix T.csv --out mine.npz
  python -m shared noise make --dataset cifar10 --kind ieg_uniform --rate 0.4 --probe_ratio 0.002 \\
      --out ieg0.4.npz
  python -m shared noise make --dataset cifar10 --kind long_tail --imbalance 0.02 --rate 0.2 \\
      --out tail0.02.npz
"""
ADD_EXAMPLES = """\
kinds:
  uniform      each label becomes, with probability rate, one of the C - 1 others
  asymmetric   each label of a class with a rule becomes, with probability rate, that rule's
               target; maps as in `noise make --help`; default: cifar10, cifar100_blocks_of_five, of
               other datasets the next class
IN is a noise file of any format; one without header (.npy, .pt, ...) needs --dataset. Its samples
and clean labels stay, and the measured rate is the new labels'. PLC and LRA-diffusion made
cifar10-1-0.35_U_0.3.npy and its like in this way.

examples:
  python -m shared noise add cifar10-1-0.35.npz --kind asymmetric --rate 0.3 \\
      --out cifar10-1-0.35_A_0.3.npz
  python -m shared noise add cifar10-1-0.35.npy --dataset cifar10 --kind uniform --rate 0.3 \\
      --out cifar10-1-0.35_U_0.3.npy
"""
OUT_HELP = ".npz, .pt, .csv, .npy or .json"


# ---- flags


def add_parser(commands: SubParsers) -> None:
    """Hang `noise` with its five commands under `commands`."""
    noise = _add(commands, "noise", "make, add, inspect, convert and compare noise files", EXAMPLES)
    actions = noise.add_subparsers(required=True, metavar="COMMAND")
    _add_make(actions)
    _add_add(actions)

    info = _add(
        actions, "info", "rate, kind, class counts and transition matrix of a noise file", EXAMPLES
    )
    info.add_argument("file", metavar="FILE[:COLUMN]", help="noise file of any format")
    info.add_argument(
        "--plot", type=Path, metavar="PNG", help="also draw the transition matrix as a heat map"
    )
    _add_reading_options(info)
    info.set_defaults(run=lambda a: run_info(_source(a, a.file, a.column), a.plot))

    convert = _add(
        actions, "convert", "write a noise file in another format, chosen by the ending", EXAMPLES
    )
    convert.add_argument("file", metavar="IN[:COLUMN]", help="noise file of any format")
    convert.add_argument("out", type=Path, metavar="OUT", help=OUT_HELP)
    _add_force(convert, "OUT")
    _add_reading_options(convert)
    convert.set_defaults(run=lambda a: run_convert(_source(a, a.file, a.column), a.out, a.force))

    compare = _add(actions, "compare", "how far two noise files agree", EXAMPLES)
    compare.add_argument("files", nargs=2, metavar="FILE[:COLUMN]", help="noise file of any format")
    _add_dataset_options(compare)
    compare.set_defaults(run=lambda a: run_compare([_source(a, file) for file in a.files]))


def _add(commands: SubParsers, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    return add_command(commands, name, summary, f"{summary[0].upper()}{summary[1:]}.", epilog)


def _add_make(actions: SubParsers) -> None:
    epilog = f"{MAKE_EXAMPLES}\n{coco_cli.MAKE_HELP}"
    make = _add(actions, "make", "make noisy labels for a dataset", epilog)
    make.add_argument("--kind", required=True, choices=KINDS, help="see below")
    amount = make.add_mutually_exclusive_group()
    amount.add_argument(
        "--rate", type=float, help="nominal noise rate in [0, 1]; of pmd the measured one"
    )
    make.add_argument(
        "--seed",
        type=int,
        help="default: as in the papers' files, 12345 for ieg_... and long_tail, else 123",
    )
    targets = make.add_mutually_exclusive_group()
    for name, option in OPTIONS.items():
        if name == "include_true_class":
            targets.add_argument(option.flag, action="store_true", default=None, help=option.help)
            targets.add_argument(
                "--exclude_true_class",
                dest=name,
                action="store_false",
                help="symmetric: draw from the C - 1 wrong classes",
            )
        elif name == "independent":
            text = f"{takers(name)}: {option.help}"
            make.add_argument(option.flag, action="store_true", default=None, help=text)
        else:
            group = amount if name == "factor" else make
            group.add_argument(
                option.flag, type=option.type, metavar=option.metavar, help=option.help
            )
    for name, what in FILES.items():
        text = f"{takers(name)}: {what}"
        make.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    make.add_argument("--out", required=True, type=Path, metavar="FILE", help=OUT_HELP)
    _add_force(make, "FILE")
    _add_dataset_options(make, required=True, more=coco_noise.DATASETS)
    make.add_argument(
        "--image_size",
        type=int,
        help="pixels per side of `animal10n` and `folder` images; default: 32",
    )
    coco_cli.add_make_options(make)
    make.set_defaults(run=_run_make)


def _run_make(a: argparse.Namespace) -> None:
    labels_only = {
        "--map": a.map,
        "--exclude_true_class" if a.include_true_class is False else "--include_true_class": (
            a.include_true_class
        ),
        "--independent": a.independent,
        "--pmd_type": a.pmd_type,
        "--factor": a.factor,
        "--probe_ratio": a.probe_ratio,
        "--imbalance": a.imbalance,
        "--mean_probs": a.mean_probs,
        "--eta": a.eta,
        "--matrix": a.matrix,
        "--data_path": a.data_path,
        "--image_size": a.image_size,
    }
    coco_only = {"--ann": a.ann, "--mode": a.mode, "--manifest": a.manifest}
    coco_cli.check_format(
        a.format, a.dataset, a.kind, _given(labels_only), _given(coco_only), a.ann is not None
    )
    if a.format == "coco":
        if a.rate is None:
            raise NoiseFileError(f"{a.kind} noise needs a rate (--rate)")
        coco_cli.run_make(
            coco_cli.MakeCoco(
                dataset=a.dataset,
                kind=a.kind,
                rate=a.rate,
                ann=a.ann,
                out=a.out,
                seed=a.seed,
                mode=a.mode,
                manifest=a.manifest,
                force=a.force,
            )
        )
        return
    recipe = Recipe(
        a.kind,
        a.rate,
        usual_seed(a.kind) if a.seed is None else a.seed,
        class_map=a.map,
        include_true_class=a.include_true_class,
        independent=bool(a.independent),
        pmd_type=a.pmd_type,
        factor=a.factor,
        probe_ratio=a.probe_ratio,
        imbalance=a.imbalance,
    )
    files = {"mean_probs": a.mean_probs, "eta": a.eta, "matrix": a.matrix}
    size = 32 if a.image_size is None else a.image_size
    run_make(recipe, a.dataset, a.data_path, size, files, a.out, a.force)


def _given(flags: dict[str, object]) -> list[str]:
    return [flag for flag, value in flags.items() if value is not None]


def _add_add(actions: SubParsers) -> None:
    add = _add(actions, "add", "put independent noise on top of a noise file", ADD_EXAMPLES)
    add.add_argument("file", metavar="IN[:COLUMN]", help="noise file of any format")
    add.add_argument("--kind", required=True, choices=noise_on_top.KINDS, help="see below")
    add.add_argument(
        "--rate", required=True, type=float, help="rate of the noise on top, in [0, 1]"
    )
    add.add_argument(
        "--seed",
        type=int,
        default=pmd.ON_TOP_SEED,
        help="default: %(default)s, as in the published files",
    )
    add.add_argument(
        "--map",
        metavar="NAME",
        help="class map of asymmetric noise; default: the dataset's, see below",
    )
    add.add_argument("--out", required=True, type=Path, metavar="OUT", help=OUT_HELP)
    _add_force(add, "OUT")
    _add_reading_options(add)
    add.set_defaults(
        run=lambda a: run_add(
            _source(a, a.file, a.column),
            noise_on_top.OnTop(a.kind, a.rate, a.seed, a.map),
            a.out,
            a.force,
        )
    )


def _add_force(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--force", action="store_true", help=f"overwrite {name} if it exists with other content"
    )


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--column", help="which labels of a file with several; the same as FILE:COLUMN"
    )
    _add_dataset_options(parser)


def _add_dataset_options(
    parser: argparse.ArgumentParser,
    required: bool = False,
    more: tuple[str, ...] = tuple(datasets.LISTS),
) -> None:
    purpose = (
        "the dataset"
        if required
        else "check the file against this dataset and take its clean labels"
    )
    parser.add_argument("--dataset", required=required, choices=datasets.NAMES + more, help=purpose)
    parser.add_argument(
        "--data_path", metavar="DIR", help="where the dataset is; default: $DATA_ROOT, else data"
    )
    if not required:
        parser.add_argument(
            "--accept_labels",
            action="store_true",
            help="with --dataset: take labels that look like another dataset's or split's",
        )


def _source(a: argparse.Namespace, file: str, column: str | None = None) -> "Source":
    return Source(file, column, a.dataset, a.data_path, a.accept_labels)


# ---- commands


@dataclass(frozen=True)
class Source:
    """A noise file as a command line names it, with the dataset to check it against."""

    file: str  # FILE or FILE:COLUMN
    column: str | None = None
    dataset: str | None = None
    data_path: str | None = None
    accept: bool = False  # labels that look like those of other samples

    @property
    def title(self) -> str:
        path, column = external.split_column(self.file, self.column)
        return path.name if column is None else f"{path.name}, column {column}"

    def read(self) -> tuple[NoiseFile, ImageData | ImageFiles | None]:
        """The noise file; with a dataset, checked against it and completed by its clean labels."""
        noise = external.read_any(self.file, self.column)
        if self.dataset is None:
            if self.data_path is not None:
                raise NoiseFileError("--data_path says where, but not which dataset: add --dataset")
            return noise, None
        data = datasets.load_labels(self.dataset, self.data_path)
        rows, noisy = labels_for(
            noise,
            dataset=data.name,
            clean_labels=data.train_labels,
            num_classes=data.num_classes,
            names=data.train_names,
            accept=self.accept,
        )
        known = dataclasses.asdict(noise.header) | {
            "dataset": data.name,
            "split": noise.header.split or "train",
            "num_classes": data.num_classes,
        }
        whole = noise.indices is None and noise.names is None
        return noise_file.make(
            noisy,
            clean_labels=data.train_labels[rows],
            indices=None if whole else rows,
            open_set=noise.open_set,
            **known,
        ), data

    def dataset_flags(self) -> list[str]:
        """The flags about a dataset, or a column, that were given."""
        flags = {"--column": self.column, "--dataset": self.dataset, "--data_path": self.data_path}
        return _given(dict(flags))


def run_make(
    recipe: Recipe,
    dataset: str,
    data_path: str | None,
    image_size: int,
    files: dict[str, Path | None],
    out: Path,
    force: bool,
) -> None:
    """Generate noisy labels and write them; what cannot work is refused before data is read.

    files: the arrays of `kinds.FILES` that were given.
    """
    recipe.check_for(dataset)
    format = external.format_of(out)
    if recipe.kind == "open_set" and format not in external.OPEN_SET_FORMATS:
        raise NoiseFileError(
            f"a .{format} file cannot say which images are replaced: write .npz or .csv"
        )
    arrays = {name: _read_array(recipe.kind, name, path) for name, path in files.items()}
    data = datasets.load(dataset, data_path, image_size=image_size)
    _save(out, generate(recipe, data, **arrays), format, force)


def _read_array(kind: str, name: str, path: Path | None) -> Floats | None:
    """The floats of a file that one kind needs and no other takes."""
    if name != TABLE[kind].file:
        if path is not None:
            raise NoiseFileError(f"--{name} is for {takers(name)} noise: leave it out for {kind}")
        return None
    if path is None:
        raise NoiseFileError(f"{kind} noise needs --{name} FILE.npy: {FILES[name]} floats")
    try:
        data = safe_arrays.read_limited(path)
        if name == "matrix" and path.suffix.lower() in (".csv", ".txt"):
            return text_table.floats(data)
        return safe_arrays.parse_npy(data, "f")
    except (OSError, safe_arrays.UnsafeArrayError) as error:
        raise NoiseFileError(f"cannot read --{name} {path}: {error}") from error


def run_add(source: Source, top: noise_on_top.OnTop, out: Path, force: bool) -> None:
    """Put noise on top of the labels of a file and write them."""
    format = external.format_of(out)
    base, _ = source.read()
    _save(out, noise_on_top.add(base, top), format, force)


def run_info(source: Source, plot: Path | None) -> None:
    """Print the report on one file, or the columns to choose from."""
    path, column = external.split_column(source.file, source.column)
    if coco_file.is_coco(path):
        given = _given({"--plot": plot}) + source.dataset_flags()
        say(coco_cli.info(path, given))
        return
    if plot is not None and plot.suffix.lower() != ".png":
        raise NoiseFileError(f"{plot}: the plot is a PNG picture, so let its name end in .png")
    names = [] if column else external.columns(path)
    usual = external.default_column(path) if names else None
    if len(names) > 1 and usual is None:
        if plot is not None or source.dataset is not None:
            raise NoiseFileError(
                f"{path} has several columns: choose one of {', '.join(names)} with --column"
            )
        say(_list_columns(path))
        return
    noise, data = source.read()
    others = tuple(name for name in names if name != usual) if len(names) > 2 else ()
    title = source.title if column or not others else f"{path.name}, column {usual}"
    subject = noise_report.Subject(title, noise, _class_names(noise, data), others)
    text = noise_report.describe(subject)
    if plot is not None:
        save(plot, noise_report.heat_map(subject), "--plot")
    say(text if plot is None else f"{text}\n\nwrote {plot}")


def run_convert(source: Source, out: Path, force: bool) -> None:
    """Write one file in another format."""
    format = external.format_of(out)
    noise, _ = source.read()
    _save(out, noise, format, force)


def run_compare(sources: Sequence[Source]) -> None:
    """Print how far two files agree."""
    first, second = (source.file for source in sources)
    if any(coco_file.is_coco(Path(name)) for name in (first, second)):
        say(coco_cli.compare(first, second, sources[0].dataset_flags()))
        return
    one, two = (source.read()[0] for source in sources)
    say(noise_report.compare(one, two, (first, second)))


def _save(path: Path, noise: NoiseFile, format: str, force: bool) -> None:
    """Write the file unless another one is there, and say what it is."""
    content = external.encode_any(noise, format)
    if not must_write(path, content, force):
        say(f"unchanged: {path} has these very labels already")
        return
    save(path, content)
    rate = noise.header.measured_rate
    measured = "" if rate is None else f", measured rate {rate:.5f}"
    say(f"wrote {path}: {len(noise.noisy_labels):,} labels{measured}")
    if format != "npz" and noise.header.generator is not None:
        say(f"note: a .{format} file does not keep seed, rate and origin; .npz does")


def _list_columns(path: Path) -> str:
    lines = [
        f"{path} has several columns of labels. Choose one as {path.name}:COLUMN or with --column"
    ]
    for name, rate in external.rates(path).items():
        lines.append(f"  {name:<22}" + ("rate unknown" if rate is None else f"rate {rate:.5f}"))
    return "\n".join(lines)


def _class_names(noise: NoiseFile, data: ImageData | ImageFiles | None) -> tuple[str, ...]:
    """Names of the C classes: the dataset's where it is known, else their numbers."""
    if data is not None:
        return data.class_names
    if noise.header.dataset in datasets.CIFAR:
        return datasets.CIFAR[noise.header.dataset].class_names
    arrays = [labels for labels in (noise.noisy_labels, noise.clean_labels) if labels is not None]
    count = noise.header.num_classes or max(int(labels.max(initial=0)) for labels in arrays) + 1
    if count > MOST_CLASSES:
        raise NoiseFileError(
            f"the labels go up to {count - 1}: too many classes to describe; are these labels?"
        )
    return tuple(f"class {number}" for number in range(count))
