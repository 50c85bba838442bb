"""What a run leaves behind, and what it says.

config.yaml, metrics.jsonl, events, last.ckpt and best.ckpt, as in every project here; and what
re-sln writes: config.yml and the model files.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from re_sln.method.train import Row
from re_sln.run import checkpoint
from re_sln.run.experiment import Experiment
from re_sln.run.label_quality import judge
from re_sln.run.record import Metrics, start_wandb, write_config
from re_sln.run.settings import Config
from shared.files import remove_unfinished, write_atomically
from shared.formats.noise_file import write
from shared.run_folder import naming

TIMING = ("seconds", "images_per_s")  # the only figures that differ between two equal runs
PUBLISHED_KEYS = (
    *("batch_size", "custom_noise", "dataset_name", "exp_id", "lc_n_epoch", "lr"),
    *("make_new_custom_noise", "mo", "n_epochs", "noise_mode", "p", "seed", "sigma"),
)


def recorder(run: Experiment) -> AbstractContextManager[Callable[[Row], None]]:
    """What takes the rows of a run: the first process writes, the others keep them in mind."""
    return Recorder(run) if run.ranks.is_first else nullcontext(run.rows.append)


class Recorder:
    """Writes what a run leaves, an epoch at a time: a log, then the checkpoint.

    Entering it writes the settings and the rows of a resumed run, so that nothing is logged twice.
    """

    def __init__(self, run: Experiment) -> None:
        self._run = run

    def __enter__(self) -> "Recorder":
        run = self._run
        run.folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(run.folder)
        config = _config(run)
        write_config(run.folder, config)
        write_published_config(published_places(run)[0], run.config, run.exp_id)
        write(run.folder / "noise.npz", run.data.noise)
        print_start(run)
        self._metrics = Metrics(run.folder, run.rows)
        self._events = Events(run.folder, run.next_epoch, run.config.mo)
        self._wandb = start_wandb("re-sln", run.folder, config) if run.config.wandb else None
        done, total = len(run.rows), run.config.n_epochs
        self._bar = tqdm(total=total, desc="epochs", initial=done, disable=None)
        return self

    def __call__(self, row: Row) -> None:
        with naming(self._run.folder):
            self._write(row)
        self._bar.update()
        tqdm.write(_line(self._run, row))

    def _write(self, row: Row) -> None:
        run = self._run
        reached = row[run.selects_by]  # None without a test set: then only the last epoch is kept
        best = max((past[run.selects_by] for past in run.rows if reached is not None), default=-1.0)
        self._metrics.append(row)
        self._events.add(row)
        if self._wandb is not None:
            self._wandb.log({k: v for k, v in row.items() if v is not None}, step=row["epoch"])
        names = [checkpoint.BEST] if reached is not None and reached > best else []
        names.append(checkpoint.LAST)  # written last: it is the one that counts
        checkpoint.save(run.state_dict(), *(run.folder / name for name in names))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        with naming(self._run.folder):
            self._events.close()
            if self._wandb is not None:
                self._wandb.finish()


class Events:
    """TensorBoard events as the original has them, beside those of both models.

    `accuracy/train`, `loss/test` and `accuracy/test` as fractions, and `loss/train` in the sub-runs
    loss_train_all, loss_train_noisy, loss_train_clean. mo: the EMA model is the reported one.
    """

    def __init__(self, folder: Path, first_epoch: int, mo: bool) -> None:
        self._folder, self._first_epoch = folder, first_epoch
        self._reported = "ema" if mo else "base"
        self._writers: dict[str, SummaryWriter] = {}

    def add(self, row: Row) -> None:
        events = {"accuracy/train": row["accuracy_train"] / 100}
        if row["accuracy"] is not None:
            events["accuracy/test"] = row["accuracy"] / 100
            events["loss/test"] = row[f"loss_test_{self._reported}"]
        events |= {
            name.replace("_", "/", 1): value / (100 if name.startswith("accuracy") else 1)
            for name, value in row.items()
            if name.endswith(("_base", "_ema")) and value is not None
        }
        for tag, value in events.items():
            self._add("", tag, value, row["epoch"])
        for name in ("loss_train", "loss_train_noisy", "loss_train_clean"):
            if row[name] is not None:
                sub_run = "loss_train_all" if name == "loss_train" else name
                self._add(sub_run, "loss/train", row[name], row["epoch"])
        for writer in self._writers.values():
            writer.flush()

    def _add(self, sub_run: str, tag: str, value: float, epoch: int) -> None:
        if sub_run not in self._writers:  # no event file without an event
            folder = str(self._folder / sub_run)
            self._writers[sub_run] = SummaryWriter(folder, purge_step=self._first_epoch)
        self._writers[sub_run].add_scalar(tag, value, epoch)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def published_places(run: Experiment) -> tuple[Path, Path]:
    """Folders of config.yml and of the model files: the original's, or both --output_dir."""
    if run.config.output_dir is not None:
        return run.config.output_dir, run.config.output_dir
    return Path("configs") / run.exp_id, Path("saved_models") / run.exp_id


