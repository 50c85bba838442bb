"""Chooses the sigma of SLN among 0.1, 0.2, 0.5 and 1.0 by the accuracy on held-out training
samples, noisy labels included.

Chen, Chen, Ye, Zhao, Heng, "Noise against noise: stochastic label noise helps combat inherent label
noise", ICLR 2021.

    python tune.py --dataset_name digits --noise_mode sym --p 0.4 --n_epochs 20      # two minutes on two CPU cores, no download
    python tune.py --dataset_name cifar10 --batch_size 128 --n_epochs 300 --lr 0.001 --noise_mode sym --p 0.4 \
        --lc_n_epoch -1 --seed 123 --val_size 0.1                       # re-sln's search

One trial for each sigma, no early stopping; on Ray Tune (any number of GPUs, or CPU cores, or an
existing cluster with --ray_address), or with --backend local one after the other. What differs from
the published code is listed in README.md.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from re_sln import checkpoint, options, ray_backend, report, sigma_search
from re_sln.experiment import Experiment, prepare
from re_sln.run import BAD_INPUT
from re_sln.sigma_search import GRID, METRICS, Results
from shared import datasets


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    args = parse(argv)
    try:
        return search(args)
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; the same command with --resume goes on after the last whole epochs",
            file=sys.stderr,
        )
        return 130


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = options.build_parser("tune")
    # DEVIATION(re_sln): validation images are shown as they are; the original augments them like
    # those of training.
    parser.add_argument(
        "--augment_val",
        action="store_true",
        help="validate on augmented images, as the original does",
    )
    ray_backend.add_flags(parser)
    args = options.parse("tune", argv, parser)
    ray_backend.check_flags(parser, args)
    return args


def search(args: argparse.Namespace) -> int:
    """Runs or continues the search, says which sigma is best, and draws hp.png."""
    sample = _check(args)
    folder, trials = _find_or_make(args, sample)
    jobs = {sigma: _trial_args(args, sigma, trial) for sigma, trial in trials.items()}
    done = max(len(sigma_search.read_rows(trial)) for trial in trials.values())
    if done > args.n_epochs:
        raise checkpoint.CheckpointError(
            f"the search has done {done} epochs already: --n_epochs {args.n_epochs} cannot "
            "shorten it"
        )
    left = {sigma: job for sigma, job in jobs.items() if not _is_finished(job)}
    _print_start(args, sample, folder, len(left))
    failures = {}
    if left:
        failures = ray_backend.run_all(
            args,
            left,
            "sigma",
            sigma_search.train_trial,
            lambda sigma, metrics: (
                f"sigma={sigma:g} epoch={metrics['epoch']}/{args.n_epochs}, "
                + ", ".join(f"{name}={metrics[name]:.4f}" for name in METRICS if name in metrics)
            ),
        )
    if any(not _is_finished(job) and sigma not in failures for sigma, job in left.items()):
        raise KeyboardInterrupt  # Ray stops its trials itself and comes back
    results = {
        sigma: rows
        for sigma, trial in trials.items()
        if _is_finished(jobs[sigma]) and (rows := sigma_search.read_rows(trial))
    }
    print(
        sigma_search.table(results, {sigma: failure.message for sigma, failure in failures.items()})
    )
    if results:
        _print_best(args, results, folder)
    return max((failure.status for failure in failures.values()), default=0)


def _check(args: argparse.Namespace) -> Experiment:
    """Reads data and noise once, so that what is wrong with them is said here and not by four
    trials.
    """
    if (
        args.output_dir is not None
        and not args.resume
        and (args.output_dir / "config.yaml").exists()
    ):
        raise checkpoint.CheckpointError(
            f"{args.output_dir} holds a search or a run already: add --resume to continue "
            "it, or choose another --output_dir"
        )
    if args.ray_address is None:
        options.choose_device(args.device)
    args.data_path = datasets.data_root(
        options.data_path(args)
    )  # $DATA_ROOT may be unknown to a cluster
    sample = prepare(
        argparse.Namespace(
            **{**vars(args), "device": "cpu", "amp": "off", "output_dir": None, "resume": False}
        )
    )
    args.p = sample.args.p  # a noise file may name it
    return sample


def _settings(args: argparse.Namespace, sample: Experiment) -> dict[str, object]:
    """What decides every number of the search."""
    of_trials = {
        name: value for name, value in sample.identity.items() if name not in ("sigma", "bf16")
    }
    return {**of_trials, "val_size": args.val_size, "augment_val": args.augment_val}


def _find_or_make(args: argparse.Namespace, sample: Experiment) -> tuple[Path, dict[float, Path]]:
    """The folder of the search and those of its trials by sigma."""
    settings = _settings(args, sample)
    if args.resume:
        known = (
            [args.output_dir] if args.output_dir else sorted(Path("hp").glob("hp_*"), reverse=True)
        )
        for folder in known:
            config = report.read_config(folder)
            if config is not None and "trials" not in config and args.output_dir:
                raise checkpoint.CheckpointError(
                    f"{folder} holds a training run: choose another --output_dir"
                )
            if config is None or "trials" not in config:
                continue
            if args.output_dir:
                checkpoint.refuse_other_run(config["identity"], settings)
            if config["identity"] == settings:
                return folder, dict(zip(GRID, (folder / name for name in config["trials"])))
        print("note: no search of these settings, starting a new one")
    time = datetime.now().strftime(sigma_search.TIME_FORMAT)
    folder = args.output_dir or Path("hp") / f"hp_{time}"
    names = sigma_search.trial_names(time)
    flags = {name: value for name, value in vars(args).items() if name not in ("resume", "sigma")}
    rate = None if sample.noise is None else sample.noise.header.measured_rate
    report.write_config(
        folder,
        {
            "exp_id": folder.name,
            **flags,
            "grid": list(GRID),
            "trials": names,
            "measured_noise_rate": rate,
            "identity": settings,
        },
    )
    report.write_published_config(
        folder, argparse.Namespace(**{**vars(args), "sigma": None}), folder.name
    )
    return folder, dict(zip(GRID, (folder / name for name in names)))


def _trial_args(args: argparse.Namespace, sigma: float, folder: Path) -> argparse.Namespace:
    own = {
        "sigma": sigma,
        "output_dir": folder,
        "resume": True,
        "make_new_custom_noise": False,
    }  # made by now
    return argparse.Namespace(**{**vars(args), **own})


def _is_finished(trial: argparse.Namespace) -> bool:
    return len(sigma_search.read_rows(trial.output_dir)) >= trial.n_epochs


def _judge(args: argparse.Namespace) -> str:
    """Whose accuracy decides, on which images."""
    model = "the momentum model (EMA)" if args.mo else "the network itself"
    return (
        f"accuracy of {model} on {'augmented' if args.augment_val else 'un-augmented'} "
        "held-out images, noisy labels"
    )


def _print_start(args: argparse.Namespace, sample: Experiment, folder: Path, left: int) -> None:
    rate = None if sample.noise is None else sample.noise.header.measured_rate
    noise = (
        "labels as they are"
        if rate is None
        else f"{args.noise_file or args.noise_mode}, measured rate {rate:.4f}"
    )
    method = options.method_name(args)
    print(
        f"sigma of {method} on {args.dataset_name}: {len(sample.train_set.given)} training images, "
        f"{len(sample.test_sets['val'].labels)} held out; noise: {noise}"
    )
    print(f"chosen by the {_judge(args)}, after the last epoch; folder {folder}")
    print(
        f"{left} of {len(GRID)} trials to run: "
        f"{'Ray Tune' if args.backend == 'ray' else 'one after the other'}",
        flush=True,
    )


def _print_best(args: argparse.Namespace, results: Results, folder: Path) -> None:
    sigma = sigma_search.choose(results)
    last = results[sigma][-1]
    sigma_search.draw(
        folder / "hp.png",
        results,
        f"{options.method_name(args)} on {args.dataset_name}: {_judge(args)}",
    )
    print(
        f"best: sigma={sigma:g}, accuracy_val={last['accuracy_val']:.4f}, "
        f"loss_val={last['loss_val']:.4f}, "
        f"accuracy_train={last['accuracy_train']:.4f} in epoch {last['training_iteration']} "
        f"({_judge(args)})"
    )
    config = {
        **{name: getattr(args, name) for name in report.PUBLISHED_KEYS if name != "exp_id"},
        "sigma": sigma,
    }
    print("its config: " + ", ".join(f"{name}={value}" for name, value in config.items()))
    print(f"curves: {folder / 'hp.png'}")
    print(f"train with it: {training_command(args, sigma)}")


def training_command(args: argparse.Namespace, sigma: float) -> str:
    """The command of train_cifar.py for this data, noise and method; what is as its default is left
    out where it is ours.
    """
    flags: list[str] = []
    always = ("dataset_name", "batch_size", "n_epochs", "lr")
    noise = ("noise_mode", "p", "custom_noise", "noise_file")
    for name in (*always, *noise):
        flags += _flag(name, getattr(args, name))
    flags += [
        "--sigma",
        f"{sigma:g}",
        *_flag("mo", args.mo),
        "--lc_n_epoch",
        str(args.lc_n_epoch),
        "--seed",
        str(args.seed),
    ]
    usual = {
        **options.PRESETS[args.dataset_name],
        "lc_form": "recursive",
        "device": "auto",
        "amp": "auto",
    }
    for name in (
        "lc_form",
        "ema_decay",
        "depth",
        "width",
        "limit_train",
        "limit_test",
        "device",
        "amp",
        "deterministic",
    ):
        if getattr(args, name) != usual.get(name):
            flags += _flag(name, getattr(args, name))
    if args.dataset_name != "digits":
        flags += _flag("data_path", args.data_path)
    script = Path(__file__).with_name("train_cifar.py")
    return shlex.join(["python", str(script), *flags])


def _flag(name: str, value: object) -> list[str]:
    if value is None or value is False:
        return []
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]


if __name__ == "__main__":
    sys.exit(main())
