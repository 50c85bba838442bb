"""Features f_p of whole sets of images: computed, kept on disk, or given by the user as .npy.

A cache file says in its metadata what its features were computed from; if that differs, or the file
is damaged, they are computed again. Letters: N images, D width of the feature.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.method.epoch import in_order
from lra_diffusion.method.images import Autocast, Images
from lra_diffusion.run.errors import UsageError
from shared.files import write_atomically


@torch.no_grad()
def embed(
    encoder: Encoder, images: Images, autocast: Autocast, views_seed: int | None = None
) -> Tensor:
    """Features (N, D) float32 on the device, of the images as at test time.

    views_seed: of one random augmentation of each image instead.
    """
    batch_size = min(images.evaluation_batch, encoder.largest_batch)
    batches = in_order(len(images), batch_size, images.device)
    served = images.plain(batches) if views_seed is None else images.views(batches, views_seed)
    features = torch.empty(len(images), encoder.dim, device=images.device)
    steps = tqdm(zip(batches, served), desc=encoder.name, total=len(batches), disable=None)
    for index, batch in steps:
        with autocast():
            features[index] = encoder(batch)
    if not torch.isfinite(features).all():
        raise UsageError(
            f"{encoder.name} gives features that are not finite: try --amp off, or other weights"
        )
    return features


# DEVIATION(lra_diffusion): features kept on disk say which images, encoder, transform and precision
# they are of, and are computed again when one of these changed or the file is damaged; the original
# goes by the file's name.
def cached(
    folder: Path, key: Mapping[str, Any], count: int, compute: Callable[[], Tensor]
) -> Tensor:
    """Features (N, D) float32 in main memory: from the folder's file for this key, else computed.

    key: all that the features depend on, plain values: `split` and `dataset` (also in the file's
    name), hash of the images, identity of the encoder, transform, precision.
    """
    text = json.dumps(dict(key), sort_keys=True)
    short = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = folder / f"fp_embed_{key['split']}_{key['dataset']}_{short}.safetensors"
    if path.exists():
        problem, features = _read(path, json.loads(text), count)
        if features is not None:
            return features
        print(f"note: {path} is not used ({problem}); computing the features again")
    features = compute().float().cpu().contiguous()
    if len(features) != count:
        raise ValueError(f"{len(features)} features of {count} images")
    # One entry: safetensors shuffles several.
    about = json.dumps({"key": json.loads(text), "sha256": _sha256(features)})
    try:
        write_atomically(path, safetensors.torch.save({"features": features}, {"about": about}))
    except OSError as error:
        reason = error.strerror or error
        print(f"note: the features could not be kept in {path} ({reason}); continuing without")
    return features


def _read(path: Path, key: dict[str, Any], count: int) -> tuple[str, Tensor | None]:
    """What is wrong with a cache file ("" if nothing), and its features."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if about.get("key") != key:
                return "it is of other images or another encoder", None
            features = file.get_tensor("features")
    except Exception as error:  # safetensors' own for damage, OSError for what cannot be read
        return f"it cannot be read: {error}", None
    if features.ndim != 2 or len(features) != count or features.dtype != torch.float32:
        return f"it holds {tuple(features.shape)} {features.dtype} for {count} images", None
    if about.get("sha256") != _sha256(features) or not torch.isfinite(features).all():
        return "it is damaged", None
    return "", features


def _sha256(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().data).hexdigest()


def from_files(train_npy: Path, test_npy: Path, counts: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The users' own features (N, D) and (M, D) float32; counts: N and M."""
    train = _features_in(train_npy, "--fp_embed_train", counts[0])
    test = _features_in(test_npy, "--fp_embed_test", counts[1])
    if train.shape[1] != test.shape[1]:
        raise UsageError(
            f"{train_npy} has features of {train.shape[1]} numbers and {test_npy} of "
            f"{test.shape[1]}: both must be from the same encoder"
        )
    return torch.from_numpy(train), torch.from_numpy(test)


def _features_in(path: Path, flag: str, count: int) -> NDArray[np.float32]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UsageError(
            f"{flag} {path} does not exist: give an .npy file of floats, a row for each image"
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(
            f"{flag} {path} cannot be read ({error}): save the features by np.save(path, array)"
        ) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
        is_array = isinstance(array, np.ndarray)
        found = f"{array.shape} {array.dtype}" if is_array else "several arrays"
        raise UsageError(
            f"{flag} {path} holds {found}, not (N, D) floats: save one feature a row by "
            "np.save(path, array)"
        )
    if len(array) != count:
        raise UsageError(
            f"{flag} {path} has {len(array)} rows for {count} images: give a row for each image, "
            "in the order of the dataset"
        )
    features = np.array(array, dtype=np.float32)
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise UsageError(
            f"{flag} {path}: row {row} is not finite in float32; compute these features again"
        )
    return features
