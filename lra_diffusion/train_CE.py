"""Plain cross-entropy on noisy labels: what a network learns without label retrieval, on the same
images and labels.

The network, batch size, number of epochs and augmentation are those of LRA-diffusion's diffusion
encoder (train_CIFAR.py); the optimizer is the usual one of CIFAR classifiers: SGD from 0.1 along a
cosine, momentum 0.9, weight decay 5e-4.

    python train_CE.py --noise_type cifar10-1-0.35 --device cuda:0
    python train_CE.py --noise_type digits-1-0.35                       # two minutes on two CPU cores, after make_pmd.py
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from lra_diffusion import checkpoint, classifier, options, report, sets
from lra_diffusion.classifier import Classifier, LabelledImages, Settings
from lra_diffusion.command_line import (
    add_flags,
    autocast,
    choose_device,
    configure_torch,
    report_errors,
    use_bfloat16,
)
from lra_diffusion.experiment import find_folder, refuse_to_overwrite
from lra_diffusion.networks import DEPTHS
from lra_diffusion.report import Row
from lra_diffusion.sets import Part, Sets
from shared.formats.noise_file import write

DEFAULT_LR = 0.1
FROM_PRESET = ("nepoch", "batch_size", "diff_encoder", "width")
DECIDING_FLAGS = ("dataset", *FROM_PRESET, "lr", "seed", "limit_train", "limit_test")


@dataclass
class Baseline:
    """A run in progress."""

    args: argparse.Namespace
    name: str
    folder: Path
    device: torch.device
    sets: Sets
    settings: Settings
    learner: Classifier
    identity: dict[str, Any]
    rows: list[Row]

    def epochs(self) -> Iterator[Row]:
        """Trains what is left, a row of figures an epoch; `selection` chooses the best one."""
        tests = {name: _labelled(part, self.device) for name, part in self.sets.tests.items()}
        train_set = _labelled(self.sets.train, self.device)
        for row in classifier.epochs(
            self.learner, train_set, tests, self.settings, len(self.rows) + 1
        ):
            yield row | {"selection": row.get("accuracy_val")}

    def state_dict(self) -> dict[str, Any]:
        return {**self.learner.state_dict(), "rows": self.rows, "identity": self.identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise checkpoint.CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        checkpoint.refuse_other_run(state["identity"], self.identity)
        self.learner.load_state_dict(state)
        self.rows = list(state["rows"])


def _labelled(part: Part, device: torch.device) -> LabelledImages:
    return LabelledImages(part.images, torch.tensor(part.labels, device=device))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description="Train a classifier by plain cross-entropy on noisy labels, to compare "
        "LRA-diffusion with.",
        epilog="Example: python train_CE.py --noise_type digits-1-0.35",
    )
    cifar, digits = options.PRESETS["cifar10"], options.PRESETS["digits"]
    group = parser.add_argument_group("flags of train_CIFAR.py")
    add = group.add_argument
    add(
        "--noise_type",
        help="noisy labels by the name of their file in noise_label/, without its ending "
        "(cifar10-1-0.35)",
    )
    add(
        "--nepoch",
        type=int,
        help=f"epochs, counted from 1 ({cifar['nepoch']}, digits {digits['nepoch']})",
    )
    add(
        "--batch_size",
        type=int,
        help=f"images a step ({cifar['batch_size']}, digits {digits['batch_size']})",
    )
    add(
        "--diff_encoder",
        choices=tuple(DEPTHS),
        help=f"the network ({cifar['diff_encoder']}, digits {digits['diff_encoder']})",
    )
    add(
        "--width",
        type=int,
        help=f"channels of its first stage ({cifar['width']}, digits {digits['width']})",
    )
    add(
        "--dataset",
        choices=options.DATASETS["train_CIFAR"],
        help="what to train on, if --noise_type does not say it",
    )
    add(
        "--noise_dir",
        type=Path,
        help="folder of --noise_type's files (noise_label/ here, beside the scripts, ...)",
    )
    add_flags(group, "--noise_file")
    add(
        "--cut_labels",
        action="store_true",
        help="the label file covers the whole training set: take those that are trained on",
    )
    add(
        "--no_validation",
        action="store_true",
        help="train on all training images; the last epoch counts",
    )
    add_flags(
        group,
        "--data_path",
        "--seed",
        "--limit_train",
        "--limit_test",
        "--device",
        "--amp",
        "--output_dir",
        "--resume",
        "--deterministic",
        "--wandb",
    )
    parser.add_argument(
        "--lr",
        type=float,
        default=DEFAULT_LR,
        help=f"learning rate of the first epoch ({DEFAULT_LR})",
    )
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Flags as a namespace, presets filled in and everything checked; exits with a message if
    something is wrong.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    vars(args).update(
        script="train_CIFAR", eval_only=None, fp_embed_train=None
    )  # what choosing and loading data reads
    options.choose_dataset(parser, args)
    for name in FROM_PRESET:
        if getattr(args, name) is None:
            setattr(args, name, options.PRESETS[args.dataset][name])
    at_least = {
        "nepoch": 1,
        "batch_size": 1,
        "width": 1,
        "seed": 0,
        "limit_train": 1,
        "limit_test": 1,
    }
    for name, low in at_least.items():
        if getattr(args, name) is not None and getattr(args, name) < low:
            parser.error(f"--{name} {getattr(args, name)}: must be at least {low}")
    if not 0 < args.lr < float("inf"):
        parser.error(f"--lr {args.lr}: must be above 0")
    if args.no_validation and args.cut_labels:
        parser.error(
            "--no_validation trains on all images, so there are no labels to cut off: drop one "
            "of them"
        )
    if args.wandb and importlib.util.find_spec("wandb") is None:
        parser.error("--wandb needs the package wandb: `pip install wandb`")
    return args


def prepare(args: argparse.Namespace) -> Baseline:
    """Reads and checks everything, then builds the network; nothing is written."""
    device = choose_device(args.device)
    refuse_to_overwrite(args)
    configure_torch(args.deterministic, device)
    found = sets.load(args, device)
    identity = {
        "method": "CE",
        **{name: getattr(args, name) for name in DECIDING_FLAGS},
        "bf16": use_bfloat16(args.amp, device),
        **found.hashes,
    }
    noise = args.noise_type or (Path(args.noise_file).stem if args.noise_file else args.dataset)
    name = f"CE_{noise.replace(':', '_')}"
    settings = Settings(
        args.batch_size,
        args.nepoch,
        classifier.cosine(args.lr, args.nepoch),
        args.seed,
        autocast(args.amp, device),
    )
    learner = classifier.build(args.diff_encoder, args.width, found.num_classes, device, args.seed)
    return Baseline(
        args=args,
        name=name,
        folder=find_folder(args, name, identity),
        device=device,
        sets=found,
        settings=settings,
        learner=learner,
        identity=identity,
        rows=[],
    )


def start(args: argparse.Namespace) -> Baseline:
    """Builds or resumes a run, trains it, and writes what it leaves behind."""
    run = prepare(args)
    if args.resume:
        checkpoint.resume(run, run.folder, run.device)
    config = _config(run)
    run.folder.mkdir(parents=True, exist_ok=True)
    for unfinished in run.folder.glob(".*.tmp"):  # left by a kill in the middle of writing
        unfinished.unlink()
    report.write_config(run.folder, config)
    write(run.folder / "noise.npz", run.sets.noise)
    _print_start(run, config)
    log = report.Report(
        run.folder, run.rows, report.start_wandb(run.folder, config) if args.wandb else None
    )
    try:
        _train(run, log)
    finally:
        log.close()
    _print_end(run)
    return run


def _train(run: Baseline, log: report.Report) -> None:
    with tqdm(total=run.args.nepoch, desc="epochs", initial=len(run.rows), disable=None) as bar:
        for row in run.epochs():
            best = report.chosen(run.rows)
            log.log(row)
            names = [checkpoint.BEST] if report.chosen(run.rows) is not best else []
            checkpoint.save(
                run.state_dict(), *(run.folder / name for name in [*names, checkpoint.LAST])
            )
            bar.update()
            tqdm.write(
                f"epoch: {row['epoch']}, loss: {row['loss']:.4f}, accuracy on the given labels: "
                f"{row['accuracy_train']:.2f}%, test accuracy: {row['accuracy']:.2f}%"
            )


def _config(run: Baseline) -> dict[str, Any]:
    unneeded = ("resume", "script", "eval_only", "fp_embed_train")
    return {
        "method": "CE",
        **{name: value for name, value in vars(run.args).items() if name not in unneeded},
        "measured_noise_rate": run.sets.noise.header.measured_rate,
        "data_location": None if run.sets.location is None else run.sets.location.resolve(),
        "device_used": str(run.device),
        "threads": torch.get_num_threads(),
        "identity": run.identity,
    }


def _print_start(run: Baseline, config: dict[str, Any]) -> None:
    args, rate = run.args, config["measured_noise_rate"]
    sizes = ", ".join(f"{len(part.labels)} {name}" for name, part in run.sets.tests.items())
    print(f"CE on {args.dataset}: {len(run.sets.train.labels)} training, {sizes} images")
    print(
        "noise: "
        + (
            "how many of the labels are wrong is not known"
            if rate is None
            else f"measured rate {rate:.4f}"
        )
    )
    print(
        "settings: "
        f"{', '.join(f'{name} {getattr(args, name)}' for name in (*FROM_PRESET, 'lr', 'seed'))}"
    )
    print(
        f"{run.device}, {'bfloat16 autocast' if run.identity['bf16'] else 'float32'}; run "
        f"folder {run.folder}"
    )
    if run.rows:
        print(f"resumed: epoch {len(run.rows)} of {args.nepoch} is done")


def _print_end(run: Baseline) -> None:
    result, chosen = report.summary(run.rows), report.chosen(run.rows)
    print(
        f"CE test accuracy: last {result['last']:.2f} %, mean of the last 10 "
        f"{result['last_10_mean']:.2f} %, best "
        f"{result['best']:.2f} % (epoch {result['best_epoch']})"
    )
    if chosen is not None and chosen["selection"] is not None:
        print(
            f"at the best validation accuracy: {chosen['accuracy']:.2f} % (epoch {chosen['epoch']})"
        )
    print(f"run folder: {run.folder}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    return report_errors(start, parse(argv))


if __name__ == "__main__":
    sys.exit(main())
