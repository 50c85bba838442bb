"""The images and labels of a run: which train, which validate, which test.

CIFAR, digits and own pictures at 32 pixels are in memory; what `run.disk_data` reads stays on disk.
Letters: N images, D width of a feature.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lra_diffusion.encoders.embeddings import from_files
from lra_diffusion.method.images import CIFAR_NORMALISATION, DeviceImages
from shared.datasets.image_data import ImageData
from shared.files import array_hash
from shared.formats.alignment import best_known, evenly
from shared.formats.noise_file import NoiseFile, label_hash
from shared.labels import Labels

from . import disk_data
from .labels import rows_of, tested_labels, training_labels
from .own_pictures import SIDE, in_memory
from .schema import LabelConfig, TrainConfig
from .splits import RunData, Split


def on_device(data: ImageData, pixels: NDArray[np.uint8], device: torch.device) -> DeviceImages:
    """Images (N, 32, 32, 3) uint8 of this dataset on the device.

    digits are neither moved nor mirrored: a mirrored 2 is not a digit, and with shifts even plain
    cross-entropy does not memorise wrong labels of so small a set.
    """
    augmented = data.name != "digits"
    padding = 4 if augmented else 0
    return DeviceImages(pixels, CIFAR_NORMALISATION, device, padding=padding, flip=augmented)


def load(config: LabelConfig, device: torch.device, noise: NoiseFile | None = None) -> RunData:
    """Everything a run looks at. Raises DatasetError, NoiseFileError or UsageError.

    noise: the labels, with the images they are of, if they are known already.
    """
    if isinstance(config, TrainConfig) and config.on_disk:
        return disk_data.load(config, device, noise)
    data = in_memory(config, config.dataset)
    known = tested_labels(config, data) if noise is None else best_known(noise, data)
    noise = noise or training_labels(config, data)
    given: tuple[Tensor | None, Tensor | None] = (None, None)
    if isinstance(config, TrainConfig) and config.fp_embed_train:
        counts = (len(data.train_labels), len(data.test_labels))
        given = from_files(config.fp_embed_train, config.fp_embed_test, counts)

    def part(
        pixels: NDArray[np.uint8], labels: Labels, rows: Labels, all_features: Tensor | None
    ) -> Split:
        features = None if all_features is None else all_features[torch.tensor(rows)].to(device)
        return Split(
            on_device(data, pixels[rows], device),
            torch.tensor(labels, device=device),
            array_hash(pixels[rows]),
            label_hash(labels),
            features,
        )

    tests, (_, validates, held_out) = {}, rows_of(config, data)
    if len(validates):
        rows = validates[evenly(len(validates), config.limit_test)]
        tests["val"] = part(data.train_images, known[rows], rows, given[0])
    if len(held_out):
        rows = held_out[evenly(len(held_out), config.limit_test)]
        tests["test"] = part(data.train_images, known[rows], rows, given[0])
    else:
        rows = evenly(len(data.test_labels), config.limit_test)
        tests["test"] = part(data.test_images, data.test_labels[rows], rows, given[1])
    assert noise.indices is not None  # of labels to train on
    train = part(data.train_images, noise.noisy_labels, noise.indices, given[0])
    names = data.train_names
    files = tuple(names[row] for row in noise.indices) if names else ()
    return RunData(
        name=data.name,
        class_names=data.class_names,
        image_side=SIDE,
        noise=noise,
        location=data.location,
        tests=tests,
        train=replace(train, files=files),
        clean=noise.clean_labels,
        features_sha256=None if given[0] is None else array_hash(given[0].numpy()),
    )
