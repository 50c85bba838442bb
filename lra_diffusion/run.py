"""A run from start to end: builds or resumes it, logs and saves every epoch, says what came out; or
tests a model.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lra_diffusion import checkpoint, model_file, report
from lra_diffusion.command_line import UsageError, configure_torch, report_errors
from lra_diffusion.experiment import (
    Experiment,
    check_model,
    device_of,
    load_data,
    make_settings,
    prepare,
)
from lra_diffusion.model_file import Model
from lra_diffusion.report import Row
from lra_diffusion.train import predict
from shared.formats.noise_file import write


# DEVIATION(lra_diffusion): a training script trains; the original's for Food-101N, Clothing1M and
# WebVision load a finished model first and fail without it, and that for Clothing1M then only tests
# it.
def run_and_report(args: argparse.Namespace) -> int:
    """Trains, or with --eval_only tests.

    Exit status: 0, 2 bad input, 3 a loss that is not finite.
    """
    return report_errors(test_model if args.eval_only else start, args)


def start(args: argparse.Namespace) -> Experiment:
    """Builds or resumes a run, trains it, and writes what it leaves behind."""
    run = prepare(args)
    if args.resume:
        checkpoint.resume(run, run.folder, run.device)
    config = _config(run)
    run.folder.mkdir(parents=True, exist_ok=True)
    for unfinished in run.folder.glob(".*.tmp"):  # left by a kill in the middle of writing
        unfinished.unlink()
    report.write_config(run.folder, config)
    if run.sets.noise is not None:
        write(run.folder / "noise.npz", run.sets.noise)
    _print_start(run)
    log = report.Report(
        run.folder, run.rows, report.start_wandb(run.folder, config) if args.wandb else None
    )
    try:
        _train(run, log)
    finally:
        log.close()
    _print_end(run)
    return run


def model_paths(run: Experiment) -> tuple[Path, Path]:
    """The model in the run folder, and where the published scripts write it, the same folder with
    --output_dir.
    """
    own = run.folder / f"{run.name}.pt"
    return own, own if run.args.output_dir else Path("model") / own.name


def _train(run: Experiment, log: report.Report) -> None:
    total = run.args.nepoch
    with tqdm(total=total, desc="epochs", initial=len(run.rows), disable=None) as bar:
        for row in run.epochs():
            best = report.chosen(run.rows)
            log.log(row)
            is_best = report.chosen(run.rows) is not best
            if is_best:
                model_file.publish(
                    *model_paths(run), model_file.encode(Model(*run.learner.parts(row["weights"])))
                )
            names = [checkpoint.BEST, checkpoint.LAST] if is_best else [checkpoint.LAST]
            checkpoint.save(
                run.state_dict(), *(run.folder / name for name in names)
            )  # the last one counts
            bar.update()
            for line in _lines(run, row, is_best):
                tqdm.write(line)


def _lines(run: Experiment, row: Row, is_best: bool) -> list[str]:
    """An epoch in the original's words."""
    right = (
        ""
        if row["drawn_labels_right"] is None
        else f", drawn labels right: {row['drawn_labels_right']:.2f}%"
    )
    lines = [
        f"epoch: {row['epoch']}, loss: {row['loss']:.4f}{right}, {row['images_per_s']:.0f} images/s"
    ]
    if row["accuracy"] is not None:
        weights = row["weights"]
        shown = (
            f"{name} accuracy: {row[f'accuracy_{split}_{weights}']:.2f}%"
            for split, name in (("val", "validation"), ("test", "test"))
            if split in run.test_sets
        )
        lines.append(f"epoch: {row['epoch']}, {', '.join(shown)} ({weights} weights)")
        lines.append(
            f"time cost for CLR: {row['evaluation_seconds']:.2f} (all of these images, without f_p)"
        )
    if is_best:
        val = "none" if row["selection"] is None else f"{row['selection']:.2f}"
        test = f", test acc: {row['accuracy']:.2f}" if "test" in run.test_sets else ""
        lines.append(
            f"Model saved, update best accuracy at Epoch {row['epoch']}, {run.args.select} acc: "
            f"{val}{test}"
        )
    return lines


def _config(run: Experiment) -> dict[str, Any]:
    header = None if run.sets.noise is None else run.sets.noise.header
    return {
        "name": run.name,
        "method": (
            "LRA-diffusion "
            f"({run.args.fp_encoder if run.args.fp_embed_train is None else 'embeddings'})"
        ),
        **{
            name: value
            for name, value in vars(run.args).items()
            if name not in ("resume", "eval_only")
        },
        "measured_noise_rate": None if header is None else header.measured_rate,
        "data_location": None if run.sets.location is None else run.sets.location.resolve(),
        "device_used": str(run.device),
        "threads": torch.get_num_threads(),
        "identity": run.identity,
    }


