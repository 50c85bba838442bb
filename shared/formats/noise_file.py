"""The noise file of this repository, an .npz: labels, what they belong to, how they were made.

    noise = make(noisy_labels, clean_labels=labels, dataset="cifar10", num_classes=10, seed=123)
    write("noise.npz", noise)
    noise = read("noise.npz")           # for a dataset's rows: shared.formats.alignment.labels_for

The .npz holds the arrays of NoiseFile and `header`, a text with the fields of Header as JSON. It is
uncompressed and has no dates, so the same arguments give the same bytes. Reading never unpickles
and believes no declared size. `external` reads and writes what other projects use. Letters: N
samples of the file, C classes.
"""

import dataclasses
import hashlib
import io
import json
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import UserError
from shared.files import write_atomically
from shared.formats import safe_arrays
from shared.labels import Labels, checked_labels

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 64 * 1024
WITH_TRUE_CLASS = "with_true_class"  # a chosen sample may draw its own class again
WITHOUT_TRUE_CLASS = "without_true_class"
CORRECTED_KIND = "corrected"  # of labels that a method or a person corrected
_MEMBERS = ("noisy_labels", "clean_labels", "indices", "open_set")


class NoiseFileError(UserError):
    """A noise file that is damaged, none at all, or of other data; the text says what helps."""


@dataclass(frozen=True)
class Header:
    """What is known about the labels; None where it is not."""

    version: int = FORMAT_VERSION
    dataset: str | None = None
    split: str | None = None  # "train"
    num_classes: int | None = None
    kind: str | None = None  # one of shared.noise.recipe.KINDS, a column of CIFAR-N, ...
    class_map: str | None = None  # name in shared.noise.ASYMMETRIC_MAPS
    convention: str | None = None  # is the true class among the targets? WITH_TRUE_CLASS, ...
    nominal_rate: float | None = None
    measured_rate: float | None = None  # share of samples with a wrong label or a replaced image
    seed: int | None = None
    generator: str | None = None  # what made the labels, with its version
    clean_labels_sha256: str | None = None  # label_hash of the clean labels of these samples


@dataclass(frozen=True, eq=False)
class NoiseFile:
    """Labels with their header; always valid, arrays read-only.

    Raises NoiseFileError for anything that is not.
    """

    noisy_labels: Labels  # (N,) in [0, C)
    clean_labels: Labels | None = None  # (N,) in [0, C)
    indices: Labels | None = None  # (N,) distinct rows of the training set; None: all, in order
    open_set: NDArray[np.bool_] | None = None  # (N,) True: an image of another dataset is there
    header: Header = field(default_factory=Header)
    # What an external file says about its samples; not in an .npz, which knows its indices.
    names: tuple[str, ...] | None = None  # (N,) file names, instead of indices
    order: str = ""  # "assumed" (the file does not say which samples it labels) or "tensorflow"

    def __post_init__(self) -> None:
        _check_header(self.header)
        for name in _MEMBERS:
            if (values := getattr(self, name)) is not None:
                limit = None if name == "indices" else self.header.num_classes
                array: NDArray[Any] = (
                    _flags(values) if name == "open_set" else _integers(values, name, limit)
                )
                if len(array) != len(self.noisy_labels):
                    raise NoiseFileError(
                        f"{name} has {len(array)} entries for {len(self.noisy_labels)} noisy labels"
                    )
                array.setflags(write=False)
                object.__setattr__(self, name, array)
        if self.names is not None and len(self.names) != len(self.noisy_labels):
            raise NoiseFileError(
                f"{len(self.names)} file names for {len(self.noisy_labels)} noisy labels"
            )
        if self.indices is not None:
            samples, counts = np.unique(self.indices, return_counts=True)
            if len(twice := samples[counts > 1]):
                raise NoiseFileError(
                    f"indices name sample {twice[0]} twice: give every sample one label"
                )
        if self.clean_labels is not None:
            _check_claims(self)

    @property
    def rows(self) -> Labels:
        """(N,) the samples' rows in the training set."""
        return np.arange(len(self.noisy_labels)) if self.indices is None else self.indices


