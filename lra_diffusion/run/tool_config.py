"""From a command line to a configuration: the scripts beside training. See `run.config`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from .config import LABELS_FOLDER, OUTCOMES, check_positive, of_clip, usual_presets
from .dataset_flags import check_own_pictures
from .fields import build_parser, check_at_least, check_seed, read
from .presets import SIMCLR, TEACHERS
from .schema import TrainConfig
from .tool_schema import TEACHER_NETWORKS, KNNConfig, PMDConfig, SimCLRConfig

DEFAULT_FACTOR = 1.2  # of PMD noise
# Settings of a run that may differ when its pictures are drawn: where things are and are computed.
MOVABLE = (
    *("data_path", "device", "amp", "num_workers", "fp_encoder", "CLIP_type", "CLIP_activation"),
    *("fp_weights", "fp_embed_train", "fp_embed_test", "cache_dir", "skip_broken", "labels"),
)


def parse_simclr(argv: Sequence[str] | None) -> SimCLRConfig:
    """The configuration of train_SimCLR.py."""
    parser = build_parser(
        "train_SimCLR",
        SimCLRConfig,
        "Pre-train the SimCLR encoder f_p on a dataset's training images, without their labels.",
        "python train_SimCLR.py --dataset digits    (writes model/SimCLR_128_digits.pt)",
        usual_presets(SIMCLR),
    )
    values, _ = read(parser, argv, recorded=lambda _: {*OUTCOMES, "hidden"})
    values = {**SIMCLR[values.get("dataset", "cifar10")], **values}
    config = SimCLRConfig(**values)
    check_own_pictures(parser, values, config.dataset)
    least = {"nepoch": 1, "batch_size": 2, "width": 1, "limit_train": 2, "limit_test": 1}
    check_at_least(parser, values, least)
    check_seed(parser, config.seed)
    for name in ("lr", "temperature"):
        check_positive(parser, name, values[name])
    return config


def parse_pmd(argv: Sequence[str] | None) -> PMDConfig:
    """The configuration of make_pmd.py."""
    parser = build_parser(
        "make_pmd",
        PMDConfig,
        "Make PMD label noise from a teacher trained on the clean labels.",
        "python make_pmd.py --dataset digits --rate 0.35",
        usual_presets(TEACHERS),
        without=("limit_test",),
    )
    alternatives = (("rate", "noise_factor"), ("uniform", "asymmetric"), ("device", "gpus"))
    values, given = read(parser, argv, recorded=lambda _: OUTCOMES, alternatives=alternatives)
    for one, other in (*alternatives, ("network", "eta"), ("epochs", "eta"), ("lr", "eta")):
        if {one, other} <= given:
            parser.error(f"--{one} and --{other} do not go together: leave one of them out")
    if "network" in values:
        values["network"] = TEACHER_NETWORKS[values["network"]]
    dataset = values.get("dataset", "cifar10")
    check_own_pictures(parser, values, dataset)
    values = {**TEACHERS[dataset], **values}
    if "rate" not in values:
        values.setdefault("noise_factor", DEFAULT_FACTOR)
    out = values.get("out")
    values.setdefault("output_dir", out.parent if out else LABELS_FOLDER)
    check_at_least(parser, values, {"epochs": 1, "limit_train": 2})
    check_seed(parser, values.get("seed"))
    check_positive(parser, "lr", values["lr"])
    return PMDConfig(**values)


def parse_knn(argv: Sequence[str] | None) -> KNNConfig:
    """The configuration of KNN_test.py."""
    parser = build_parser(
        "KNN_test",
        KNNConfig,
        "Accuracy of k nearest neighbours in the feature space f_p.",
        "python KNN_test.py --data cifar10 --fp_encoder SimCLR --k 10",
        {},
        without=("seed", "output_dir", "deterministic"),
    )
    values, given = read(parser, argv)
    f_p = values.get("fp_encoder", "SimCLR")
    if f_p != "CLIP" and (useless := [name for name in of_clip(values) if name in given]):
        parser.error(f"--{useless[0]} does nothing with --fp_encoder {f_p}: drop one of them")
    check_own_pictures(parser, values, values.get("data", "cifar10"), flag="--data")
    check_at_least(
        parser, values, dict.fromkeys(("k", "batch_size", "limit_train", "limit_test"), 1)
    )
    return KNNConfig(**values)


def parse_plot(argv: Sequence[str] | None) -> tuple[Path, Path, dict[str, Any]]:
    """Of plot.py: the run folder, the folder of the pictures, settings that are not the run's."""
    parser = build_parser(
        "plot",
        TrainConfig,
        "Draw the retrieved labels and the reverse diffusion of a finished run.",
        "python plot.py runs/mine",
        {"": {**dict.fromkeys(MOVABLE, "the run's"), "device": "auto"}},
        without={*get_type_hints(TrainConfig)} - {*MOVABLE},
    )
    parser.add_argument("run", type=Path, help="run folder of a training script")
    parser.add_argument("--out", type=Path, help="folder of the pictures (the run folder)")
    values, _ = read(parser, argv)
    run: Path = values.pop("run")
    return run, values.pop("out", run), values
