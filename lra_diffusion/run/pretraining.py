"""A run of SimCLR pre-training: built, recorded, its encoder written and judged."""

import dataclasses
import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from tqdm import tqdm

from lra_diffusion.encoders import simclr
from lra_diffusion.encoders.networks import SimCLRNet
from lra_diffusion.method.images import DeviceImages
from lra_diffusion.method.optimizers import Adam
from lra_diffusion.method.retrieval import knn_accuracy
from shared.datasets.image_data import ImageData
from shared.formats.alignment import evenly
from shared.labels import Labels

from .data import on_device
from .device import autocast, choose_device, configure_torch, use_bfloat16
from .errors import UsageError
from .folder import RunFolder, claimed, encode, may_publish, publish, reserved
from .labels import split
from .own_pictures import in_memory, judged
from .record import Row
from .tool_schema import SimCLRConfig

WEIGHT_DECAY = 1e-6
DECIDING = (
    *("dataset", "nepoch", "batch_size", "lr", "temperature", "arch", "width", "hidden", "seed"),
)


@dataclass
class Pretraining:
    """A run in progress: what `encoders.simclr.train` takes, and where it is recorded."""

    config: SimCLRConfig
    settings: simclr.Settings
    learner: simclr.Learner
    augment: nn.Module
    images: DeviceImages
    bank: tuple[Tensor, Tensor]  # rows whose neighbours judge the features, and their labels
    test_images: DeviceImages
    test_labels: Tensor
    folder: RunFolder

    def features(self) -> tuple[Tensor, Tensor]:
        """Of the bank (N, D) and of the test images (M, D)."""
        net, amp = self.learner.net, self.settings.autocast
        everyone = torch.arange(len(self.test_images), device=self.images.device)
        return (
            simclr.features(net, self.images, self.bank[0], amp),
            simclr.features(net, self.test_images, everyone, amp),
        )

    def knn_accuracy(self) -> float | None:
        if not len(self.test_labels):
            return None
        bank, queries = self.features()
        return knn_accuracy(bank, self.bank[1], queries, self.test_labels)

    def record(self, row: Row) -> None:
        """Logs an epoch and saves the state."""
        self.folder.log(row)
        self.folder.save(is_best=False)
        accuracy = row["knn_accuracy"]
        shown = "" if accuracy is None else f", KNN accuracy: {accuracy:.2f}%"
        tqdm.write(
            f"epoch: {row['epoch']}/{self.config.nepoch}, loss: {row['loss']:.4f}{shown}, "
            f"{row['seconds']:.1f} s"
        )

    def print_start(self) -> None:
        config, values = self.config, dataclasses.asdict(self.config)
        own, published = self.folder.places(f"SimCLR_128_{config.dataset}.pt")
        print(
            f"SimCLR on {config.dataset}: {len(self.images)} training images without their labels; "
            "labels only judge the result"
        )
        shown = ("nepoch", "batch_size", "lr", "temperature", "width", "seed")
        print(f"settings: {config.arch}, " + ", ".join(f"{key} {values[key]:g}" for key in shown))
        if config.dataset != "digits":
            print(
                "the usual recipe (Chen et al., 2020, on CIFAR); how the authors made their "
                "weights is not known"
            )
        precision = "bfloat16 autocast" if self.folder.identity["bf16"] else "float32"
        print(f"{self.images.device}, {precision}; run folder {self.folder.path}")
        for line in self.folder.resumed_lines():
            print(line)
        if not may_publish(own, published):
            print(
                f"note: {published} is of another run and stays; this run's encoder will be {own}"
            )

    def finish(self) -> None:
        """Writes the encoder's file, and says how good its features are."""
        own, published = self.folder.places(f"SimCLR_128_{self.config.dataset}.pt")
        free = publish(own, published, encode(self.learner.net, as_list=False))
        if len(self.test_labels):
            self._print_quality()
        print(f"encoder written to {published if free else own}")

    def _print_quality(self) -> None:
        (bank, queries), labels = self.features(), (self.bank[1], self.test_labels)
        nearest = knn_accuracy(bank, labels[0], queries, labels[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            arrays = (bank, labels[0], queries, labels[1])
            probe = simclr.linear_probe(*(part.cpu().numpy() for part in arrays))
        which = "given" if self.config.dataset == "folder" else "clean"
        print(
            f"frozen features, {which} labels: linear probe accuracy {probe:.2f} %, KNN accuracy "
            f"{nearest:.2f} % on {len(queries)} images"
        )


@contextmanager
def build(config: SimCLRConfig) -> Iterator[Pretraining]:
    """Reads the data, builds the network, opens or resumes the run folder.

    Other processes are kept out of it until the block ends.
    """
    device = choose_device(config.device)
    with reserved(config):
        configure_torch(config.deterministic, device)
        data = judged(in_memory(config, config.dataset))
        kept, tested = _rows(config, data)
        values = dataclasses.asdict(config)
        identity = {name: values[name] for name in DECIDING}
        identity |= {
            "bf16": use_bfloat16(config.amp, device),
            "data_sha256": _hash(data, kept, tested),
        }
        with claimed(config, f"SimCLR_{config.dataset}", identity) as folder:
            yield _opened(config, data, kept, tested, device, folder)


def _rows(config: SimCLRConfig, data: ImageData) -> tuple[Labels, Labels]:
    """Rows of the training images and of the test images. Raises UsageError for too few."""
    # DEVIATION(lra_diffusion): SimCLR weights can be made here, by the usual recipe on all training
    # images without their labels; the original only ships weights for CIFAR, made in an unknown
    # way.
    kept = evenly(len(data.train_images), config.limit_train)
    tested = evenly(len(data.test_images), config.limit_test)
    if len(kept) < config.batch_size:
        raise UsageError(
            f"--batch_size {config.batch_size} is more than the {len(kept)} training images: give "
            "less"
        )
    return kept, tested


def _opened(
    config: SimCLRConfig,
    data: ImageData,
    kept: Labels,
    tested: Labels,
    device: torch.device,
    folder: RunFolder,
) -> Pretraining:
    values = dataclasses.asdict(config)
    torch.manual_seed(config.seed)
    net = SimCLRNet(config.arch, config.width, config.hidden)
    net = net.to(device).to(memory_format=torch.channels_last)
    optimizer = Adam(
        net.parameters(), lr=config.lr, weight_decay=WEIGHT_DECAY, fused=device.type != "mps"
    )
    learner = simclr.Learner(net, optimizer)
    entries = {
        **{name: value for name, value in values.items() if name != "resume"},
        "device_used": str(device),
        "threads": torch.get_num_threads(),
        "identity": folder.identity,
    }
    folder.open(learner, config, entries)
    positions = np.flatnonzero(np.isin(kept, split(data)[0]))
    bank_labels = data.train_labels[kept[positions]]
    return Pretraining(
        config=config,
        settings=simclr.Settings(
            config.batch_size,
            config.nepoch,
            config.lr,
            config.temperature,
            config.seed,
            autocast(config.amp, device),
        ),
        learner=learner,
        augment=simclr.augmentation(config.dataset, data.train_images.shape[1]),
        images=on_device(data, data.train_images[kept], device),
        bank=(
            torch.tensor(positions, device=device),
            torch.tensor(bank_labels, device=device),
        ),
        test_images=on_device(data, data.test_images[tested], device),
        test_labels=torch.tensor(data.test_labels[tested], device=device),
        folder=folder,
    )


def _hash(data: ImageData, kept: Labels, tested: Labels) -> str:
    hashed = hashlib.sha256()
    for array in (data.train_images[kept], data.test_images[tested]):
        hashed.update(str(array.shape).encode() + array.tobytes())
    return hashed.hexdigest()