def _print_start(run: Experiment) -> None:
    args, found = run.args, run.sets
    sizes = ", ".join(
        f"{len(part.labels)} {'validation' if name == 'val' else name}"
        for name, part in found.tests.items()
    )
    print(
        f"LRA-diffusion on {found.name}: {len(found.train.labels)} training, {sizes} images, "
        f"{found.num_classes} classes"
    )
    rate = None if found.noise is None else found.noise.header.measured_rate
    if rate is None:
        print("noise: none added; how many of the labels are wrong is not known")
    else:
        print(f"noise: {args.noise_type or args.noise_file}, measured rate {rate:.4f}")
    shown = (
        "k",
        "diff_encoder",
        "feature_dim",
        "nepoch",
        "batch_size",
        "warmup_epochs",
        "ddim_n_step",
        "seed",
    )
    print(f"features: {run.identity['fp_encoder'][:80]}")
    print("settings: " + ", ".join(f"{name} {getattr(args, name)}" for name in shown))
    print(
        f"{run.device}, encoders in {'bfloat16' if run.identity['bf16'] else 'float32'}; run "
        f"folder {run.folder}"
    )
    votes = (
        f"{value:.2f} % ({name.removeprefix('knn_accuracy_')})" for name, value in run.fixed.items()
    )
    print(f"majority vote of the {args.k} nearest neighbours' labels: {', '.join(votes)}")
    if not model_file.may_publish(*model_paths(run)):
        own, published = model_paths(run)
        print(f"note: {published} is of another run and stays; this run's model will be {own}")
    if args.nepoch <= args.warmup_epochs:
        print(f"note: all {args.nepoch} epochs are warm-up (--warmup_epochs {args.warmup_epochs})")
    if run.rows:
        print(f"resumed: epoch {len(run.rows)} of {args.nepoch} is done")


def _print_end(run: Experiment) -> None:
    chosen, result = report.chosen(run.rows), report.summary(run.rows)
    if chosen is None:
        print(
            f"no epoch was tested: with --legacy that needs more than {run.args.warmup_epochs} "
            "epochs"
        )
        return
    by = {
        "val": "at the best validation accuracy (what the paper reports)",
        "test": "at the best test accuracy",
    }
    how = (
        by[run.args.select]
        if chosen["selection"] is not None
        else "after the last epoch (there is no validation set)"
    )
    reported = "test" if "test" in run.test_sets else "validation"  # WebVision without ILSVRC2012
    print(
        f"{reported} accuracy {how}: {chosen['accuracy']:.2f} % (epoch {chosen['epoch']}, "
        f"{chosen['weights']} weights)"
    )
    print(
        f"last {result['last']:.2f} %, mean of the last {min(10, _tested(run.rows))} tested epochs "
        f"{result['last_10_mean']:.2f} %, best {result['best']:.2f} % (epoch "
        f"{result['best_epoch']})"
    )
    own, published = model_paths(run)
    print(
        f"model: {published if model_file.may_publish(own, published) else own}; run folder: "
        f"{run.folder}"
    )


def _tested(rows: list[Row]) -> int:
    return sum(row["accuracy"] is not None for row in rows)


def test_model(args: argparse.Namespace) -> dict[str, float]:
    """Tests the model of --eval_only; returns accuracies in percent."""
    if args.script == "test_ILSVRC2012" and not args.eval_only.exists():
        raise UsageError(
            f"{args.eval_only}: no such model. `python train_WebVision.py` trains one and "
            "writes it to "
            "model/LRA-diffusion_WebVision.pt; or name yours with --eval_only"
        )
    device = device_of(args)
    configure_torch(args.deterministic, device)
    model = model_file.load(args.eval_only, device)
    data = load_data(args, device, training=False)
    check_model(model, data, args.eval_only)
    settings, accuracies = make_settings(args, device), {}
    for name, test_set in data.tests.items():
        start_time = time.perf_counter()
        predicted = predict([model], test_set, settings)[0].argmax(dim=1)
        accuracies[name] = 100 * (predicted == test_set.labels).float().mean().item()
        shown = (
            "ILSVRC2012"
            if (args.dataset, name) == ("webvision", "test")
            else "validation"
            if name == "val"
            else name
        )
        print(f"{shown} accuracy: {accuracies[name]:.2f}% ({len(test_set.labels)} images)")
        print(f"time cost for CLR: {time.perf_counter() - start_time:.2f} (without f_p)")
    return accuracies
