"""What a run writes: its log and checkpoints epoch by epoch, then tables, labels and a picture."""

import csv
import io
from types import TracebackType
from typing import Any, Self

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from instancegm.analysis import plots
from instancegm.analysis.runs import summary
from instancegm.method.mixture import CleanFit
from instancegm.method.peers import predict
from instancegm.method.train import clean_fits
from instancegm.run import checkpoint, published
from instancegm.run.experiment import Experiment
from instancegm.run.record import Metrics, Row, start_wandb, write_config
from shared.files import remove_unfinished, write_atomically
from shared.formats.noise_file import make, write


class RunFolder:
    """The files of a run in progress; opening it brings those of a resumed run up to date.

    with RunFolder(run) as folder:
        folder.record(row)
    """

    def __init__(self, run: Experiment) -> None:
        self._run = run
        run.folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(run.folder)
        config = _recorded(run)
        write_config(run.folder, config, **{"scikit-learn": sklearn.__version__})
        write(run.folder / "noise.npz", run.noise)
        _print_start(run)
        self._wandb = start_wandb("instanceGM", run.folder, config) if run.config.wandb else None
        self._events = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.next_epoch)
        self._metrics = Metrics(run.folder, run.rows)
        published.write_logs(run.config, run.noise_word, run.rows)

    def record(self, row: Row) -> None:
        """Logs an epoch and saves the state after it."""
        run = self._run
        is_best = row["accuracy"] > max((past["accuracy"] for past in run.rows), default=-1.0)
        self._metrics.append(row)
        published.write_logs(run.config, run.noise_word, run.rows)
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            self._events.add_scalar(name, value, row["epoch"])
        self._events.flush()
        if self._wandb is not None:
            self._wandb.log(numbers, step=row["epoch"])
        # In this order: the last one counts.
        names = [checkpoint.BEST, checkpoint.LAST] if is_best else [checkpoint.LAST]
        checkpoint.save(run.state_dict(), *(run.folder / name for name in names))
        tqdm.write(
            f"| Test Epoch #{row['epoch']}\t Accuracy: {row['accuracy']:.2f}%\t "
            f"({row['seconds']:.1f} s)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish()


def _recorded(run: Experiment) -> dict[str, Any]:
    """What config.yaml says: the settings, and what they came to."""
    return {
        **run.config.recorded(),
        "method": run.config.method,
        "measured_noise_rate": run.noise.header.measured_rate,
        **{name: run.identity[name] for name in ("bf16", "data_sha256", "noisy_labels_sha256")},
        "data_location": None if run.data_location is None else run.data_location.resolve(),
        "device_used": str(run.device),
        "threads": torch.get_num_threads(),
    }


def _print_start(run: Experiment) -> None:
    config, known = run.config, run.noise.header
    print(
        f"{config.method} on {config.dataset}: {len(run.train_set.images)} training, "
        f"{len(run.test_set.images)} test images"
    )
    if known.measured_rate is None:
        print("noise: none added; how many of the labels are wrong is not known")
    else:
        nominal = "" if known.nominal_rate is None else f"nominal rate {known.nominal_rate:g}, "
        source = config.noise_file or config.noise_mode
        print(f"noise: {source}, {nominal}measured {known.measured_rate:.4f}")
    print(
        f"preset (override with the flags): num_epochs {config.num_epochs}, warm_up "
        f"{config.warm_up}, lr_drop {config.lr_drop}, lambda_u {config.lambda_u:g}, p_threshold "
        f"{config.p_threshold:g}, width {config.width}, batch_size {config.batch_size}"
    )
    precision = "bfloat16 autocast" if run.identity["bf16"] else "float32"
    print(f"{run.device}, {precision}; run folder {run.folder}")
    if run.next_epoch:
        print(f"resumed: epoch {run.next_epoch - 1} of {config.num_epochs} is done")


def report(run: Experiment) -> None:
    """The final files of a run, and its accuracies."""
    nets = [peer.net for peer in run.peers]
    logits = predict(nets, run.train_set.images, run.peers[0].autocast)
    fits = clean_fits(
        logits, run.train_set.noisy_labels, run.history, run.config.seed, run.next_epoch
    )
    predicted = logits.sum(dim=0).argmax(dim=1).cpu().numpy()
    _write_clean_prob(run, fits, predicted)
    _write_corrected_labels(run, fits, predicted)
    if len(run.peers) == 2:
        state = published.published_form(run.state_dict())
        checkpoint.save(state, published.checkpoint_path(run.config))
    result = summary(run.rows)
    print(
        f"{run.config.method} test accuracy: best {result['best']:.2f} % (epoch "
        f"{result['best_epoch']}), last {result['last']:.2f} %, mean of the last 10 "
        f"{result['last_10_mean']:.2f} % (the paper does not say which it reports)"
    )
    if run.config.plots:
        title = (
            f"{run.config.method} on {run.config.dataset}, noise rate {run.config.r:g}, seed "
            f"{run.config.seed}"
        )
        path = run.folder / "plots.png"
        plots.draw(path, title, run.rows, fits, run.train_set.is_clean)
        print(f"plots: {path}")


def _write_clean_prob(run: Experiment, fits: list[CleanFit], predicted: NDArray[np.int64]) -> None:
    """clean_prob.csv: index, noisy label, clean probability by each network, predicted label."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    numbers = [f"clean_prob_{k}" for k in range(1, len(fits) + 1)]
    writer.writerow(["index", "given_label", *numbers, "predicted_label"])
    probs = [[f"{value:.6f}" for value in fit.clean_prob] for fit in fits]
    assert run.noise.indices is not None  # labels_of_run aligns them with the dataset
    rows = zip(run.noise.indices.tolist(), run.noise.noisy_labels.tolist(), *probs, predicted)
    writer.writerows(rows)
    write_atomically(run.folder / "clean_prob.csv", text.getvalue().encode())


def _write_corrected_labels(
    run: Experiment, fits: list[CleanFit], predicted: NDArray[np.int64]
) -> None:
    """corrected_labels.npz: the noisy label where it is probably clean, else the predicted one."""
    trusted = np.mean([fit.clean_prob for fit in fits], axis=0) > 0.5
    noise, header = run.noise, run.noise.header
    corrected = make(
        np.where(trusted, noise.noisy_labels, predicted),
        indices=noise.indices,
        dataset=header.dataset,
        num_classes=header.num_classes,
        split="train",
        kind="corrected",
        clean_labels=noise.clean_labels,
    )
    write(run.folder / "corrected_labels.npz", corrected)
