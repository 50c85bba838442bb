"""InstanceGM: instance-dependent noisy label learning via graphical modelling.

Garg, Nguyen, Felix, Do, Carneiro, WACV 2023, arXiv 2209.00906.

    python instanceGM.py --r 0.5                                  # CIFAR-10, the paper's setting
    python instanceGM.py --dataset digits --r 0.4                 # three minutes on two CPU cores, no download

What differs from the published code is listed in README.md; by default the arithmetic of the method
is the same.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from instancegm import checkpoint, options, report
from instancegm.data import DeviceImages
from instancegm.experiment import (
    Experiment,
    evenly,
    load_data,
    method_name,
    network_from_state,
    prepare,
    write_results,
)
from instancegm.mixture import split_by_clean_prob
from instancegm.train import (
    NonFiniteLossError,
    co_divide_epoch,
    ensemble_accuracy,
    predict,
    warm_up_epoch,
)
from shared.datasets import DatasetError
from shared.formats.noise_file import NoiseFileError, write


def train(run: Experiment, log: report.Report) -> None:
    """The algorithm: warm-up on all labels, then each network learns from the split that the other
    one's losses make.
    """
    args, settings = run.args, run.settings
    # DEVIATION(instancegm): the last epoch runs; the original counts to num_epochs as well, but
    # dies there of a list that is one entry short, before it saves anything.
    epochs = range(run.next_epoch, args.num_epochs + 1)
    for epoch in tqdm(
        epochs, "epochs", initial=run.next_epoch, total=args.num_epochs + 1, disable=None
    ):
        start = time.perf_counter()
        lr = args.lr if epoch < args.lr_drop else args.lr / 10
        for peer in run.peers:
            peer.net_optimizer.param_groups[0]["lr"] = lr
        row: report.Row = {"epoch": epoch, "lr": lr}

        if epoch < args.warm_up or args.mode == "ce":
            row["phase"] = "warm_up"
            losses = [warm_up_epoch(peer, run.train_set, settings, epoch) for peer in run.peers]
        else:
            row["phase"] = "co_divide"
            fits = run.clean_fits(epoch, run.predict_train_set())[
                ::-1
            ]  # each network learns from the other's split
            splits = [
                split_by_clean_prob(fit.clean_prob, args.p_threshold, args.batch_size)
                for fit in fits
            ]
            losses = [
                co_divide_epoch(peer, other, split, run.train_set, settings, epoch)
                for peer, other, split in zip(run.peers, run.peers[::-1], splits)
            ]
            for k, (fit, split) in enumerate(zip(fits, splits), start=1):
                row[f"n_labelled_{k}"] = len(split.labelled)
                row[f"auc_{k}"] = _auc(run, fit.clean_prob)
        seconds = time.perf_counter() - start
        for k, terms in enumerate(losses, start=1):
            row |= {f"{name}_{k}": value for name, value in terms.items()}

        logits = predict([peer.net for peer in run.peers], run.test_images, settings.autocast)
        if len(run.peers) == 2:
            row |= {
                f"accuracy_{k + 1}": ensemble_accuracy(logits[k : k + 1], run.test_labels)
                for k in range(2)
            }
        row["accuracy"] = ensemble_accuracy(logits, run.test_labels)
        row |= {
            "seconds": round(seconds, 3),
            "images_per_s": round(_images_seen(run, row) / seconds, 1),
        }
        is_best = row["accuracy"] > max((past["accuracy"] for past in run.rows), default=-1.0)
        log.log(row)
        names = (
            [checkpoint.BEST, checkpoint.LAST] if is_best else [checkpoint.LAST]
        )  # in this order: the last one counts
        checkpoint.save(run.state_dict(), *(run.folder / name for name in names))
        tqdm.write(f"| Test Epoch #{epoch}\t Accuracy: {row['accuracy']:.2f}%\t ({seconds:.1f} s)")


def _auc(run: Experiment, clean_prob: Any) -> float | None:
    """How well the clean probability tells right labels from wrong ones; None where there is
    nothing to tell apart.
    """
    if run.is_clean is None or run.is_clean.all() or not run.is_clean.any():
        return None
    return float(roc_auc_score(run.is_clean, clean_prob))


def _images_seen(run: Experiment, row: report.Row) -> int:
    """Images drawn from the training set for the steps of an epoch, each counted once whatever its
    number of views.
    """
    if row["phase"] == "warm_up":
        return len(run.peers) * len(run.train_set.images)
    batch = run.args.batch_size
    per_step = 2 * batch + (0 if run.args.no_vae else 2 * batch)
    return sum(per_step * -(-row[f"n_labelled_{k}"] // batch) for k in (1, 2))


def start(args: argparse.Namespace) -> None:
    """Builds or resumes a run, trains it, and writes what it leaves behind."""
    run = prepare(args)
    if args.resume:
        state = checkpoint.load_newest(run.folder, run.device)
        if state is None:
            print(f"note: {run.folder} has no checkpoint, starting at epoch 0")
        else:
            run.load_state_dict(state)
    config = {
        **{
            name: value
            for name, value in vars(args).items()
            if name not in ("given", "evaluate", "resume")
        },
        "method": method_name(args),
        "measured_noise_rate": run.noise.header.measured_rate,
        **{name: run.identity[name] for name in ("bf16", "data_sha256", "noisy_labels_sha256")},
        "data_location": None if run.data_location is None else run.data_location.resolve(),
        "device_used": str(run.device),
        "threads": torch.get_num_threads(),
    }
    run.folder.mkdir(parents=True, exist_ok=True)
    for unfinished in run.folder.glob(".*.tmp"):  # left by a kill in the middle of writing
        unfinished.unlink()
    report.write_config(run.folder, config)
    write(run.folder / "noise.npz", run.noise)
    _print_start(run)
    wandb_run = report.start_wandb(run.folder, config) if args.wandb else None
    log = report.Report(run.folder, run.log_prefix, run.rows, wandb_run)
    try:
        train(run, log)
    finally:
        log.close()
    write_results(run)
    _print_end(run)


def _print_start(run: Experiment) -> None:
    args = run.args
    shown = ("num_epochs", "warm_up", "lr_drop", "lambda_u", "p_threshold", "width", "batch_size")
    preset = ", ".join(f"{name} {getattr(args, name):g}" for name in shown)
    known = run.noise.header
    nominal = "" if known.nominal_rate is None else f"nominal rate {known.nominal_rate:g}, "
    print(
        f"{method_name(args)} on {args.dataset}: {len(run.train_set.images)} training, "
        f"{len(run.test_images)} test images"
    )
    if run.is_clean is None:
        print("noise: none added; how many of the labels are wrong is not known")
    else:
        print(
            f"noise: {args.noise_file or args.noise_mode}, {nominal}measured "
            f"{known.measured_rate:.4f}"
        )
    print(f"preset (override with the flags): {preset}")
    print(
        f"{run.device}, {'bfloat16 autocast' if run.identity['bf16'] else 'float32'}; run "
        f"folder {run.folder}"
    )
    if run.next_epoch:
        print(f"resumed: epoch {run.next_epoch - 1} of {args.num_epochs} is done")


def _print_end(run: Experiment) -> None:
    result = report.summary(run.rows)
    print(
        f"{method_name(run.args)} test accuracy: best {result['best']:.2f} % (epoch "
        f"{result['best_epoch']}), "
        f"last {result['last']:.2f} %, mean of the last 10 {result['last_10_mean']:.2f} % "
        "(the paper does not say which it reports)"
    )
    print(f"plots: {run.folder / 'plots.png'}")


def evaluate(args: argparse.Namespace) -> None:
    """Prints the test accuracy of the checkpoints of a run, or of one file: ours or the original's."""
    files, device = [args.evaluate], options.choose_device(args.device, args.gpuid)
    if args.evaluate.is_dir():
        files = [
            path
            for name in (checkpoint.LAST, checkpoint.BEST)
            if (path := args.evaluate / name).exists()
        ]
        if not files:
            raise checkpoint.CheckpointError(
                f"{args.evaluate} holds neither {checkpoint.LAST} nor {checkpoint.BEST}"
            )
        config = report.read_config(args.evaluate)
        if "amp" not in args.given:
            args.amp = "bf16" if config.get("bf16") else "off"
        for flag, entry in (("data_path", "data_location"), ("limit_test", "limit_test")):
            if flag not in args.given:
                value = config.get(entry)
                setattr(args, flag, Path(value) if flag == "data_path" and value else value)
    states = [checkpoint.load(path, device) for path in files]
    networks = [checkpoint.network_states(state) for state in states]
    if "dataset" not in args.given:  # the original's checkpoints do not say theirs
        args.dataset = states[0].get("identity", vars(args))["dataset"]
    data = load_data(args)
    rows = evenly(len(data.test_labels), args.limit_test)
    images, labels = (
        DeviceImages(data.test_images[rows], device),
        torch.from_numpy(data.test_labels[rows]).to(device),
    )
    for path, peers in zip(files, networks):
        nets = [network_from_state(state, data.num_classes, device) for state in peers]
        logits = predict(nets, images, options.autocast(args.amp, device))
        each = [
            f"network {k + 1} {ensemble_accuracy(logits[k : k + 1], labels):.2f} %"
            for k in range(len(nets))
        ]
        print(
            f"{path}: test accuracy {ensemble_accuracy(logits, labels):.2f} % "
            f"({', '.join(each)}; {len(labels)} images)"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    args = options.parse(sys.argv[1:] if argv is None else argv)
    try:
        evaluate(args) if args.evaluate else start(args)
    except NonFiniteLossError as error:
        print(
            f"stopped: the loss is not finite ({error}). The checkpoint of the last good epoch "
            "is kept. Lower --lr, or "
            "try --amp off",
            file=sys.stderr,
        )
        return 3
    except (
        options.UsageError,
        DatasetError,
        NoiseFileError,
        checkpoint.CheckpointError,
        OSError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; the same command with --resume goes on after the last whole epoch",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
