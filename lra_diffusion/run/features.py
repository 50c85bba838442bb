"""What the frozen encoder f_p says of the images of a run: computed, cached, or the users' own.

Letters: N training images, M test images, D width of the features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lra_diffusion.encoders import embeddings, frozen
from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.method.epoch import stream_seed
from lra_diffusion.method.evaluate import EvaluationSet
from shared import datasets
from shared.files import array_hash

from .data import RunData, Split
from .device import autocast, use_bfloat16
from .schema import TrainConfig


@dataclass(frozen=True)
class Features:
    """What f_p says of the images of a run, (N, D) and (M, D) float32 on the device."""

    source: str  # name and hash of the encoder, or of the users' own features
    record: str  # the same for a model's file: whatever --limit_train and --limit_test are
    encoder: Encoder | None  # None where the user gave the features
    bank: Tensor | None  # of the training images; None where nothing is trained
    tests: dict[str, Tensor]

    def test_sets(self, data: RunData) -> dict[str, EvaluationSet]:
        """The last one is the reported one."""
        return {
            name: EvaluationSet(part.images, part.labels, self.tests[name])
            for name, part in data.tests.items()
        }


def compute_features(
    config: TrainConfig, data: RunData, device: torch.device, training: bool
) -> Features:
    """The users' features, or those of --fp_encoder, computed or from the cache."""
    given = data.train.features
    if given is not None:
        tests = {
            name: part.features for name, part in data.tests.items() if part.features is not None
        }
        hashes = [array_hash(part.cpu().numpy()) for part in (given, *tests.values())]
        record = f"embeddings sha256:{data.features_sha256}"
        return Features("embeddings " + " ".join(hashes), record, None, given, tests)
    encoder = frozen.build(
        config.fp_encoder,
        dataset=data.name,
        normalisation=data.train.images.normalisation,
        image_side=data.image_side,
        device=device,
        clip_type=config.CLIP_type,
        clip_activation=config.CLIP_activation,
        weights=config.fp_weights,
        data_path=config.data_path,
    )
    tests = {
        name: _cached_features(config, data.name, name, part, encoder)
        for name, part in data.tests.items()
    }
    bank = _cached_features(config, data.name, "train", data.train, encoder) if training else None
    return Features(encoder.identity, encoder.identity, encoder, bank, tests)


def _cached_features(
    config: TrainConfig, dataset: str, split: str, part: Split, encoder: Encoder
) -> Tensor:
    device = part.images.device
    augmented = split == "train" and config.bank_transform == "train"
    seed = stream_seed(config.seed, 0, "bank") if augmented else None
    key = {
        "dataset": dataset,
        "split": split,
        "images": part.images_sha256,
        "encoder": encoder.identity,
        "transform": f"train {seed}" if augmented else "test",
        "precision": "bfloat16" if use_bfloat16(config.amp, device) else "float32",
    }
    folder = config.cache_dir or datasets.data_root(config.data_path) / "embeddings"

    def compute() -> Tensor:
        return embeddings.embed(encoder, part.images, autocast(config.amp, device), seed)

    return embeddings.cached(folder, key, len(part.images), compute).to(device)