def write_published_config(folder: Path, config: Config, exp_id: str, **other: Any) -> None:
    """config.yml with the original's keys, sorted; those of noise are null for Animal-10N."""
    known = {**config.record(), "exp_id": exp_id, **other}
    text = yaml.safe_dump({name: known[name] for name in PUBLISHED_KEYS})
    write_atomically(folder / "config.yml", text.encode())


def _config(run: Experiment) -> dict[str, Any]:
    """What config.yaml says."""
    location = run.data.location
    return {
        "exp_id": run.exp_id,
        **run.config.record(),
        "method": run.config.method_name,
        "script": run.config.script,
        "measured_noise_rate": run.data.noise.header.measured_rate,
        "data_location": None if location is None else location.resolve(),
        "device_used": str(run.device),
        "threads": torch.get_num_threads(),
        "ranks": run.ranks.size,
        "identity": run.identity,
    }


def report(run: Experiment) -> None:
    """The end of a run: writes the models and what they think of the labels; says how good."""
    if run.ranks.is_first:
        _write_models(run)
    judge(run)

    if run.is_tested:
        _print_accuracies(run)
    else:
        print(
            f"{run.config.method_name}: no test set, so no test accuracy; training accuracy "
            f"{run.rows[-1]['accuracy_train']:.2f} %, against the labels trained on"
        )
    print(f"all models saved, exp_id={run.exp_id}")


def _write_models(run: Experiment) -> None:
    models = {"model.pth": run.learner.net.state_dict()}
    if run.config.mo:
        models["model_ema.pth"] = run.learner.ema.net.state_dict()
    folder = published_places(run)[1]
    for name, state in models.items():
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomically(folder / name, buffer.getvalue())


