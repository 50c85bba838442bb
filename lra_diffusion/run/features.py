"""What the frozen encoder f_p says of the images of a run: computed, cached, or the users' own.

Letters: N training images, M test images, D width of the features.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lra_diffusion.encoders import embeddings, frozen
from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.method.epoch import stream_seed
from lra_diffusion.method.evaluate import EvaluationSet
from lra_diffusion.method.ranks import ALONE, Ranks
from shared import datasets
from shared.files import array_hash

from .device import autocast, use_bfloat16
from .errors import UsageError
from .image_files import DiskImages
from .launch import check_same, first_on_its_machine
from .schema import TrainConfig
from .splits import RunData, Split, check_classes

NAMED = 5  # broken images that a message names
TOO_MANY = 1000  # broken images: the data are not there, so that the pass need not go on


@dataclass(frozen=True)
class Features:
    """What f_p says of the images of a run, (N, D) and (M, D) float32 on the device."""

    source: str  # name and hash of the encoder, or of the users' own features
    record: str  # the same for a model's file: whatever --limit_train and --limit_test are
    encoder: Encoder | None  # None where the user gave the features
    bank: Tensor | None  # of the training images; None where nothing is trained
    tests: dict[str, Tensor]

    def test_sets(self, data: RunData) -> dict[str, EvaluationSet]:
        """The last one is the reported one; of own pictures it may be empty."""
        return {
            name: EvaluationSet(part.images, part.labels, self.tests[name])
            for name, part in data.tests.items()
        }


def compute_features(
    config: TrainConfig,
    data: RunData,
    device: torch.device,
    training: bool,
    ranks: Ranks = ALONE,
) -> tuple[RunData, Features]:
    """The users' features, or those of --fp_encoder, computed or from the cache.

    The data are without the images that cannot be read, where --skip_broken leaves them out.
    """
    given = data.train.features
    if given is not None:
        tests = {
            name: part.features for name, part in data.tests.items() if part.features is not None
        }
        hashes = [array_hash(part.cpu().numpy()) for part in (given, *tests.values())]
        record = f"embeddings sha256:{data.features_sha256}"
        return data, Features("embeddings " + " ".join(hashes), record, None, given, tests)
    with first_on_its_machine(ranks):
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
    check_same({"fp_encoder": encoder.identity}, ranks)
    splits = {**data.tests, **({"train": data.train} if training else {})}
    found: dict[str, Tensor] = {}
    broken: dict[tuple[str, int], str] = {}
    for name, part in splits.items():
        if not len(part.labels):  # own pictures without a test set
            found[name] = torch.zeros(0, encoder.dim, device=device)
            continue
        found[name], unread = _cached_features(config, data.name, name, part, encoder, ranks)
        broken |= {(name, row): reason for row, reason in unread.items()}
    if broken:
        _tell_broken(config, splits, broken)
        classes = data.train.labels.unique().tolist()
        rows = {name: {row for part, row in broken if part == name} for name, _ in broken}
        data = data.without(rows)
        for name, unread_rows in rows.items():
            kept = [row for row in range(len(found[name])) if row not in unread_rows]
            found[name] = found[name][torch.tensor(kept, dtype=torch.int64, device=device)]
        if training:
            check_classes(data.train.labels, classes, "get the missing files again")
    bank = found.pop("train", None)
    return data, Features(encoder.identity, encoder.identity, encoder, bank, found)


Broken = Mapping[tuple[str, int], str]  # split and row of an image: why it cannot be read


def _tell_broken(config: TrainConfig, splits: Mapping[str, Split], broken: Broken) -> None:
    """Names and counts the images; without --skip_broken raises UsageError."""
    shown = []
    for (name, row), reason in list(broken.items())[:NAMED]:
        images = splits[name].images
        assert isinstance(images, DiskImages)
        shown.append(f"{images.paths[row]} ({reason})")
    shown += [f"and {len(broken) - NAMED} more"] if len(broken) > NAMED else []
    if not config.skip_broken:
        raise UsageError(
            f"{len(broken)} images cannot be read: {', '.join(shown)}. Get these files again, or "
            "add --skip_broken to leave them out; the features of the others are kept"
        )
    total = sum(len(part.labels) for part in splits.values())
    print(f"note: {len(broken)} of {total:,} images cannot be read and are left out:")
    print("\n".join(f"  {line}" for line in shown))


def _cached_features(
    config: TrainConfig, dataset: str, split: str, part: Split, encoder: Encoder, ranks: Ranks
) -> tuple[Tensor, dict[int, str]]:
    """Features of a split, and which of its images cannot be read, with reasons."""
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
    # In a folder of one's own pictures, every folder may be a class.
    place = None if dataset == "folder" else config.data_path
    folder = config.cache_dir or datasets.data_root(place) / "embeddings"
    parts = embeddings.Parts(folder, key, part.rows_sha256, config.skip_broken, ranks)

    def note(row: int, reason: str) -> None:
        parts.broken[row] = reason
        if len(parts.broken) >= TOO_MANY and not config.skip_broken:
            _tell_broken(config, {split: part}, {(split, r): w for r, w in parts.broken.items()})

    def compute() -> Tensor:
        amp = autocast(config.amp, device)
        if not isinstance(part.images, DiskImages):
            return embeddings.embed(encoder, part.images, amp, seed, parts, ranks)
        images = part.images.subset(range(len(part.images)))
        images.on_broken = note
        return embeddings.embed(encoder, images, amp, seed, parts, ranks)

    features = embeddings.cached(folder, key, len(part.images), compute, parts, ranks)
    return features.to(device), parts.broken
