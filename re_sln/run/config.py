"""From flags to settings: the one place that sees argparse.

    config = parse("train_cifar", "--dataset_name digits --noise_mode sym --method ce".split())
    config = complete({"dataset_name": "digits", "noise_mode": "sym", "method": "ce"})  # the same

Torch is not imported here, so that `--help` and a wrong flag answer at once.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args

from re_sln.run import checks
from re_sln.run.errors import UsageError
from re_sln.run.flags import add_config_flag, expand_config, expand_export
from re_sln.run.presets import (
    HUMAN_NOISE,
    METHOD_TABLE,
    METHODS,
    PAPER_RATE,
    PRESETS,
    REAL_NOISE,
    correction_epoch,
    sigma_for,
)
from re_sln.run.settings import Backend, Config, HeldOut, LabelChoice, SearchConfig, TableConfig
from shared.errors import UserError

T = TypeVar("T")
SMALL_IMAGES = ("cifar10", "cifar100", *HUMAN_NOISE, "digits", "folder")
TABLE_DATASETS, TABLE_NOISES = ("cifar10", "cifar100", "digits"), ("sym", "asym", "dependent")
OF_ALL_TRAININGS = (
    *("n_epochs", "batch_size", "depth", "width", "limit_train", "limit_test"),
    *("data_path", "device", "amp"),
)
# What each script is for, on which datasets, and an example.
SCRIPTS = {
    "train_cifar": (
        "Train CE, SLN, SLN+MO or SLN+MO+LC on noisy labels (Chen et al., ICLR 2021).",
        SMALL_IMAGES,
        "python train_cifar.py --dataset_name cifar10 --noise_mode sym --p 0.4 --method sln_mo_lc",
    ),
    "train_real": (
        "The same on labels that are noisy by themselves: Animal-10N, Clothing1M, and your own "
        "pictures at 224 pixels.",
        (*REAL_NOISE, "folder"),
        "python train_real.py --dataset_name animal-10n --method sln_mo_lc",
    ),
    "tune": (
        "Choose sigma among 0.1, 0.2, 0.5, 1.0 by the accuracy on held-out noisy labels.",
        SMALL_IMAGES,
        "python tune.py --dataset_name digits --noise_mode sym --p 0.4 --n_epochs 20",
    ),
}
# Entries of a config.yaml that say how a run came out.
OUTCOMES = (
    *("exp_id", "script", "measured_noise_rate", "data_location", "device_used", "threads"),
    *("ranks", "identity", "versions", "grid", "trials"),
)
# Of one command: a file that other runs share is not made anew for a copy or an export of this one.
NOT_FROM_A_FILE = {"make_new_custom_noise"}
# Of each group one flag makes the file's others meaningless.
ALTERNATIVES = [
    *({"method", name} for name in ("sigma", "mo", "lc_n_epoch")),
    *({"noise_file", name} for name in ("noise_mode", "p", "custom_noise")),
    *({"noise_type", name} for name in ("noise_mode", "p", "noise_file")),
]
DECIDE_PRESETS = ("dataset_name", "noise_mode")
# Flags that a dataset of train_real.py would ignore in silence; elsewhere all but folder these.
FOR_FILES = ("labels", "val_fraction", "skip_broken", "cache_dir")
IDLE = {
    "animal-10n": ("pretrained", "num_workers", "labels", "val_fraction"),
    "clothing1m": ("depth", "width", "labels", "val_fraction", "cache_dir"),
    "folder": ("depth", "width", "cache_dir"),
}


# ---- from flags to settings


def add_flags(
    group: argparse._ArgumentGroup, described: Iterable[Field[Any]], **choices: Sequence[str]
) -> None:
    """A flag for each field. choices: of flags that have others in this script."""
    for each in described:
        options = {**each.metadata["argparse"], "default": each.metadata["default"]}
        kind = next(k for k in get_args(each.type) or (each.type,) if k is not NoneType)
        options = {"action": "store_true"} | options if kind is bool else {"type": kind} | options
        if each.name in choices:
            options["choices"] = choices[each.name]
        group.add_argument(f"--{each.name}", **options)


def build_parser(script: str) -> argparse.ArgumentParser:
    """The parser of `train_cifar`, `train_real` or `tune`."""
    summary, datasets, example = SCRIPTS[script]
    parser = argparse.ArgumentParser(
        prog=f"{script}.py",
        allow_abbrev=False,
        description=summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{'' if script == 'tune' else METHOD_TABLE}\n\nexample: {example}".strip(),
    )
    described = [each for each in fields(Config) if script in each.metadata["scripts"]]
    described += fields(HeldOut) if script == "tune" else ()
    for title, original in (("the original's flags", True), ("added here", False)):
        group = parser.add_argument_group(title)
        ours = [each for each in described if each.metadata["original"] == original]
        add_flags(group, ours, dataset_name=datasets)
    if script == "tune":
        add_flags(parser.add_argument_group("where it runs"), fields(Backend))
    return parser


def read_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> dict[str, Any]:
    """Values by flag; of a --config file, what only other scripts have is passed over."""
    add_config_flag(parser.add_argument_group("settings from a file"))
    kinds = (Config, HeldOut, Backend)
    known = {*OUTCOMES, *(each.name for kind in kinds for each in fields(kind))}
    own = {action.dest for action in parser._actions}
    single = {action.dest for action in parser._actions if action.nargs is None}
    words = expand_config(
        parser,
        expand_export(parser, sys.argv[1:] if argv is None else argv),
        recorded=(known - own) | NOT_FROM_A_FILE,
        alternatives=ALTERNATIVES,
        decides=[name for name in DECIDE_PRESETS if name in single],
    )
    return vars(parser.parse_args(words))


def parse(script: str, argv: Sequence[str] | None) -> Config:
    """The settings of `train_cifar` or `train_real`; exits with a message if something is wrong."""
    parser = build_parser(script)
    given = read_flags(parser, argv)
    _refuse_idle(parser, script, argv, given["dataset_name"])
    if script == "train_real" and given["dataset_name"] == "folder":
        given["network"] = "resnet50"
    return _or_exit(parser, lambda: complete(given))


def parse_search(argv: Sequence[str] | None) -> SearchConfig:
    """The settings of tune.py; exits with a message if something is wrong."""
    parser = build_parser("tune")
    given = read_flags(parser, argv)
    _refuse_idle(parser, "tune", argv, given["dataset_name"])

    def search() -> SearchConfig:
        if given["lc_n_epoch"] not in (None, -1) and not given["mo"]:
            raise UsageError(
                f"--lc_n_epoch {given['lc_n_epoch']} is not a valid combination without --mo, for "
                "the EMA model corrects the labels: add --mo, or leave --lc_n_epoch out"
            )
        training = complete({**given, "sigma": 0.5})  # any of the grid
        held_out = HeldOut(val_size=given["val_size"], augment_val=given["augment_val"])
        checks.check_held_out(held_out)
        return SearchConfig(training=training, held_out=held_out, backend=_backend(given))

    return _or_exit(parser, search)


def parse_table(argv: Sequence[str] | None) -> TableConfig:
    """The settings of table.py; exits with a message if something is wrong."""
    parser = argparse.ArgumentParser(
        prog="table.py",
        allow_abbrev=False,
        description="Train the 24 cells of the paper's tables (18 trainings: SLN and SLN+MO are "
        "one) and print them beside the paper's numbers.",
    )
    add = parser.add_argument
    add("--dataset_name", nargs="+", choices=TABLE_DATASETS, default=list(TABLE_DATASETS[:2]))
    add(
        "--noise_mode",
        nargs="+",
        choices=TABLE_NOISES,
        help="(sym asym dependent; digits: sym asym)",
    )
    add("--seeds", nargs="+", type=int, default=[123], help="a training for each (123)")
    shared = [each for each in fields(Config) if each.name in OF_ALL_TRAININGS]
    add_flags(parser.add_argument_group("of all trainings"), shared)
    add("--output_dir", type=Path, default=Path("runs/table"), help="of the runs (runs/table)")
    add_flags(parser.add_argument_group("where it runs"), fields(Backend))
    given = read_flags(parser, argv)

    def table() -> TableConfig:
        config = TableConfig(
            dataset_names=given["dataset_name"],
            noise_modes=given["noise_mode"],
            seeds=given["seeds"],
            of_all={name: given[name] for name in OF_ALL_TRAININGS},
            output_dir=given["output_dir"],
            backend=_backend(given),
        )
        checks.check_table(config)
        return config

    return _or_exit(parser, table)


def _backend(given: Mapping[str, Any]) -> Backend:
    backend = Backend(**{each.name: given[each.name] for each in fields(Backend)})
    checks.check_backend(backend, given["device"])
    return backend


def _or_exit(parser: argparse.ArgumentParser, make: Callable[[], T]) -> T:
    try:
        return make()
    except UserError as error:
        parser.error(str(error))


def complete(given: Mapping[str, Any]) -> Config:
    """The settings of a training, from values by flag: presets filled in, combinations checked.

    Raises UserError.
    """
    values = {each.name: each.metadata["default"] for each in fields(Config)}
    values |= {k: v for k, v in given.items() if k in values and v is not None}
    dataset = values["dataset_name"]
    recipe = "clothing1m" if values["network"] == "resnet50" else dataset
    _fill_noise(values)
    for name in ("batch_size", "n_epochs", "lr", "ema_decay", "depth", "width"):
        if values[name] is None:
            values[name] = PRESETS[recipe][name]
    if values["num_workers"] is None:
        values["num_workers"] = 8 if recipe in REAL_NOISE else 0
    if values["pretrained"] is None and recipe == "clothing1m":
        values["pretrained"] = "imagenet"
    if values["lc_form"] is None:
        # Clothing1M's authors rebuild the set in every epoch, with nothing to recur to.
        values["lc_form"] = "fixed" if recipe == "clothing1m" else "recursive"
    _fill_method(values, recipe)
    config = Config(**values)
    checks.check_noise(config)
    checks.check_numbers(config)
    checks.check_devices(config)
    if problem := checks.method_problem(config):
        raise UsageError(problem)
    if config.wandb and importlib.util.find_spec("wandb") is None:
        raise UsageError(
            "--wandb needs the package wandb, which is not installed: `pip install wandb`, or with "
            "uv `uv pip install --python .venv/re_sln wandb`"
        )
    return config


def choose_labels(**given: Any) -> LabelChoice:
    """The labels alone, of some values by flag. Raises UserError."""
    values = {each.name: each.metadata["default"] for each in fields(LabelChoice)} | given
    _fill_noise(values)
    choice = LabelChoice(**values)
    checks.check_noise(choice)
    return choice


def _fill_noise(values: dict[str, Any]) -> None:
    if values["dataset_name"] in REAL_NOISE:
        values |= {"custom_noise": None, "make_new_custom_noise": None}
    if values["dataset_name"] in HUMAN_NOISE:
        values["noise_type"] = _noise_type(values["dataset_name"], values["noise_type"])
    if values["labels"] is not None:
        values["labels"] = values["labels"].absolute()  # plot.py is started from anywhere
    if values["noise_mode"] is not None and values["p"] is None:
        values["p"] = PAPER_RATE


def _noise_type(dataset: str, given: str | None) -> str:
    """One of the names that --noise_type lists; CIFAR-N's own spellings will do."""
    from shared.datasets import human_noise  # reads no data, but imports those who do

    column = human_noise.column(dataset, given)
    names = human_noise.HUMAN[dataset].columns
    return next(name for name in names if names[name] == column)


