"""A run of plain cross-entropy on noisy labels, the baseline of LRA-diffusion."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from lra_diffusion.method import classifier
from lra_diffusion.method.classifier import Classifier, LabelledImages, Settings

from .config import noise_name, noise_source
from .data import load
from .device import autocast, choose_device, configure_torch, use_bfloat16
from .experiment import check_sync_bn
from .folder import RunFolder, claimed, reserved
from .launch import check_same, first_on_its_machine, joined
from .record import Row
from .report import NO_TEST_SET, chosen, start_lines, summary
from .schema import CEConfig
from .splits import RunData

NETWORK = ("nepoch", "batch_size", "diff_encoder", "width")
DECIDING = ("dataset", *NETWORK, "lr", "seed", "limit_train", "limit_test")


@dataclass
class Baseline:
    """A run in progress: what `method.classifier.epochs` takes, and where it is recorded."""

    config: CEConfig
    data: RunData
    settings: Settings
    learner: Classifier
    train_set: LabelledImages
    test_sets: dict[str, LabelledImages]
    folder: RunFolder

    def record(self, row: Row) -> None:
        """Logs an epoch and saves the state; validation, if there is any, chooses the best one."""
        is_best = self.folder.log(row | {"selection": row.get("accuracy_val")})
        self.folder.save(is_best)
        tested = row["accuracy"]
        tqdm.write(
            f"epoch: {row['epoch']}, loss: {row['loss']:.4f}, accuracy on the noisy labels: "
            f"{row['accuracy_train']:.2f}%, "
            f"{'no test set' if tested is None else f'test accuracy: {tested:.2f}%'}"
        )

    def print_start(self) -> None:
        config, data, settings = self.config, self.data, dataclasses.asdict(self.config)
        about, held_out = f"CE on {config.dataset}", config.val_fraction is not None
        print("\n".join(start_lines(about, data, noise_source(config), held_out)))
        shown = (*NETWORK, "lr", "seed")
        print("settings: " + ", ".join(f"{name} {settings[name]}" for name in shown))
        precision = "bfloat16 autocast" if self.folder.identity["bf16"] else "float32"
        print(f"{data.train.images.device}, {precision}; run folder {self.folder.path}")
        for line in self.folder.resumed_lines():
            print(line)

    def print_end(self) -> None:
        result, best = summary(self.folder.rows), chosen(self.folder.rows)
        if "test" not in self.data.tested:
            if best is not None:
                val, epoch = best["selection"], best["epoch"]
                print(f"best validation accuracy: {val:.2f} % (epoch {epoch})")
            print(f"{NO_TEST_SET}\nrun folder: {self.folder.path}")
            return
        print(
            f"CE test accuracy: last {result['last']:.2f} %, mean of the last 10 "
            f"{result['last_10_mean']:.2f} %, best {result['best']:.2f} % (epoch "
            f"{result['best_epoch']})"
        )
        if best is not None and best["selection"] is not None:
            print(
                f"at the best validation accuracy: {best['accuracy']:.2f} % (epoch {best['epoch']})"
            )
        print(f"run folder: {self.folder.path}")


@contextmanager
def build(config: CEConfig) -> Iterator[Baseline]:
    """Reads and checks everything, builds the network, opens or resumes the run folder.

    Other processes but the run's own are kept out of it until the block ends.
    """
    device = choose_device(config.device)
    with joined(device) as ranks, reserved(config, ranks):
        check_sync_bn(config, device, ranks)
        configure_torch(config.deterministic, device)
        with first_on_its_machine(ranks):
            data = load(config, device)
        identity = _identity(config, data, device)
        check_same(identity | {"save_probs": config.save_probs}, ranks)
        with claimed(config, f"CE_{noise_name(config)}", identity, ranks) as folder:
            yield _opened(config, data, device, folder)


def _identity(config: CEConfig, data: RunData, device: torch.device) -> dict[str, Any]:
    """All that decides the numbers of a run."""
    values = dataclasses.asdict(config)
    return {
        "method": "CE",
        **{name: values[name] for name in DECIDING},
        "bf16": use_bfloat16(config.amp, device),
        **({"sync_bn": True} if config.sync_bn else {}),
        **data.hashes,
    }


def _opened(config: CEConfig, data: RunData, device: torch.device, folder: RunFolder) -> Baseline:
    values = dataclasses.asdict(config)
    learner = classifier.build(
        config.diff_encoder,
        config.width,
        data.num_classes,
        device,
        config.seed,
        ranks=folder.ranks,
        sync_bn=config.sync_bn,
    )
    settings = Settings(
        config.batch_size,
        config.nepoch,
        classifier.cosine(config.lr, config.nepoch),
        config.seed,
        autocast(config.amp, device),
    )
    entries = {
        "method": "CE",
        **{name: value for name, value in values.items() if name not in ("resume", "export")},
        "measured_noise_rate": data.noise.header.measured_rate,
        "data_location": None if data.location is None else data.location.resolve(),
        "device_used": str(device),
        "threads": torch.get_num_threads(),
        "ranks": folder.ranks.size,
        "identity": folder.identity,
    }
    if config.export:
        folder.read(learner)
    else:
        folder.open(learner, config, entries, data.noise)
    train_set = LabelledImages(data.train.images, data.train.labels)
    tests = {name: LabelledImages(part.images, part.labels) for name, part in data.tests.items()}
    return Baseline(config, data, settings, learner, train_set, tests, folder)
