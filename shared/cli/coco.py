"""The COCO face of `python -m shared noise make|info|compare`, and of noisy_labels_*.py.

    python -m shared noise make --format coco --ann train.json --out noisy.json --dataset coco \\
        --kind symmetric --rate 0.2

The scripts of that name in noisy_instseg are this command with kind and dataset fixed.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.cli.common import say
from shared.coco import file as coco_file
from shared.coco import manifest as coco_manifest
from shared.coco import noise as coco_noise
from shared.coco import report as coco_report
from shared.coco.classes import CocoError
from shared.coco.file import CocoFile
from shared.coco.manifest import Manifest
from shared.coco.noise import CocoNoise, Recipe
from shared.errors import explain, printable
from shared.files import must_write, save

# DEVIATION(noisy_instseg): The noise has a seed; the scripts draw from numpy's global generator,
# unseeded.
DEFAULT_SEED = 123
SCRIPT_RATE = 0.2  # what the original scripts have in the file
MAKE_HELP = """\
COCO annotations (--format coco): only the category_id of annotations changes; a manifest beside OUT
says which did, and what they were. Kinds, of Yang et al., ECCV 2020:
  symmetric    each annotation gets, with probability rate, one of the other classes
  asymmetric   each annotation gets, with probability rate, a class that looks like its own.
               cityscapes: person-rider, truck-bus, motorcycle-bicycle, both ways; coco: another
               class of the super-category; voc: bird to aeroplane, diningtable to chair, bus to
               car, sheep to horse, and bicycle-motorbike, cat-dog, both ways; coco_format (any
               other set, such as shapes): the next category of the file
modes:
  exact        (the default) never the class it was; all classes that the file has; the rate is
               over the annotations that have another class to go to
  original     bit for bit what the authors' scripts give for that seed, bugs included: the
               effective rate is lower, and some classes are never drawn; the first line printed is
               the number they print

  python -m shared noise make --format coco --ann instances_train.json --out train_sn20.json \\
      --dataset cityscapes --kind symmetric --rate 0.2
