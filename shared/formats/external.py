"""Reads and writes the noise files of other projects; `read_any` takes them all, and ours.

    read_any("0.5_instance.pt")  read_any("sym0.4.csv")  read_any("CIFAR-10_human.pt:worse_label")
    write_any("sym0.4.csv", noise)

| file | what is in it | from |
|---|---|---|
| .npz | everything (`shared.formats.noise_file`) | this repository |
| .pt | one array, tensor or list of noisy labels | InstanceGM, `torch.save` |
| .pt, .npz of columns | clean and several noisy labels; choose with `:column` | CIFAR-N |
| .csv | `label,label_noisy`, or True/False for a replaced image | SLN, re-sln |
| .npy | noisy labels; 45,000 of them are those of the first 45,000 images | PLC, LRA-diffusion |
| .json | a list of noisy labels | DivideMix |

The content decides, not the name. Nothing is executed, and every failure is a NoiseFileError that
names the file. Letters: N labels.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.files import write_atomically
from shared.formats import noise_file, safe_arrays, torch_file
from shared.formats.noise_file import NoiseFile, NoiseFileError, make
from shared.formats.safe_arrays import UnsafeArrayError
from shared.formats.safe_pickle import UnsafePickleError
from shared.labels import checked_labels

FORMATS = ("npz", "pt", "csv", "npy", "json")
OPEN_SET_FORMATS = ("npz", "csv")  # can say which images are replaced
PMD_SAMPLES = (
    45_000  # PLC and LRA-diffusion label the first 45,000 of CIFAR's 50,000 training images
)

Columns = dict[str, Any]  # name -> (N,) labels, unchecked


def read_any(path: str | Path, column: str | None = None) -> NoiseFile:
    """Read a noise file of any known format; raises NoiseFileError.

    column: which labels of a file with several, also given as `file:column`. The clean labels come
    from the file's clean column, where it has one. Unknown header fields are None.
    """
    path, column = split_column(path, column)
    data = noise_file.read_bytes(path)
    try:
        found = _parse(data)
        if isinstance(found, NoiseFile):
            if column is not None:
                raise NoiseFileError(f"the file has no columns, so leave out the column {column}")
            return found
        return _from_column(found, column, path.name)
    except (NoiseFileError, UnsafeArrayError, UnsafePickleError) as error:
        raise NoiseFileError(f"{path}: {error}") from error


def columns(path: str | Path) -> list[str]:
    """The names of the label columns of a file that has several to choose from; empty for other
    formats.
    """
    data = noise_file.read_bytes(path)
    try:
        found = _parse(data)
    except (NoiseFileError, UnsafeArrayError, UnsafePickleError) as error:
        raise NoiseFileError(f"{path}: {error}") from error
    return [] if isinstance(found, NoiseFile) else list(found)


def split_column(path: str | Path, column: str | None = None) -> tuple[Path, str | None]:
    """`file:column` as (file, column), unless a file has that very name."""
    name, colon, suffix = str(path).rpartition(":")
    if colon and column is None and not Path(path).exists() and Path(name).is_file():
        return Path(name), suffix
    return Path(path), column


def write_any(path: str | Path, noise: NoiseFile, format: str | None = None) -> None:
    """Write in the format given or named by the path's ending, all or nothing.

    Raises NoiseFileError when the format cannot hold what using the labels needs (which samples,
    which are replaced).
    """
    write_atomically(path, encode_any(noise, format or format_of(path)))


def format_of(path: str | Path) -> str:
    """The format named by the path's ending."""
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise NoiseFileError(
            f"{path} does not end in one of .{', .'.join(FORMATS)}: choose the format by the ending"
        )
    return ending


def encode_any(noise: NoiseFile, format: str) -> bytes:
    """The file's bytes, a function of the arguments alone."""
    if format == "npz":
        return noise_file.encode(noise)
    first_samples = noise.indices is not None and np.array_equal(
        noise.indices, np.arange(PMD_SAMPLES)
    )
    if noise.indices is not None and not (format == "npy" and first_samples):
        raise NoiseFileError(
            f"a .{format} file cannot say which samples the labels belong to: write .npz"
        )
    if noise.open_set is not None and format not in OPEN_SET_FORMATS:
        raise NoiseFileError(
            f"a .{format} file cannot say which images are replaced: write .npz or .csv"
        )
    if format == "pt":
        return torch_file.dump(noise.noisy_labels)
    if format == "csv":
        return _encode_csv(noise)
    if format == "npy":
        stream = io.BytesIO()
        np.save(stream, noise.noisy_labels)
        return stream.getvalue()
    if format == "json":
        return json.dumps(noise.noisy_labels.tolist()).encode()
    raise NoiseFileError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")


def _parse(data: bytes) -> NoiseFile | Columns:
    """Find the format by the first bytes and read it."""
    if data.startswith(b"PK"):
        return _parse_zip(data)
    if data.startswith(b"\x93NUMPY"):
        labels = safe_arrays.parse_npy(data)
        return make(
            labels, indices=np.arange(PMD_SAMPLES) if labels.shape == (PMD_SAMPLES,) else None
        )
    if data.startswith(torch_file.LEGACY_START):
        return _from_torch(data)
    try:
        text = data.decode("utf-8-sig")  # a spreadsheet may have put a byte order mark in front
    except UnicodeDecodeError:
        text = "\0"
    if text.lstrip().startswith(("[", "{")):
        return _from_list(_parse_json(text))
    if "," in text.partition("\n")[0]:
        return _parse_csv(text)
    raise NoiseFileError(
        f"this is not a noise file of a known format: .{', .'.join(FORMATS)} files are read"
    )