def _fill_method(values: dict[str, Any], recipe: str) -> None:
    """What was not given of sigma, MO and LC: by --method, else by the preset."""
    method = values["method"]
    if method is not None:
        usual = sigma_for(recipe, values["noise_mode"])
        if values["sigma"] is None:
            values["sigma"] = 0.0 if method == "ce" else usual
        values["mo"] = values["mo"] or "mo" in method
        if values["lc_n_epoch"] is None and not method.endswith("lc"):
            values["lc_n_epoch"] = -1
    if values["sigma"] is None:
        raise UsageError(
            "--sigma is missing: the standard deviation of the noise on the targets, 0 for "
            f"cross-entropy; or give --method ({', '.join(METHODS)})"
        )
    if values["lc_n_epoch"] is None:
        start = correction_epoch(recipe, values["n_epochs"])
        values["lc_n_epoch"] = start if values["mo"] else -1


def _refuse_idle(
    parser: argparse.ArgumentParser, script: str, argv: Sequence[str] | None, dataset: str
) -> None:
    """Flags of other datasets on the command line; a --config file may have them."""
    words = {word.partition("=")[0] for word in (sys.argv[1:] if argv is None else argv)}
    elsewhere = () if dataset == "folder" else FOR_FILES
    for name in IDLE[dataset] if script == "train_real" else elsewhere:
        if f"--{name}" in words:
            parser.error(f"--{name} does nothing for {dataset}: leave it out")
