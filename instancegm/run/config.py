"""The command lines of the four scripts: flags to a checked `Config`, presets filled in.

A field made by `setting` is a flag of its name. Imported before torch: --help answers at once.
"""

# ruff: noqa: RUF009  (`setting` makes a field)

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from instancegm.method.settings import Settings, setting
from instancegm.run.checks import wrong_combinations, wrong_values
from instancegm.run.flags import add_config_flag, expand_config, expand_export
from instancegm.run.presets import (
    DATASETS,
    HUMAN,
    PUBLISHED,
    REAL,
    SCRIPTS,
    of_dataset,
    of_noise,
    spellings,
)

NOISE_MODES = ("instance", "sym", "asym", "none")

OF_SOME_SCRIPTS = {flag for script in SCRIPTS.values() for flag in script.flags}
OF_THIS_COMMAND = ("resume", "evaluate", "export")  # flags that config.yaml does not record
PUBLISHED_PLACES = {  # where the original looks for data
    "cifar10": Path("cifar-10"),
    "cifar100": Path("cifar-100"),
    "red_blue": Path("red_blue"),
    "animal10N": Path("animal10N"),
    "clothing1M": Path("clothing1M"),
}
OUTCOMES = (  # what config.yaml records beside the configuration
    *("method", "measured_noise_rate", "bf16", "data_sha256", "noisy_labels_sha256"),
    *("data_location", "device_used", "threads", "ranks", "versions"),
)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Everything that a command line says, checked, with presets filled in."""

    # Data and noisy labels
    script: str = "instanceGM"
    dataset: str = setting("cifar10", "what to train on; folder: your own images or .npz")
    data_path: Path | None = setting(
        None, "where the data is: its folder, a folder above it, or an .npz (./cifar-10, ...)"
    )
    labels: Path | None = setting(
        None,
        "with --dataset folder: a table of `filename,label` (names or numbers), for pictures that "
        "do not lie in a folder for each class",
    )
    val_fraction: float | None = setting(
        None,
        "with --dataset folder: test on this share of the training images, held out, where there "
        "are no test images",
        "(0, 1)",
    )
    r: float = setting(0.5, "noise rate", "[0, 1]")
    noise_mode: str = setting(  # "file": that of --noise_file, where it is none of the others
        "instance",
        "noise to put on the labels: instance-dependent (PDN), symmetric or asymmetric as in "
        "DivideMix, or none: the labels are noisy already, as those of folder are unless --r says "
        "otherwise",
        choices=NOISE_MODES,
    )
    noise_type: str | None = setting(
        None,
        "whose labels of cifar10n (worse, aggre, random1, random2, random3) or cifar100n (noisy) "
        "to train on; the first one by default",
    )
    colour: Literal["red", "blue"] = setting(
        "red", "wrong labels from the web (red), or drawn at random (blue)"
    )
    noise_file: str | None = setting(
        None,
        "noisy labels from a file, of any project: .npz .pt .csv .npy .json; FILE:COLUMN chooses "
        "one of several",
    )
    num_class: int | None = setting(
        None, "number of classes; taken from the data, and checked if given"
    )
    limit_train: int | None = setting(
        None, "train on that many images, evenly spread over the set", "[2, inf)"
    )
    limit_test: int | None = setting(
        None, "test on that many images, evenly spread over the set", "[1, inf)"
    )
    skip_broken: bool = setting(
        False, "leave out images that cannot be read, naming them, instead of refusing"
    )
    cache_dir: Path | None = setting(
        None, "keep decoded images in this folder, for later runs as well"
    )
    saved: bool = setting(
        False, "True: keep decoded images beside the data, for later runs as well"
    )
    num_workers: int = setting(4, "processes that decode images, for each GPU", "[0, inf)")

    # Networks
    pretrained: Literal["none", "imagenet"] = setting(
        "none", "start the classifiers from ImageNet weights, or from scratch (none)"
    )
    weights: Path | None = setting(
        None, "a file with ImageNet weights of the classifier, instead of downloading them"
    )

    # Machine
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps")
    gpuid: int = setting(0, "which GPU, where there are several", "[0, inf)")
    gpu_devices: tuple[int, ...] | None = setting(
        None, "train on several GPUs, such as 0 1 2 3, each on a part of every batch (torchrun)"
    )
    amp: Literal["auto", "off", "bf16"] = setting(
        "auto", "bfloat16 autocast; auto: where the hardware has it"
    )
    deterministic: bool = setting(False, "only deterministic kernels (slower on a GPU)")

    # What to do, and what it leaves
    id: str = setting("", "a word for the name of the run folder")
    output_dir: Path | None = setting(
        None, "the run folder (runs/<dataset>_<rate>_<noise>_<method>_seed<seed>)"
    )
    resume: bool = setting(False, "continue the run in the run folder, if there is one")
    evaluate: Path | None = setting(
        None, "score the checkpoints of a run folder, or one checkpoint file, and stop"
    )
    export: Path | None = setting(
        None,
        "write label_quality.csv, corrected_labels.npz and plots.png of a run folder again, and "
        "stop; takes all settings from the run but where things are, and --save_probs",
    )
    save_probs: bool = setting(
        False,
        "write pred_probs.npz too: class probabilities of the training and the test images",
    )
    wandb: bool = setting(
        False, "log to Weights & Biases; offline unless WANDB_MODE says otherwise"
    )
    plots: bool = setting(True, "draw plots.png at the end")

    given: frozenset[str] = frozenset()  # fields that flags set; presets leave them alone

    def with_noise(self, rate: float, mode: str) -> "Config":
        """The same with another rate and kind of noise, and the presets that go with them."""
        filled = of_noise(self.script, self.dataset, mode, rate)
        free = {name: value for name, value in filled.items() if name not in self.given}
        return replace(self, **free | {"r": rate, "noise_mode": mode})

    def recorded(self) -> dict[str, Any]:
        """The settings for config.yaml."""
        left_out = {"given", *OF_THIS_COMMAND}
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def where_data_is(self) -> Path | None:
        """--data_path, else None for $DATA_ROOT, else the published ./cifar-10 if it is there."""
        if self.data_path is not None or "DATA_ROOT" in os.environ:
            return self.data_path
        published = PUBLISHED_PLACES.get(self.dataset)
        return published if published is not None and published.is_dir() else None


def parse(argv: Sequence[str], script: str = "instanceGM") -> Config:
    """The configuration of a command line; exits with a message if something is wrong."""
    parser, published, added = build_parser(script)
    words = expand_export(parser, _expand_abbreviations(argv, published, added))
    words = _with_config_file(parser, words)
    typed, unknown = parser.parse_known_args(words)
    _mind_unknown(parser, unknown, [*published, *added], script)
    given = {name: value for name, value in vars(typed).items() if name != "config"}
    dataset = given.get("dataset", SCRIPTS[script].datasets[0])
    known = {"script": script, "dataset": dataset, **of_dataset(script, dataset), **given}
    config = Config(**known, given=frozenset(given))
    for problem in wrong_values(config):
        parser.error(problem)
    if dataset in REAL and given.get("noise_mode") in ("sym", "asym"):
        print(f"warning: no noise is added to {dataset}'s labels", file=sys.stderr)
    if dataset == "clothing1M" and "r" in given:
        print("warning: ignored --r: nobody adds noise to Clothing1M's labels", file=sys.stderr)
    if dataset in REAL or dataset in HUMAN:
        config = config.with_noise(config.r, "human" if dataset in HUMAN else config.noise_mode)
    else:
        own_labels = dataset == "folder" and not {"r", "noise_file"} & config.given
        mode = given.get("noise_mode", "none" if own_labels else "instance")
        if mode == "none" and given.get("r", 0.0) != 0:
            parser.error(f"--noise_mode none puts no noise on the labels: leave out --r {config.r}")
        config = config.with_noise(0.0 if mode == "none" else config.r, mode)
    for problem in wrong_combinations(config):
        parser.error(problem)
    return config


def _mind_unknown(
    parser: argparse.ArgumentParser, unknown: Sequence[str], known: Sequence[str], script: str
) -> None:
    """The published scripts ignore unknown flags in silence; old command lines must still run.

    But for Clothing1M's, which refuses them; its noise has no rate, so that --r is let pass.
    """
    for word in unknown:
        close = difflib.get_close_matches(word.split("=")[0], known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        if SCRIPTS[script].strict:
            parser.error(f"{word!r} is not a flag of this script{hint}: leave it out")
        print(
            f"warning: ignored {word!r}, which is not a flag of this script{hint}", file=sys.stderr
        )


def build_parser(
    script: str = "instanceGM",
) -> tuple[argparse.ArgumentParser, dict[str, str], dict[str, str]]:
    """The parser, and two tables flag -> field: the published flags and ours.

    What is not typed is not in the namespace, so that presets can fill it.
    """
    about = SCRIPTS[script]
    parser = argparse.ArgumentParser(
        prog=f"{script}.py",
        description=f"InstanceGM (Garg et al., WACV 2023): {about.title}.",
        epilog=f"Example: {about.example}",
        argument_default=argparse.SUPPRESS,
    )
    groups = [parser.add_argument_group(title) for title in ("the paper's flags", "added here")]
    published: dict[str, str] = {}
    added: dict[str, str] = {}
    settings = {field.name: field for field in fields(Config) if field.metadata}
    absent = OF_SOME_SCRIPTS - {*about.flags}
    names = [*PUBLISHED, *(name for name in settings if name not in PUBLISHED)]
    for name in (name for name in names if name not in absent):
        group, table = (groups[0], published) if name in PUBLISHED else (groups[1], added)
        action = group.add_argument(*spellings(name), **_argument(settings[name], script))
        table.update(dict.fromkeys(action.option_strings, name))
    add_config_flag(groups[1])
    # In a config.yaml: that of another script would train another network.
    parser.add_argument("--script", choices=(script,), help=argparse.SUPPRESS)
    return parser, published, added


def _argument(field: Field[Any], script: str) -> dict[str, Any]:
    """How argparse reads the field: its type, its choices, its meaning with the default."""
    meaning, choices = field.metadata["meaning"], field.metadata["choices"]
    about = SCRIPTS[script]
    default = of_dataset(script, about.datasets[0]).get(field.name, field.default)
    if field.name == "saved":
        return {"dest": "saved", "help": meaning, "type": _yes_or_no, "metavar": "{True,False}"}
    if field.type is bool:
        action = argparse.BooleanOptionalAction if default else "store_true"
        return {"dest": field.name, "help": meaning, "action": action}
    parts = get_args(field.type)
    kind: Any = next((part for part in parts if part is not NoneType), field.type)
    if get_origin(field.type) is Literal:
        kind, choices = str, parts
    if get_origin(kind) is tuple:
        return {"dest": field.name, "help": meaning, "type": int, "nargs": "+", "metavar": "N"}
    if field.name == "dataset":
        default, choices = about.datasets[0], about.datasets
    if default not in (None, ""):
        of_datasets = [
            f"; {name}: {DATASETS[name][field.name]}"
            for name in about.datasets
            if field.name in DATASETS.get(name, {})
        ]
        meaning += f" ({default}{''.join(of_datasets)})"
    return {"dest": field.name, "help": meaning, "type": kind, "choices": choices or None}


def _yes_or_no(word: str) -> bool:
    # DEVIATION(instancegm): --saved False means False; the original takes any word for True.
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r}: give True or False")
    return word.lower() == "true"


def _with_config_file(parser: argparse.ArgumentParser, argv: list[str]) -> list[str]:
    """The command line with the entries of `--config FILE`, if that is given, in front."""
    flags = {action.dest for action in parser._actions}
    outcomes = {
        *OUTCOMES,
        *("noise_mode=file", "noise_mode=human"),
        *(field.name for field in fields(Config) if field.name not in flags),
    }
    alternatives = [("noise_file", "noise_mode"), ("noise_file", "r")]
    words = expand_config(
        parser,
        argv,
        recorded=outcomes,
        alternatives=alternatives,
        decides=("dataset", "noise_mode", "r"),
    )
    from_file = words[: len(words) - len(argv)]
    # What says its rate and kind itself; config.yaml records what it said.
    outcome = ["--noise_mode="] if _has(from_file, "--noise_file=") else []
    if _has(from_file, *(f"--dataset={name}" for name in HUMAN)):
        outcome = ["--noise_mode=", "--r="]
    from_file = [word for word in from_file if not word.startswith(tuple(outcome))]
    return [*from_file, *argv]


def _has(words: Sequence[str], *starts: str) -> bool:
    return any(word.startswith(starts) for word in words)


def _expand_abbreviations(
    argv: Sequence[str], published: dict[str, str], added: dict[str, str]
) -> list[str]:
    """Published flags may be abbreviated, as ever; no flag added here makes that ambiguous."""
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and flag not in {*published, *added}:
            meant = [name for name in published if name.startswith(flag)]
            if len({published[name] for name in meant}) == 1:
                flag = meant[0]
        words.append(flag + equals + value)
    return words
