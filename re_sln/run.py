"""A training run from start to end: builds or resumes it, logs and saves every epoch, says what
came out.
"""

import argparse
import sys
from typing import Any

import torch
from tqdm import tqdm

from re_sln import checkpoint, options, report
from re_sln.experiment import Experiment, prepare
from re_sln.options import method_name
from re_sln.train import NonFiniteLossError, Row
from shared.datasets import DatasetError
from shared.formats.noise_file import NoiseFileError, write

BAD_INPUT = (options.UsageError, DatasetError, NoiseFileError, checkpoint.CheckpointError, OSError)


def run_and_report(args: argparse.Namespace) -> int:
    """Trains; every error that the user can mend is one message.

    Exit status as the scripts document it.
    """
    try:
        start(args)
    except NonFiniteLossError as error:
        print(
            f"stopped: the loss is not finite ({error}). The checkpoint of the last good epoch "
            "is kept. Lower --lr, or "
            "try --amp off",
            file=sys.stderr,
        )
        return 3
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; the same command with --resume goes on after the last whole epoch",
            file=sys.stderr,
        )
        return 130
    return 0


def start(args: argparse.Namespace) -> Experiment:
    """Builds or resumes a run, trains it, and writes what it leaves behind."""
    run = prepare(args)
    if args.resume:
        state = checkpoint.load_newest(run.folder, run.device)
        if state is None:
            print("note: no checkpoint of these settings, starting at epoch 1")
        else:
            run.load_state_dict(state)
    config = _config(run)
    run.folder.mkdir(parents=True, exist_ok=True)
    for unfinished in run.folder.glob(".*.tmp"):  # left by a kill in the middle of writing
        unfinished.unlink()
    configs, models = report.published_places(args.output_dir, run.exp_id)
    report.write_config(run.folder, config)
    report.write_published_config(configs, args, run.exp_id)
    if run.noise is not None:
        write(run.folder / "noise.npz", run.noise)
    _print_start(run)
    log = report.Report(
        run.folder,
        run.rows,
        args.mo,
        report.start_wandb(run.folder, config) if args.wandb else None,
    )
    try:
        _train(run, log)
    finally:
        log.close()
    states = {"model.pth": run.learner.net.state_dict()}
    if args.mo:
        states["model_ema.pth"] = run.learner.average.net.state_dict()
    report.write_models(models, states)
    _print_end(run)
    return run


def _train(run: Experiment, log: report.Report) -> None:
    total = run.args.n_epochs
    with tqdm(total=total, desc="epochs", initial=len(run.rows), disable=None) as bar:
        for row in run.epochs():
            best = max((past[run.selects_by] for past in run.rows), default=-1.0)
            log.log(row)
            names = [checkpoint.BEST] if row[run.selects_by] > best else []
            checkpoint.save(
                run.state_dict(), *(run.folder / name for name in [*names, checkpoint.LAST])
            )  # the last one counts
            bar.update()
            tqdm.write(_line(run, row))


def _line(run: Experiment, row: Row) -> str:
    """An epoch in the original's words: accuracies are fractions there."""
    reported = f"{list(run.test_sets)[-1]}_{'ema' if run.settings.mo else 'base'}"
    return (
        f"epoch={row['epoch']}/{run.args.n_epochs}, loss_epoch={row['loss_train']:.4f}, "
        f"acc_epoch={row['accuracy_train'] / 100:.4f}, loss_test={row[f'loss_{reported}']:.4f}, "
        f"accuracy_test={row['accuracy'] / 100:.4f}"
    )


def _config(run: Experiment) -> dict[str, Any]:
    return {
        "exp_id": run.exp_id,
        **{name: value for name, value in vars(run.args).items() if name != "resume"},
        "method": method_name(run.args),
        "measured_noise_rate": None if run.noise is None else run.noise.header.measured_rate,
        "data_location": None if run.data_location is None else run.data_location.resolve(),
        "device_used": str(run.device),
        "threads": torch.get_num_threads(),
        "identity": run.identity,
    }


def _print_start(run: Experiment) -> None:
    args = run.args
    print(
        f"{method_name(args)} on {args.dataset_name}: {len(run.train_set.given)} training images, "
        + ", ".join(
            f"{len(test_set.labels)} {name} images" for name, test_set in run.test_sets.items()
        )
    )
    if run.train_set.is_noisy is None or run.noise is None:
        print("noise: none added; how many of the labels are wrong is not known")
    else:
        nominal = "" if args.p is None else f" {args.p:g}"
        rate = run.noise.header.measured_rate
        print(f"noise: {args.noise_file or args.noise_mode}{nominal}, measured rate {rate:.4f}")
    shown = (
        "n_epochs",
        "batch_size",
        "lr",
        "sigma",
        "lc_n_epoch",
        "ema_decay",
        "depth",
        "width",
        "seed",
    )
    print("settings: " + ", ".join(f"{name} {getattr(args, name):g}" for name in shown))
    print(
        f"{run.device}, {'bfloat16 autocast' if run.identity['bf16'] else 'float32'}; run "
        f"folder {run.folder}"
    )
    if run.rows:
        print(f"resumed: epoch {len(run.rows)} of {args.n_epochs} is done")


def _print_end(run: Experiment) -> None:
    result = report.summary(run.rows)
    which = "momentum model" if run.settings.mo else "network"
    print(
        f"{method_name(run.args)} test accuracy of the {which}: last {result['last']:.2f} % "
        "(what the paper reports), "
        f"mean of the last 10 {result['last_10_mean']:.2f} %, best {result['best']:.2f} % "
        f"(epoch {result['best_epoch']})"
    )
    if run.selects_by != "accuracy":
        chosen = max(run.rows, key=lambda row: row[run.selects_by])
        print(
            "momentum model at its best validation accuracy (what the authors report on "
            "Clothing1M): "
            f"{chosen['accuracy_test_ema']:.2f} % (epoch {chosen['epoch']})"
        )
    last = run.rows[-1]
    other = "base" if run.settings.mo else "ema"
    print(
        f"last epoch of the {'network itself' if run.settings.mo else 'momentum model'}: "
        f"{last[f'accuracy_test_{other}']:.2f} %"
    )
    print(f"all models saved, exp_id={run.exp_id}")