def _print_accuracies(run: Experiment) -> None:
    result, last = summary(run.rows), run.rows[-1]
    names = {"base": "network", "ema": "EMA model"}
    reported, other = ("ema", "base") if run.config.mo else ("base", "ema")
    print(
        f"{run.config.method_name} test accuracy of the {names[reported]}: "
        f"last {result['last']:.2f} % (what the paper reports), mean of the last 10 "
        f"{result['last_10_mean']:.2f} %, best {result['best']:.2f} % "
        f"(epoch {result['best_epoch']})"
    )
    if run.selects_by != "accuracy":
        chosen = max(run.rows, key=lambda row: float(row[run.selects_by]))
        print(
            "EMA model at its best validation accuracy (what the authors report on Clothing1M): "
            f"{chosen['accuracy_test_ema']:.2f} % (epoch {chosen['epoch']})"
        )
    print(f"{names[other]}, last epoch: {last[f'accuracy_test_{other}']:.2f} %")
    if run.config.val_fraction is not None and run.config.dataset_name == "folder":
        print(_on_held_out(run))


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Test accuracy in percent: last (what the papers report), mean of the last ten epochs, best.

    Of the epochs that were evaluated, which must be one at least.
    """
    known = {row["epoch"]: row["accuracy"] for row in rows if row["accuracy"] is not None}
    last_ten = [value for epoch, value in known.items() if epoch > rows[-1]["epoch"] - 10]
    last, best_epoch = next(reversed(known.values())), max(known, key=known.__getitem__)
    return {
        "last": last,
        "last_10_mean": float(np.mean(last_ten or last)),
        "best": known[best_epoch],
        "best_epoch": best_epoch,
    }


def print_start(run: Experiment) -> None:
    config, data = run.config, run.data
    tested = [f"{len(each.labels):,} {name}" for name, each in data.test_sets.items()]
    side = data.train_set.images.side
    print(
        f"{config.method_name} on {config.dataset_name}: {len(data.train_set.noisy):,} training "
        f"images of {side} x {side} pixels, {', '.join(tested)} images"
    )
    if not run.is_tested:
        print(
            "no test set, so no test accuracy; --val_fraction 0.1 holds out a part of the pictures"
        )
    elif config.val_fraction is not None and config.dataset_name == "folder":
        print(_on_held_out(run))
    for remark in data.remarks:
        print(remark)
    _warn_of_slow_average(run)
    if data.train_set.is_noisy is None:
        given = f"labels of {config.noise_file}" if config.noise_file else "none added"
        print(f"noise: {given}; how many of the labels are wrong is not known")
    else:
        nominal = "" if config.p is None else f" {config.p:g}"
        source = config.noise_file or config.noise_mode
        if config.noise_type is not None:
            source = f"people's labels, {config.noise_type}"
        print(f"noise: {source}{nominal}, measured rate {data.noise.header.measured_rate:.4f}")
    network = f"depth {config.depth}, width {config.width}"
    if config.has_resnet:
        network = f"pretrained {config.pretrained}"
    print(
        f"settings: n_epochs {config.n_epochs}, batch_size {config.batch_size}, lr {config.lr:g}, "
        f"sigma {config.sigma:g}, lc_n_epoch {config.lc_n_epoch}, ema_decay {config.ema_decay:g}, "
        f"{network}, seed {config.seed}"
    )
    precision = "bfloat16 autocast" if run.identity["bf16"] else "float32"
    processes = f"{run.ranks.size} processes, " if run.ranks.size > 1 else ""
    print(f"{processes}{run.device}, {precision}; run folder {run.folder}")
    if run.rows:
        print(f"resumed: epoch {len(run.rows)} of {config.n_epochs} is done")


def _warn_of_slow_average(run: Experiment) -> None:
    """Few images make few steps, and the average of a short run is mostly its first weights.

    With label correction those count that are done when the EMA model first corrects labels.
    """
    config, train_set = run.config, run.data.train_set
    samples = len(train_set.noisy)
    if train_set.per_class is not None:
        samples = train_set.per_class * train_set.noisy.shape[1]
    of_epoch = math.ceil(samples / config.batch_size)
    averaged = 1 / (1 - config.ema_decay)
    corrects = config.lc_n_epoch > 0
    epochs = config.lc_n_epoch - 1 if corrects else config.n_epochs
    if not config.mo or epochs * of_epoch >= 3 * averaged:
        return
    if corrects:
        lasts, longer = f"{averaged / of_epoch:.2g} epochs", "a later --lc_n_epoch"
        so_far = f"labels are corrected after {epochs}"
    else:
        lasts, longer = f"{averaged:,.0f} steps", "more --n_epochs"
        so_far = f"the run has {epochs * of_epoch:,}"
    print(
        f"note: the EMA model averages the last {lasts} or so, and {so_far}: {longer} or a smaller "
        "--ema_decay suits it better"
    )


def _on_held_out(run: Experiment) -> str:
    """What the accuracy on the samples of --val_fraction means."""
    [test_set] = run.data.test_sets.values()
    labels = "their labels as they are in the folder, without the noise added to the others"
    if run.data.train_set.is_noisy is None:
        labels = "their given labels, some of which may be wrong"
    return f"tested on {len(test_set.labels):,} held-out pictures, against {labels}"


def _line(run: Experiment, row: Mapping[str, Any]) -> str:
    """An epoch in the original's words: accuracies are fractions there."""
    reported = f"{list(run.data.test_sets)[-1]}_{'ema' if run.config.mo else 'base'}"
    line = (
        f"epoch={row['epoch']}/{run.config.n_epochs}, loss_epoch={row['loss_train']:.4f}, "
        f"acc_epoch={row['accuracy_train'] / 100:.4f}"
    )
    if row["accuracy"] is None:
        return line
    return (
        f"{line}, loss_test={row[f'loss_{reported}']:.4f}, "
        f"accuracy_test={row['accuracy'] / 100:.4f}"
    )
