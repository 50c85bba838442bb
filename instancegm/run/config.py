"""The command line of instanceGM.py: flags to a checked `Config`, presets filled in.

Every field made by `setting` is a flag of the same name. A new hyper-parameter is a field there or
in `method/settings.py`, and its use. Imported before torch, so that --help answers at once.
"""

# ruff: noqa: RUF009  (`setting` makes a field)

import argparse
import difflib
import importlib.util
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from instancegm.method.settings import Settings, setting
from instancegm.run.flags import add_config_flag, expand_config

Dataset = Literal["cifar10", "cifar100", "digits", "folder"]
NOISE_MODES = ("instance", "sym", "asym", "none")

# Published flags; the values are their spellings where these are not just --<name>.
PUBLISHED: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "data_path": (),
    # DEVIATION(instancegm): -r sets the noise rate; the original drops it unseen and trains at 0.5.
    "r": ("--r", "-r"),
    "noise_mode": (),
    "num_epochs": (),
    "batch_size": (),
    "lr": ("--lr", "--learning_rate"),
    "vae_lr": ("--vae_lr", "--vae_learning_rate"),
    "lambda_u": (),
    "p_threshold": (),
    "alpha": (),
    "T": (),
    "z_dim": (),
    "num_class": (),
    "seed": (),
    "gpuid": (),
    "id": (),
}
SPELLINGS = {**PUBLISHED, "no_vae": ("--no-vae",)}
OF_THIS_COMMAND = ("resume", "evaluate")  # flags that config.yaml does not record
OUTCOMES = (  # what config.yaml records beside the configuration
    *("method", "measured_noise_rate", "bf16", "data_sha256", "noisy_labels_sha256"),
    *("data_location", "device_used", "threads", "versions"),
)

PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": {},
    "cifar100": {"warm_up": 30},
    "folder": {},
    # Three minutes on two cores; and a mirrored 2 is no digit.
    "digits": {"num_epochs": 24, "lr_drop": 18, "width": 8, "flip": False},
}
# DEVIATION(instancegm): lambda_u and p_threshold follow DivideMix for symmetric and asymmetric
# noise; the original leaves them at 25 and 0.5 unless told otherwise. DivideMix (ICLR 2020,
# appendix) tuned lambda_u per rate for symmetric noise and sets 0 for asymmetric noise; the first
# row whose bound the rate does not exceed counts. Instance-dependent noise is InstanceGM's own
# case: 25 at every rate.
SYMMETRIC_LAMBDA_U = {
    "cifar100": ((0.35, 25.0), (1.0, 150.0)),
    "default": ((0.35, 0.0), (0.85, 25.0), (1.0, 50.0)),
}
# At this rate DivideMix raises the threshold and averages losses over five epochs.
FAR_END_OF_RATES = 0.9