"""


@dataclass(frozen=True)
class MakeCoco:
    """What noise goes on which annotations, and where the result is written."""

    dataset: str  # one of coco_noise.DATASETS
    kind: str  # one of coco_noise.KINDS
    rate: float  # in [0, 1]
    ann: Path  # the clean annotations
    out: Path
    seed: int | None = None  # None: DEFAULT_SEED
    mode: str | None = None  # one of coco_noise.MODES; None: exact
    manifest: Path | None = None  # None: beside `out`
    force: bool = False  # overwrite files with other content


def add_make_options(make: argparse.ArgumentParser) -> None:
    """Hang the flags of --format coco at `noise make`; None where a flag was not given."""
    group = make.add_argument_group("COCO annotations")
    group.add_argument(
        "--format",
        choices=("labels", "coco"),
        default="labels",
        help="what is made noisy; default: labels",
    )
    group.add_argument(
        "--ann",
        type=Path,
        metavar="IN",
        help="clean annotations, of the training set; never changed",
    )
    group.add_argument("--mode", choices=coco_noise.MODES, help="see below; default: exact")
    _add_manifest(group)


def _add_manifest(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="default: OUT without .json, and .manifest.json",
    )


def check_format(
    format: str,
    dataset: str,
    kind: str,
    labels_only: Sequence[str],
    coco_only: Sequence[str],
    has_annotations: bool,
) -> None:
    """Raises CocoError where flags of labels and of COCO annotations are mixed.

    labels_only, coco_only: the given flags that are for one of them.
    """
    coco = format == "coco"
    if coco and labels_only:
        raise CocoError(
            f"{labels_only[0]} is for noise files of labels: leave it out with --format coco"
        )
    if not coco and coco_only:
        raise CocoError(
            f"{coco_only[0]} is for COCO annotations: add --format coco, or leave it out"
        )
    if coco and dataset not in coco_noise.DATASETS:
        raise CocoError(
            f"--dataset {dataset} is a set of labels, not of COCO annotations: choose one of "
            f"{', '.join(coco_noise.DATASETS)}"
        )
    if not coco and dataset in coco_noise.DATASETS:
        raise CocoError(
            f"--dataset {dataset} is a set of COCO annotations: add --format coco --ann IN, or "
            "choose another"
        )
    if coco and kind not in coco_noise.KINDS:
        raise CocoError(
            f"--kind {kind} is for labels: COCO annotations take {' or '.join(coco_noise.KINDS)}"
        )
    if coco and not has_annotations:
        raise CocoError("--format coco needs --ann IN: the clean annotations, of the training set")


def run_make(make: MakeCoco) -> None:
    """Write the noisy annotations and their manifest, and say what happened."""
    _check_name("--out", make.out, make.ann)
    manifest_path = make.manifest or coco_manifest.default_path(make.out)
    _check_name("--manifest", manifest_path, make.ann)
    if manifest_path.resolve() == make.out.resolve():
        raise CocoError(
            f"--manifest {manifest_path} is the file of --out: give the two different names"
        )
    seed = DEFAULT_SEED if make.seed is None else make.seed
    mode = make.mode or coco_noise.MODES[0]
    recipe = Recipe(make.dataset, make.kind, make.rate, seed, mode)
    source = coco_file.read(make.ann)
    try:
        noise = coco_noise.make(source.category_ids, source.categories, recipe)
    except CocoError as error:
        raise CocoError(f"{make.ann}: {error}") from error
    content = coco_file.encode(source, noise.category_ids)
    manifest = coco_manifest.encode(manifest_of(source, noise, recipe, content))
    files = {"--out": (make.out, content), "--manifest": (manifest_path, manifest)}
    # All are checked before any is written.
    new = [flag for flag, (path, data) in files.items() if must_write(path, data, make.force)]
    for flag in new:
        save(*files[flag], flag)
    if recipe.mode == "original":
        say(int(noise.selected.sum()))  # as the scripts do
    say(coco_report.made(source, noise, recipe))
    for flag, (path, _) in files.items():
        unchanged = f"unchanged: {path} has this very content already"
        say(f"wrote {path}" if flag in new else unchanged)


def _check_name(flag: str, path: Path, source: Path) -> None:
    if path.suffix.lower() != ".json":
        raise CocoError(f"{flag} {path}: the file is JSON, so let its name end in .json")
    coco_file.check_not_input(path, source, flag)


def manifest_of(source: CocoFile, noise: CocoNoise, recipe: Recipe, content: bytes) -> Manifest:
    """What the manifest says. content: the bytes of the noisy file."""
    changed = noise.category_ids != source.category_ids
    count, flippable = int(changed.sum()), int(noise.flippable.sum())
    ids = list(source.categories)
    transitions = coco_manifest.transition_counts(source.category_ids, noise.category_ids, ids)
    return Manifest(
        dataset=recipe.dataset,
        kind=recipe.kind,
        mode=recipe.mode,
        seed=recipe.seed,
        requested_rate=recipe.rate,
        annotations=len(changed),
        selected=int(noise.selected.sum()),
        flippable=flippable,
        changed=count,
        realised_rate=count / len(changed),
        realised_rate_flippable=count / max(1, flippable),
        category_ids=ids,
        category_names=[source.name_of(category) for category in ids],
        transitions=transitions.tolist(),
        input_sha256=source.sha256,
        output_sha256=hashlib.sha256(content).hexdigest(),
        changed_annotation_ids=source.annotation_ids[changed].tolist(),
        clean_category_ids=source.category_ids[changed].tolist(),
    )


def info(path: Path, given: Sequence[str]) -> str:
    """The report on a manifest or on annotations. given: flags that only files of labels take."""
    if given:
        raise CocoError(
            f"{path} holds COCO annotations or their manifest: leave out {', '.join(given)}"
        )
    data = coco_file.read_bytes(path)
    try:
        value = coco_file.parse_json(data)
        if coco_manifest.is_manifest(value):
            return coco_report.describe_manifest(path.name, coco_manifest.decode(value))
        return coco_report.describe_annotations(path, coco_file.checked(value, data))
    except CocoError as error:
        raise CocoError(f"{path}: {error}") from error


def compare(first: str, second: str, given: Sequence[str]) -> str:
    """The report on two files, of which one at least is COCO annotations."""
    if given:
        raise CocoError(
            f"{first} and {second} are compared as COCO annotations: leave out {', '.join(given)}"
        )
    return coco_report.compare(coco_file.read(first), coco_file.read(second), (first, second))


def script_main(
    kind: str,
    dataset: str,
    arguments: Sequence[str] | None = None,
    *,
    rate: float = SCRIPT_RATE,
    ann: Path | None = None,
    out: Path | None = None,
) -> int:
    """A script of the paper, whose name is kind and dataset; 0, or 2 with a message on stderr.

    rate, ann, out: what --rate, --ann and --out are unless they are given.
    """
    parser = argparse.ArgumentParser(
        description=f"Give COCO-format annotations {kind} class noise of {dataset} (Yang et al., "
        "ECCV 2020).",
        epilog="modes: exact: never the same class, all classes; original: bit for bit what the "
        "authors' script gives for the seed. `python -m shared noise make --help` says more, "
        "`python -m shared noise info` reads the manifest.",
        allow_abbrev=False,
    )
    shown = "; default: %(default)s"
    parser.add_argument(
        "--ann",
        type=Path,
        default=ann,
        required=ann is None,
        metavar="IN",
        help=f"clean annotations, of the training set{shown if ann else ''}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=out,
        required=out is None,
        metavar="OUT",
        help=f"noisy annotations to write, .json{shown if out else ''}",
    )
    parser.add_argument("--rate", type=float, default=rate, help=f"noise rate in [0, 1]{shown}")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="default: %(default)s")
    parser.add_argument(
        "--mode", choices=coco_noise.MODES, default=coco_noise.MODES[0], help="default: %(default)s"
    )
    _add_manifest(parser)
    parser.add_argument(
        "--force", action="store_true", help="overwrite files that exist with other content"
    )
    a = parser.parse_args(arguments)
    make = MakeCoco(dataset, kind, a.rate, a.ann, a.out, a.seed, a.mode, a.manifest, a.force)
    try:
        run_make(make)
    except (ValueError, OSError) as error:  # CocoError is a ValueError
        text = explain(error) if isinstance(error, OSError) else str(error)
        print(f"error: {printable(text)}", file=sys.stderr)
        return 2
    return 0
