"""The COCO face of `python -m shared noise make|info|compare`, and of the scripts
noisy_instseg/noisy_labels_*.py.

python -m shared noise make --format coco --ann train.json --out noisy.json --dataset coco --kind
symmetric --rate 0.2
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.coco import file as coco_file
from shared.coco import manifest as coco_manifest
from shared.coco import noise as coco_noise
from shared.coco import report as coco_report
from shared.coco.classes import CocoError
from shared.coco.file import CocoFile
from shared.coco.manifest import Manifest
from shared.coco.noise import CocoNoise, Recipe
from shared.files import write_atomically

# DEVIATION(noisy_instseg): The noise has a seed; the scripts draw from numpy's global generator,
# unseeded.
DEFAULT_SEED = 123
SCRIPT_RATE = 0.2  # what the original scripts have in the file
MAKE_HELP = """\
COCO annotations (--format coco): only the category_id of annotations changes; a manifest beside OUT says which did, and
what they were. Kinds, of Yang et al., ECCV 2020:
  symmetric    each annotation gets, with probability rate, one of the other classes
  asymmetric   each annotation gets, with probability rate, a class that looks like its own. cityscapes: person-rider,
               truck-bus, motorcycle-bicycle, both ways; coco: another class of the super-category; voc: bird to aeroplane,
               diningtable to chair, bus to car, sheep to horse, and bicycle-motorbike, cat-dog, both ways; coco_format
               (any other set, such as shapes): the next category of the file
modes:
  exact        (the default) never the class it was; all classes that the file has; the rate is over the annotations that
               have another class to go to
  original     draw for draw what the authors' scripts give for that seed, with their slips: the effective rate is lower, and
               some classes are never drawn; the first line printed is the number they print

  python -m shared noise make --format coco --ann instances_train.json --out train_sn20.json --dataset cityscapes \\
      --kind symmetric --rate 0.2