def make(
    noisy_labels: ArrayLike,
    *,
    clean_labels: ArrayLike | None = None,
    indices: ArrayLike | None = None,
    open_set: ArrayLike | None = None,
    **known: Any,
) -> NoiseFile:
    """A NoiseFile; the measured rate and the hash are computed when clean labels are given.

    noisy_labels, clean_labels, indices: (N,) integers; open_set: (N,) bool; `known`: fields of
    Header.
    """
    noisy = _integers(noisy_labels, "noisy_labels", None)
    clean = None if clean_labels is None else _integers(clean_labels, "clean_labels", None)
    flags = None if open_set is None else _flags(open_set)
    shapes = {array.shape for array in (noisy, clean, flags) if array is not None}
    if clean is not None and len(shapes) == 1:
        known |= {
            "measured_rate": measured_rate(noisy, clean, flags),
            "clean_labels_sha256": label_hash(clean),
        }
    rows = None if indices is None else _integers(indices, "indices", None)
    plain_numbers: dict[str, Callable[[Any], Any]] = {
        "num_classes": operator.index,
        "seed": operator.index,
        "nominal_rate": float,
    }
    for name, plain in plain_numbers.items():  # numpy's numbers are no JSON
        known[name] = None if known.get(name) is None else plain(known[name])
    return NoiseFile(noisy, clean, rows, flags, Header(**known))


def check_rows(noise: NoiseFile) -> None:
    """Raises NoiseFileError where the dataset alone can tell which of its samples are labelled."""
    if noise.indices is not None:
        return
    if noise.names is not None:
        raise NoiseFileError(
            "the labels go by file names: give their dataset (--dataset, --data_path)"
        )
    if noise.order == "tensorflow":
        raise NoiseFileError(
            "the labels are in TensorFlow's order, so that their samples are not known: give the "
            "dataset (--dataset, --data_path), and put CIFAR-N's image_order_c10.npy (or c100) "
            "beside the labels"
        )


def measured_rate(noisy: Labels, clean: Labels, open_set: NDArray[np.bool_] | None) -> float:
    """Share of the N samples whose label is wrong or whose image is replaced; 0 for N = 0."""
    wrong = noisy != clean if open_set is None else (noisy != clean) | open_set
    return float(wrong.mean()) if len(wrong) else 0.0


def label_hash(labels: ArrayLike) -> str:
    """SHA-256 of the labels as little-endian int64. labels: (N,) integers."""
    return hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()


def encode(noise: NoiseFile) -> bytes:
    """The .npz file's bytes, a function of the arguments alone."""
    arrays = {name: getattr(noise, name) for name in _MEMBERS if getattr(noise, name) is not None}
    header = json.dumps(dataclasses.asdict(noise.header), sort_keys=True)
    stream = io.BytesIO()
    np.savez(stream, **arrays, header=np.array(header))
    return stream.getvalue()


def write(path: str | Path, noise: NoiseFile) -> None:
    """Write the .npz file, all or nothing."""
    write_atomically(path, encode(noise))


def read(path: str | Path) -> NoiseFile:
    """Read a file of our format; `external.read_any` also reads the others."""
    data = read_bytes(path)
    try:
        return decode(data)
    except (safe_arrays.UnsafeArrayError, NoiseFileError) as error:
        raise NoiseFileError(f"{path}: {error}") from error


def read_bytes(path: str | Path) -> bytes:
    """The file's bytes; raises NoiseFileError if it cannot be read or is too large for labels."""
    try:
        return safe_arrays.read_limited(Path(path))
    except FileNotFoundError as error:
        fix = "check its name and folder, or make one with `python -m shared noise make`"
        raise NoiseFileError(f"noise file {path} does not exist: {fix}") from error
    except (OSError, safe_arrays.UnsafeArrayError) as error:
        raise NoiseFileError(f"cannot read noise file {path}: {error}") from error