def preset(dataset: str, noise_mode: str, rate: float) -> dict[str, Any]:
    """The settings that follow from the data set, the kind of noise and its rate."""
    values = {
        "lambda_u": Settings.lambda_u,
        "p_threshold": Settings.p_threshold,
        "loss_epochs": Settings.loss_epochs,
        **PRESETS[dataset],
    }
    if noise_mode == "asym":
        values["lambda_u"] = 0.0
    elif noise_mode == "sym":
        bounds = SYMMETRIC_LAMBDA_U.get(dataset, SYMMETRIC_LAMBDA_U["default"])
        values["lambda_u"] = next(value for bound, value in bounds if rate <= bound)
        if rate >= FAR_END_OF_RATES:
            values["p_threshold"] = 0.6
    if rate == FAR_END_OF_RATES:
        values["loss_epochs"] = 5
    return values


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Everything that a command line says, checked, with presets filled in."""

    # Data and noisy labels
    dataset: Dataset = setting("cifar10", "what to train on; folder: your own images or .npz")
    data_path: Path | None = setting(
        None, "where the data is: its folder, a folder above it, or an .npz (./cifar-10, ...)"
    )
    r: float = setting(0.5, "noise rate", "[0, 1]")
    noise_mode: str = setting(  # "file": that of --noise_file, where it is none of the others
        "instance",
        "noise to put on the labels: instance-dependent (PDN), symmetric or asymmetric as in "
        "DivideMix, or none: the labels are noisy already, as those of folder are unless --r says "
        "otherwise",
        choices=NOISE_MODES,
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

    # Machine
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps")
    gpuid: int = setting(0, "which GPU, where there are several", "[0, inf)")
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
    wandb: bool = setting(
        False, "log to Weights & Biases; offline unless WANDB_MODE says otherwise"
    )
    plots: bool = setting(True, "draw plots.png at the end")

    given: frozenset[str] = frozenset()  # fields that flags set; presets leave them alone

    def with_noise(self, rate: float, mode: str) -> "Config":
        """The same with another rate and kind of noise, and the presets that go with them."""
        filled = preset(self.dataset, mode, rate)
        free = {name: value for name, value in filled.items() if name not in self.given}
        return replace(self, r=rate, noise_mode=mode, **free)

    def recorded(self) -> dict[str, Any]:
        """The settings for config.yaml."""
        left_out = {"given", *OF_THIS_COMMAND}
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def where_data_is(self) -> Path | None:
        """--data_path, else None for $DATA_ROOT, else the published ./cifar-10 if it is there."""
        if self.data_path is not None or "DATA_ROOT" in os.environ:
            return self.data_path
        published = Path(self.dataset.replace("cifar", "cifar-"))
        return published if published.is_dir() else None


def parse(argv: Sequence[str]) -> Config:
    """The configuration of a command line; exits with a message if something is wrong."""
    parser, published, added = build_parser()
    words = _with_config_file(parser, _expand_abbreviations(argv, published, added))
    typed, unknown = parser.parse_known_args(words)
    # The published scripts ignore unknown flags in silence; old command lines must still run.
    for word in unknown:
        close = difflib.get_close_matches(word.split("=")[0], [*published, *added], n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        print(
            f"warning: ignored {word!r}, which is not a flag of this script{hint}", file=sys.stderr
        )
    given = {name: value for name, value in vars(typed).items() if name != "config"}
    config = Config(**given, given=frozenset(given))
    own_labels = config.dataset == "folder" and not {"r", "noise_file"} & config.given
    mode = given.get("noise_mode", "none" if own_labels else "instance")
    for problem in _wrong_values(config):
        parser.error(problem)
    if mode == "none" and given.get("r", 0.0) != 0:
        parser.error(f"--noise_mode none puts no noise on the labels: leave out --r {config.r}")
    config = config.with_noise(0.0 if mode == "none" else config.r, mode)
    for problem in _wrong_combinations(config):
        parser.error(problem)
    return config


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, str], dict[str, str]]:
    """The parser, and two tables flag -> field: the published flags and ours.

    What is not typed is not in the namespace, so that presets can fill it.
    """
    parser = argparse.ArgumentParser(
        description="InstanceGM (Garg et al., WACV 2023): train on instance-dependent label noise.",
        epilog="Example: python instanceGM.py --dataset digits --r 0.4",
        argument_default=argparse.SUPPRESS,
    )
    groups = [parser.add_argument_group(title) for title in ("the paper's flags", "added here")]
    published: dict[str, str] = {}
    added: dict[str, str] = {}
    settings = {field.name: field for field in fields(Config) if field.metadata}
    for name in [*PUBLISHED, *(name for name in settings if name not in PUBLISHED)]:
        group, table = (groups[0], published) if name in PUBLISHED else (groups[1], added)
        action = group.add_argument(*_spellings(name), **_argument(settings[name]))
        table.update(dict.fromkeys(action.option_strings, name))
    add_config_flag(groups[1])
    return parser, published, added


def _spellings(name: str) -> tuple[str, ...]:
    return SPELLINGS.get(name) or (f"--{name}",)


def _argument(field: Field[Any]) -> dict[str, Any]:
    """How argparse reads the field: its type, its choices, its meaning with the default."""
    meaning, choices = field.metadata["meaning"], field.metadata["choices"]
    if field.type is bool:
        action = argparse.BooleanOptionalAction if field.default else "store_true"
        return {"dest": field.name, "help": meaning, "action": action}
    parts = get_args(field.type)
    kind: Any = next((part for part in parts if part is not NoneType), field.type)
    if get_origin(field.type) is Literal:
        kind, choices = str, parts
    if field.default not in (None, ""):
        of_datasets = [f"; {k}: {v[field.name]}" for k, v in PRESETS.items() if field.name in v]
        meaning += f" ({field.default}{''.join(of_datasets)})"
    return {"dest": field.name, "help": meaning, "type": kind, "choices": choices or None}


def _with_config_file(parser: argparse.ArgumentParser, argv: list[str]) -> list[str]:
    """The command line with the entries of `--config FILE`, if that is given, in front."""
    outcomes = {
        *OUTCOMES,
        "noise_mode=file",
        *(field.name for field in fields(Config) if not field.metadata),
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
    if any(word.startswith("--noise_file=") for word in from_file):
        # A noise file says its kind itself, and config.yaml records what it said.
        from_file = [word for word in from_file if not word.startswith("--noise_mode=")]
    return [*from_file, *argv]


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


def _wrong_values(config: Config) -> Iterator[str]:
    """Values outside their interval."""
    if not 0.0 <= config.r <= 1.0:
        yield f"--r {config.r}: a noise rate lies in [0, 1]; 20 percent is --r 0.2"
    for field in fields(Config):
        value, allowed = config.__dict__[field.name], field.metadata.get("allowed")
        if not allowed or value is None:
            continue
        low, high = map(float, allowed[1:-1].split(","))
        above = value >= low if allowed[0] == "[" else value > low
        below = value <= high if allowed[-1] == "]" else value < high
        if not (above and below):
            words = f"at least {low:g}" if allowed[0] == "[" else f"greater than {low:g}"
            if high < math.inf:
                words = f"in {allowed}"
            yield f"{_spellings(field.name)[0]} {value}: must be {words}"


def _wrong_combinations(config: Config) -> Iterator[str]:
    """What cannot work, as far as that is known before any data is read."""
    if config.mode == "ce":
        idle = {"--no-vae": config.no_vae, "--guess_eval": config.guess_eval}
        for flag in (flag for flag, used in idle.items() if used):
            yield f"--mode ce has no co-divide phase: leave out {flag}"
    if config.no_vae and config.numerics == "paper":
        yield "--numerics concerns the VAE, and --no-vae leaves it out: drop one of them"
    if config.noise_file and "noise_mode" in config.given:
        yield "--noise_file and --noise_mode both say where the noise comes from: drop one of them"
    if config.wandb and importlib.util.find_spec("wandb") is None:
        yield (
            "--wandb needs the package wandb, which is not installed: `pip install wandb`, or "
            "with uv `uv pip install --python .venv/instancegm wandb`"
        )
    if config.dataset == "folder" and config.data_path is None and not config.evaluate:
        yield (
            "--dataset folder needs --data_path: a folder with train/<class>/ and test/<class>/, "
            "or an .npz"
        )
    if config.noise_mode == "asym" and config.dataset not in ("cifar10", "cifar100"):
        yield (
            "--noise_mode asym knows the class pairs of cifar10 and cifar100 only; for another "
            "set make a noise file with `python -m shared noise make` and give it with "
            "--noise_file"
        )
