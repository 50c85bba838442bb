"""Features f_p of whole sets of images: computed, kept on disk, or given by the user as .npy.

A cache file says in its metadata what its features were computed from; if that differs, or the file
is damaged, they are computed again. A long pass keeps its features in parts, so that a kill or a
broken image loses one of them. Letters: N images, D width of the feature.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.method.epoch import in_order
from lra_diffusion.method.images import Autocast, Images
from lra_diffusion.method.progress import watched
from lra_diffusion.method.ranks import ALONE, Ranks
from lra_diffusion.run.errors import UsageError
from shared.files import write_atomically

PART = 2000  # images, or a few more
SECONDS = 30.0  # of work that may be lost, and a part


class Parts:
    """Features of PART images each, on disk until the features of all are one file.

    key: as of `cached`; rows_sha256: hash of some of the images, so that a file that is exchanged
    changes one part. broken: images that could not be read, with reasons; a part of such ones is
    kept, and used, only where they are to be skipped. Of several ranks the first one reads and
    writes.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any],
        rows_sha256: Callable[[range], str],
        skip_broken: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.folder = folder / f"fp_embed_{key['split']}_{key['dataset']}.parts"
        self.broken: dict[int, str] = {}
        self._key, self._rows_sha256, self._skip = dict(key), rows_sha256, skip_broken
        self._ranks = ranks
        self._waiting: list[tuple[range, Tensor]] = []
        self._last = time.monotonic()
        self._used: list[Path] = []

    def read(self, rows: range) -> Tensor | None:
        features, broken = self._ranks.same(lambda: self._kept(rows))
        self.broken |= broken
        return features

    def _kept(self, rows: range) -> tuple[Tensor | None, dict[int, str]]:
        """The features of a part, if there are any to be used, and its broken images."""
        path, key = self._file(rows)
        problem, features, about = _read(path, key, len(rows))
        broken = {rows.start + int(row): why for row, why in about.get("broken", {}).items()}
        if problem or (broken and not self._skip):
            return None, {}
        self._used.append(path)
        return features, broken

    def add(self, rows: range, features: Tensor) -> None:
        """Takes a part that was computed; writes what waits if enough time went by."""
        for broken in self._ranks.each(self.broken):
            self.broken |= broken
        if not self._ranks.is_first:
            return
        self._waiting.append((rows, features))
        if time.monotonic() - self._last >= SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what waits."""
        for rows, features in self._waiting:
            broken = {row - rows.start: why for row, why in self.broken.items() if row in rows}
            if broken and not self._skip:
                continue
            path, key = self._file(rows)
            if not _write(path, key, features.float().cpu().contiguous(), broken=broken):
                break
            self._used.append(path)
        self._waiting, self._last = [], time.monotonic()

    def remove(self) -> None:
        for path in self._used:
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _file(self, rows: range) -> tuple[Path, dict[str, Any]]:
        """Where a part is kept, and the key that its features depend on."""
        # Not the hash of all images, which one exchanged file changes.
        key = {**self._key, "images": self._rows_sha256(rows)}
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors", key


@torch.no_grad()
def embed(
    encoder: Encoder,
    images: Images,
    autocast: Autocast,
    views_seed: int | None = None,
    parts: Parts | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Features (N, D) float32 on the device, of the images as at test time.

    views_seed: of one random augmentation of each image instead. parts: where what is done is kept.
    Each rank looks at its rows of a batch.
    """
    batch_size = min(images.evaluation_batch, encoder.largest_batch)
    if views_seed is None:  # the draws of views are those of one rank's batches
        batch_size *= ranks.size
    batches = in_order(len(images), batch_size, images.device)
    features = torch.empty(len(images), encoder.dim, device=images.device)
    size = batch_size * -(-PART // batch_size)
    ranges = [range(i, min(i + size, len(images))) for i in range(0, len(images), size)]
    known = set()
    for rows in ranges if parts else ():
        assert parts is not None
        if (kept := parts.read(rows)) is not None:
            features[rows.start : rows.stop] = kept.to(images.device)
            known.add(rows)
    if known:
        print(f"{encoder.name}: features of {sum(map(len, known)):,} images were kept")
    todo = [(rows, *span) for rows in ranges for span in _spans(rows, batch_size)]
    if views_seed is None:  # the draws of views follow one another, so these are all made
        todo = [item for item in todo if item[0] not in known]
    indices = [batches[start // batch_size] for _, start, _ in todo]
    if views_seed is None:
        served = images.plain([ranks.part(index) for index in indices])
    else:
        served = images.views(indices, views_seed, ranks)
    steps = watched(indices, f"features, {encoder.name}", announced=bool(indices))
    try:
        for (rows, _, stop), index, batch in zip(todo, steps, served):
            if rows in known:
                continue
            with autocast():
                found = encoder(batch)
            features[index] = ranks.gather(found, len(index))
            if parts is not None and stop == rows.stop:
                parts.add(rows, features[rows.start : rows.stop])
    except BaseException:  # Ctrl-C as well
        if parts is not None:
            parts.write()
        raise
    if not torch.isfinite(features).all():
        raise UsageError(
            f"{encoder.name} gives features that are not finite: try --amp off, or other weights"
        )
    return features


def _spans(rows: range, batch_size: int) -> list[tuple[int, int]]:
    """Start and stop of the batches of a part."""
    starts = range(rows.start, rows.stop, batch_size)
    return [(start, min(start + batch_size, rows.stop)) for start in starts]


# DEVIATION(lra_diffusion): features kept on disk say which images, encoder, transform and precision
# they are of, and are computed again when one of these changed or the file is damaged; the original
# goes by the file's name.
def cached(
    folder: Path,
    key: Mapping[str, Any],
    count: int,
    compute: Callable[[], Tensor],
    parts: Parts | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Features (N, D) float32 in main memory: from the folder's file for this key, else computed.

    Of several ranks the first one reads and writes.

    key: all that the features depend on, plain values: `split` and `dataset` (also in the file's
    name), hash of the images, identity of the encoder, transform, precision. parts: what `compute`
    used, removed when the whole file is there; with broken images there is none.
    """
    text = json.dumps(dict(key), sort_keys=True)
    short = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = folder / f"fp_embed_{key['split']}_{key['dataset']}_{short}.safetensors"

    def kept() -> Tensor | None:
        if not path.exists():
            return None
        problem, features, _ = _read(path, json.loads(text), count)
        if features is None:
            print(f"note: {path} is not used ({problem}); computing the features again")
        return features

    if (features := ranks.same(kept)) is not None:
        return features
    features = compute().float().cpu().contiguous()
    if len(features) != count:
        raise ValueError(f"{len(features)} features of {count} images")
    if not ranks.is_first:
        return features
    if parts is not None and parts.broken:
        parts.write()
    elif _write(path, json.loads(text), features) and parts is not None:
        parts.remove()
    return features


def _write(path: Path, key: dict[str, Any], features: Tensor, **more: Any) -> bool:
    """Writes a cache file; where that fails, a note says so."""
    # One entry: safetensors shuffles several.
    about = json.dumps({"key": key, "sha256": _sha256(features), **more})
    try:
        write_atomically(path, safetensors.torch.save({"features": features}, {"about": about}))
    except OSError as error:
        reason = error.strerror or error
        print(f"note: the features could not be kept in {path} ({reason}); continuing without")
        return False
    return True


def _read(path: Path, key: dict[str, Any], count: int) -> tuple[str, Tensor | None, dict[str, Any]]:
    """What is wrong with a cache file ("" if nothing), its features, and what it says of them."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if about.get("key") != key:
                return "it is of other images or another encoder", None, {}
            features = file.get_tensor("features")
    except Exception as error:  # safetensors' own for damage, OSError for what cannot be read
        return f"it cannot be read: {error}", None, {}
    if features.ndim != 2 or len(features) != count or features.dtype != torch.float32:
        return f"it holds {tuple(features.shape)} {features.dtype} for {count} images", None, {}
    if about.get("sha256") != _sha256(features) or not torch.isfinite(features).all():
        return "it is damaged", None, {}
    return "", features, about


def _sha256(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().data).hexdigest()


def from_files(
    train_npy: Path, test_npy: Path | None, counts: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The users' own features (N, D) and (M, D) float32; counts: N and M.

    test_npy: None where M is 0, and only then.
    """
    train = _features_in(train_npy, "--fp_embed_train", counts[0])
    if (test_npy is None) != (counts[1] == 0):
        fix = "leave it out" if test_npy else "give their features, from the same encoder"
        raise UsageError(f"--fp_embed_test: there are {counts[1]} test images; {fix}")
    if test_npy is None:
        return torch.from_numpy(train), torch.zeros(0, train.shape[1])
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