def decode(data: bytes) -> NoiseFile:
    """The inverse of `encode`; raises NoiseFileError or UnsafeArrayError."""
    archive = safe_arrays.Archive(data)
    members = {name.removesuffix(".npy"): name for name in archive.names}
    unknown = set(members) - {*_MEMBERS, "header"}
    if unknown or not {"noisy_labels", "header"} <= set(members):
        raise NoiseFileError(
            f"an .npz with {sorted(members)} is not a noise file of this repository"
        )
    arrays: dict[str, Any] = {}
    for name in _MEMBERS:
        if name in members:
            kinds = "b" if name == "open_set" else "iu"
            arrays[name] = archive.array(members[name], kinds)
    return NoiseFile(**arrays, header=_parse_header(archive.read(members["header"])))


def _parse_header(data: bytes) -> Header:
    if len(data) > MAX_HEADER_BYTES:
        raise NoiseFileError(f"the header has {len(data)} bytes: damaged file, or not a noise file")
    text = safe_arrays.parse_npy(data, "U")
    if text.ndim != 0:
        raise NoiseFileError("the header is not one text: damaged file")
    try:
        fields = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise NoiseFileError(f"the header is not JSON ({error}): damaged file") from error
    if not isinstance(fields, dict):
        raise NoiseFileError("the header is not a JSON object: damaged file")
    if fields.get("version") != FORMAT_VERSION:
        found = fields.get("version")
        raise NoiseFileError(
            f"noise-file version {found} is not {FORMAT_VERSION}: update this repository or "
            "remake it"
        )
    names = {item.name for item in dataclasses.fields(Header)}
    if set(fields) != names:
        raise NoiseFileError(
            f"the header has wrong fields {sorted(set(fields) ^ names)}: damaged file"
        )
    return Header(**fields)


def _check_header(header: Header) -> None:
    types = dict.fromkeys(("version", "num_classes", "seed"), int)
    rates = dict.fromkeys(("nominal_rate", "measured_rate"), float)
    for name, value in dataclasses.asdict(header).items():
        expected: type = types.get(name) or rates.get(name) or str
        if value is not None and type(value) is not expected:
            raise NoiseFileError(f"header field {name} is {value!r}: give a {expected.__name__}")
    for rate in (header.nominal_rate, header.measured_rate):
        if rate is not None and not (math.isfinite(rate) and 0 <= rate <= 1):
            raise NoiseFileError(f"noise rate {rate} in the header is outside [0, 1]")
    if header.num_classes is not None and header.num_classes < 1:
        raise NoiseFileError(f"num_classes is {header.num_classes}: it must be at least 1")
    if header.convention not in (None, WITH_TRUE_CLASS, WITHOUT_TRUE_CLASS):
        raise NoiseFileError(
            f"convention {header.convention!r} is neither {WITH_TRUE_CLASS} nor "
            f"{WITHOUT_TRUE_CLASS}"
        )


def _check_claims(noise: NoiseFile) -> None:
    """The measured rate and hash of the header must be those of the arrays."""
    assert noise.clean_labels is not None
    rate = measured_rate(noise.noisy_labels, noise.clean_labels, noise.open_set)
    claimed = noise.header
    if claimed.measured_rate is not None and abs(claimed.measured_rate - rate) > 1e-9:
        raise NoiseFileError(
            f"the header's measured rate is {claimed.measured_rate}, the labels' {rate}: make "
            "it again"
        )
    if claimed.clean_labels_sha256 not in (None, label_hash(noise.clean_labels)):
        raise NoiseFileError(
            "the header's hash is not that of the clean labels in the file: make it again"
        )


def _integers(values: ArrayLike, name: str, limit: int | None) -> Labels:
    # An array that nobody can write to is shared: there may be millions of labels.
    copy = not isinstance(values, np.ndarray) or values.flags.writeable
    labels = checked_labels(values, limit, name=name, error=NoiseFileError, copy=copy)
    labels.setflags(write=False)
    return labels


def _flags(values: ArrayLike | None) -> NDArray[np.bool_]:
    array = np.array(values)
    if array.ndim != 1 or array.dtype != np.bool_:
        raise NoiseFileError(
            f"open_set is {array.dtype} of shape {array.shape}: give one bool per sample, (N,)"
        )
    return array