def _parse_zip(data: bytes) -> NoiseFile | Columns:
    archive = safe_arrays.open_zip(data)
    names = archive.namelist()
    if torch_file.is_torch_zip(names):
        return _from_torch(data)
    if "header.npy" in names and "noisy_labels.npy" in names:
        return noise_file.decode(data)
    arrays = [name for name in names if name.endswith(".npy")]
    if not arrays or len(arrays) < len(names):
        raise NoiseFileError("this zip archive is neither an .npz nor a torch file of labels")
    return {
        name.removesuffix(".npy"): safe_arrays.parse_npy(safe_arrays.read_member(archive, name))
        for name in arrays
    }


def _from_torch(data: bytes) -> NoiseFile | Columns:
    value = torch_file.load(data)
    if isinstance(value, Mapping):
        return {str(name): labels for name, labels in value.items()}
    return _from_list(value)


def _from_list(value: Any) -> NoiseFile:
    return make(_labels(value))


def _labels(value: Any) -> Any:
    """An array as it is; a list as (N,) int64 after a look at each item: NumPy would turn True or
    "7" into a number.
    """
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list):
        raise NoiseFileError(f"the file holds a {type(value).__name__}, not a list of labels")
    for position, item in enumerate(value):
        if not (type(item) is int or isinstance(item, np.integer)) or abs(int(item)) >= 2**62:
            raise NoiseFileError(
                f"item {position} of the list is {str(item)[:40]}, not a label: give integers "
                "from 0 on"
            )
    return np.array(value, np.int64)


def _parse_json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoiseFileError(f"the file looks like JSON but is none ({error})") from error
    if isinstance(value, dict):
        raise NoiseFileError(
            f"a JSON object with {sorted(value)[:5]} is not a noise file: a list of labels is "
            "read; COCO annotations are for "
            "`noise make --format coco`, `noise info` and `noise compare`"
        )
    return value


def _parse_csv(text: str) -> NoiseFile:
    """`label,label_noisy`, LF or CRLF.

    In open-set files the second column is True where the image is replaced.
    """
    rows = [line.split(",") for line in text.splitlines()]
    if [name.strip() for name in rows[0][:2]] in (["src", "dsts"], ["src", "dst"]):
        raise NoiseFileError(
            "this describes the rules of a noise, not labels: give the .csv without `_noise_rules`"
        )
    if [name.strip() for name in rows[0]] == ["index", "donor_index"]:
        raise NoiseFileError(
            "this is a list of pairs of open-set noise, not labels: give the noise file with "
            "the flags"
        )
    if [name.strip() for name in rows[0]] != ["label", "label_noisy"]:
        raise NoiseFileError(
            f"the first line is {','.join(rows[0])[:80]!r}: expected label,label_noisy"
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2:
            raise NoiseFileError(
                f"line {number} has {len(row)} cells, expected label,label_noisy: damaged file"
            )
    clean = _csv_integers([row[0] for row in rows[1:]])
    second = [row[1].strip() for row in rows[1:]]
    if second and set(second) <= {"True", "False"}:
        flags = np.array([cell == "True" for cell in second])
        return make(clean, clean_labels=clean, open_set=flags, kind="open_set")
    return make(_csv_integers(second), clean_labels=clean)


def _csv_integers(cells: Sequence[str]) -> Any:
    for number, cell in enumerate(cells, start=2):
        digits = cell.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise NoiseFileError(f"line {number} has {cell[:40]!r} where a label from 0 on belongs")
    return np.array([int(cell) for cell in cells], np.int64)


def _encode_csv(noise: NoiseFile) -> bytes:
    clean = noise.clean_labels
    if clean is None:
        raise NoiseFileError(
            "a .csv needs the clean labels too: give the dataset (--dataset, --data_path)"
        )
    second: list[Any] = noise.noisy_labels.tolist()
    if noise.open_set is not None:
        if not np.array_equal(clean, noise.noisy_labels):
            raise NoiseFileError(
                "a .csv holds replaced images or wrong labels, not both: write .npz"
            )
        second = noise.open_set.tolist()
    rows = (f"{label},{value}\n" for label, value in zip(clean.tolist(), second))
    return ("label,label_noisy\n" + "".join(rows)).encode()


def _from_column(found: Columns, column: str | None, file_name: str) -> NoiseFile:
    noisy_names = [name for name in found if not name.startswith("clean")]
    if column is None and (len(noisy_names) == 1 or "noisy_label" in noisy_names):
        column = "noisy_label" if "noisy_label" in noisy_names else noisy_names[0]
    if column is None or column not in found:
        choice = ", ".join(f"{name}{_rate_text(found, name)}" for name in found) or "none at all"
        problem = "has several columns of labels" if column is None else f"has no column {column!r}"
        raise NoiseFileError(f"the file {problem}: choose {file_name}:COLUMN among {choice}")
    return _column(found, column)


def _column(found: Columns, column: str) -> NoiseFile:
    clean_name = "clean_coarse_label" if "coarse" in column else "clean_label"
    clean = None if clean_name not in found else _labels(found[clean_name])
    noisy = checked_labels(_labels(found[column]), None, name=column, error=NoiseFileError)
    return make(noisy, clean_labels=clean, kind=column)


def _rate_text(found: Columns, name: str) -> str:
    try:
        rate = _column(found, name).header.measured_rate
    except NoiseFileError:
        return " (no labels)"
    return "" if rate is None else f" ({rate:.2%} noisy)"