"""
_LABELS_ONLY = (
    "factor",
    "map",
    "include_true_class",
    "independent",
    "mean_probs",
    "eta",
    "pmd_type",
    "probe_ratio",
    "imbalance",
    "data_path",
    "image_size",
)
_COCO_ONLY = ("ann", "mode", "manifest")


def add_make_options(make: argparse.ArgumentParser) -> None:
    """Hang the flags of --format coco at `noise make`; their defaults are None, to tell what was
    given.
    """
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
    group.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="default: OUT without .json, and .manifest.json",
    )


def check_options(args: argparse.Namespace) -> None:
    """Raises CocoError for flags of the other format."""
    coco = args.format == "coco"
    for name in _LABELS_ONLY if coco else _COCO_ONLY:
        if flag := _given(args, name):
            raise CocoError(
                f"{flag} is for noise files of labels: leave it out with --format coco"
                if coco
                else f"{flag} is for COCO annotations: add --format coco, or leave it out"
            )
    if (args.dataset in coco_noise.DATASETS) != coco:
        known = ", ".join(coco_noise.DATASETS)
        raise CocoError(
            (
                f"--dataset {args.dataset} is a set of labels, not of COCO annotations: choose one "
                f"of {known}"
            )
            if coco
            else (
                f"--dataset {args.dataset} is a set of COCO annotations: add --format coco "
                "--ann IN, or choose another"
            )
        )
    if coco and args.kind not in coco_noise.KINDS:
        raise CocoError(
            f"--kind {args.kind} is for labels: COCO annotations take "
            f"{' or '.join(coco_noise.KINDS)}"
        )
    if coco and args.ann is None:
        raise CocoError("--format coco needs --ann IN: the clean annotations, of the training set")


def _given(args: argparse.Namespace, name: str) -> str | None:
    """The flag that set this option, if any did."""
    value = getattr(args, name)
    if value is None or (
        value is False and name == "independent"
    ):  # 0 == False, and --factor 0 was given
        return None
    return (
        "--exclude_true_class" if name == "include_true_class" and value is False else f"--{name}"
    )


def run_make(args: argparse.Namespace) -> None:
    """Write the noisy annotations and their manifest, and say what happened."""
    out: Path = args.out
    _check_name("--out", out, args.ann)
    manifest_path: Path = args.manifest or coco_manifest.default_path(out)
    _check_name("--manifest", manifest_path, args.ann)
    if manifest_path.resolve() == out.resolve():
        raise CocoError(
            f"--manifest {manifest_path} is the file of --out: give the two different names"
        )
    seed = DEFAULT_SEED if args.seed is None else args.seed
    recipe = Recipe(args.dataset, args.kind, args.rate, seed, args.mode or coco_noise.MODES[0])
    source = coco_file.read(args.ann)
    noise = _noise(args.ann, source, recipe)
    content = coco_file.encode(source, noise.category_ids)
    files = {
        out: content,
        manifest_path: coco_manifest.encode(manifest_of(source, noise, recipe, content)),
    }
    to_write = {
        path: coco_file.writes(path, data, args.force) for path, data in files.items()
    }  # all checked before any is
    for path, data in files.items():
        if to_write[path]:
            _write("--out" if path == out else "--manifest", path, data)
    if recipe.mode == "original":
        print(int(noise.selected.sum()))  # as the scripts do
    print(coco_report.made(source, noise, recipe))
    for path in files:
        print(
            f"wrote {path}"
            if to_write[path]
            else f"unchanged: {path} has this very content already"
        )


def _check_name(flag: str, path: Path, source: Path) -> None:
    if path.suffix.lower() != ".json":
        raise CocoError(f"{flag} {path}: the file is JSON, so let its name end in .json")
    coco_file.check_not_input(path, source, flag)


def _write(flag: str, path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:  # it names a temporary file
        reason = error.strerror or error
        raise CocoError(
            f"cannot write {flag} {path} ({reason}): choose a folder that can be written to"
        ) from error


def _noise(path: Path, source: CocoFile, recipe: Recipe) -> CocoNoise:
    try:
        return coco_noise.make(source.category_ids, source.categories, recipe)
    except CocoError as error:
        raise CocoError(f"{path}: {error}") from error


def manifest_of(source: CocoFile, noise: CocoNoise, recipe: Recipe, content: bytes) -> Manifest:
    """What the manifest says. content: the bytes of the noisy file."""
    changed = noise.category_ids != source.category_ids
    count, flippable = int(changed.sum()), int(noise.flippable.sum())
    ids = list(source.categories)
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
        transitions=coco_manifest.transition_counts(
            source.category_ids, noise.category_ids, ids
        ).tolist(),
        input_sha256=source.sha256,
        output_sha256=hashlib.sha256(content).hexdigest(),
        changed_annotation_ids=source.annotation_ids[changed].tolist(),
        clean_category_ids=source.category_ids[changed].tolist(),
    )


def info(path: Path, given: Sequence[str]) -> str:
    """The report on a manifest or on a file of annotations.

    given: flags that only files of labels take.
    """
    if given:
        raise CocoError(
            f"{path} holds COCO annotations or their manifest: leave out {', '.join(given)}"
        )
    data = path.read_bytes()
    try:
        value = coco_file.parse_json(data)
        if coco_manifest.is_manifest(value):
            return coco_report.describe_manifest(path.name, coco_manifest.decode(value))
        return coco_report.describe_annotations(path, coco_file.checked(value, data))
    except CocoError as error:
        raise CocoError(f"{path}: {error}") from error


def compare(first: str, second: str, given: Sequence[str]) -> str:
    """The report on two files, of which one at least is a JSON object."""
    if given:
        raise CocoError(
            f"{first} and {second} are compared as COCO annotations: leave out {', '.join(given)}"
        )
    return coco_report.compare(coco_file.read(first), coco_file.read(second), (first, second))


def script_main(kind: str, dataset: str, arguments: Sequence[str] | None = None) -> int:
    """One of the paper's scripts: kind and dataset are its name. 0, or 2 with one message on
    stderr.
    """
    parser = argparse.ArgumentParser(
        description=f"Give COCO-format annotations {kind} class noise of {dataset} (Yang et "
        "al., ECCV 2020).",
        epilog="modes: exact: never the same class, all classes; original: draw for draw what "
        "the authors' script gives for the "
        "seed. `python -m shared noise make --help` says more, `python -m shared noise info` "
        "reads the manifest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ann",
        type=Path,
        required=True,
        metavar="IN",
        help="clean annotations, of the training set",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="OUT", help="noisy annotations to write, .json"
    )
    parser.add_argument(
        "--rate", type=float, default=SCRIPT_RATE, help="noise rate in [0, 1]; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="default: %(default)s")
    parser.add_argument(
        "--mode", choices=coco_noise.MODES, default=coco_noise.MODES[0], help="default: %(default)s"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="default: OUT without .json, and .manifest.json",
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite files that exist with other content"
    )
    parser.set_defaults(kind=kind, dataset=dataset)
    try:
        run_make(parser.parse_args(arguments))
    except (ValueError, OSError) as error:  # CocoError is a ValueError
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
