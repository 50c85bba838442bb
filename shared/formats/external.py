"""Reads and writes the noise files of other projects; `read_any` takes them all, and ours.

    read_any("0.5_instance.pt")  read_any("sym0.4.csv")  read_any("CIFAR-10_human.pt:worse_label")
    write_any("sym0.4.csv", noise)

| file | what is in it | from |
|---|---|---|
| .npz | everything (`shared.formats.noise_file`) | this repository |
| .pt | an array, tensor or list of labels | InstanceGM, `torch.save` |
| .pt, .npz, .npy, .pkl, .json of columns | clean and noisy labels, and more | CIFAR-N |
| .csv, .txt | `label,label_noisy` and others (`shared.formats.text_table`) | SLN, re-sln |
| .npy | labels | PLC, LRA-diffusion |
| .json, .pkl | a list of labels, or `[labels, indices]` | DivideMix |
| .json, .csv | reviewed labels (`shared.formats.label_studio`) | Label Studio |

Where several columns may be meant, choose one with `:column`. 45,000 labels without a word about
their samples are taken for those of the first 45,000 images, as PLC and LRA-diffusion have them.
The content decides about the format, not the name. Nothing is executed, and every failure is a
NoiseFileError that names the file. Letters: N labels.
"""

import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.coco.file import is_annotations
from shared.files import write_atomically
from shared.formats import (
    column_names,
    label_studio,
    noise_file,
    safe_arrays,
    safe_pickle,
    text_table,
    torch_file,
)
from shared.formats import columns as column_reader
from shared.formats.columns import SINGLE, Column, Table
from shared.formats.noise_file import NoiseFile, NoiseFileError, check_rows, make
from shared.formats.safe_arrays import Archive, TooLargeError, UnsafeArrayError
from shared.formats.safe_pickle import UnsafePickleError

FORMATS = ("npz", "pt", "csv", "npy", "json")
OPEN_SET_FORMATS = ("npz", "csv")  # can say which images are replaced
# PLC and LRA-diffusion label the first 45,000 of CIFAR's 50,000 training images.
PMD_SAMPLES = 45_000
# Where CIFAR-N's labels in TensorFlow's order lie, and what maps them to torchvision's
ORDER_FILES = {50_000: ("image_order_c10.npy", "image_order_c100.npy")}
_MOST_SHOWN = 20  # of the columns, in a message
_UNREADABLE = (NoiseFileError, UnsafeArrayError, UnsafePickleError)


def read_any(path: str | Path, column: str | None = None) -> NoiseFile:
    """Read a noise file of any known format; raises NoiseFileError.

    column: which labels of a file with several, also given as `file:column`. The clean labels come
    from the file's clean column, where it has one. Unknown header fields are None.
    """
    path, column = split_column(path, column)
    found = _parsed(path)
    try:
        if isinstance(found, NoiseFile) or SINGLE in found.columns:
            if column is not None:
                raise NoiseFileError(f"the file has no columns, so leave out the column {column}")
            return found if isinstance(found, NoiseFile) else _noise_file(found, SINGLE, path)
        return _noise_file(found, _choose(found, column, path.name), path)
    except _UNREADABLE as error:
        raise NoiseFileError(f"{path}: {error}") from error


def columns(path: str | Path) -> list[str]:
    """The names of the label columns of a file that has names; empty for other files."""
    found = _parsed(Path(path))
    if isinstance(found, NoiseFile) or SINGLE in found.columns:
        return []
    return list(_listed(found, f"{path}: the file"))


def default_column(path: str | Path) -> str | None:
    """The column that `read_any` takes when none is named; None where it would ask."""
    found = _parsed(Path(path))
    return None if isinstance(found, NoiseFile) else _usual(found)


def rates(path: str | Path) -> dict[str, float | None]:
    """The measured rate of each column that can be read as labels; None without clean labels."""
    found = _parsed(Path(path))
    if isinstance(found, NoiseFile):
        return {}
    known = {}
    for name in _label_columns(found):
        try:
            known[name] = _noise_file(found, name).header.measured_rate
        except TooLargeError as error:
            raise NoiseFileError(f"{path}: {error}") from error
        except _UNREADABLE:
            continue
    return known


def split_column(path: str | Path, column: str | None = None) -> tuple[Path, str | None]:
    """`file:column` as (file, column), unless a file has that very name."""
    name, colon, suffix = str(path).rpartition(":")
    if colon and column is None and not Path(path).exists() and Path(name).exists():
        return Path(name), suffix
    return Path(path), column


# ---- from bytes to columns


def _parsed(path: Path) -> NoiseFile | Table:
    data = noise_file.read_bytes(path)
    try:
        found = _parse(data)
        return found if isinstance(found, NoiseFile) else _with_indices(found)
    except _UNREADABLE as error:
        raise NoiseFileError(f"{path}: {error}") from error


def _with_indices(table: Table) -> Table:
    """The same without the column, if there is one, that says which samples the others are of."""
    names = [name for name in table.columns if column_names.is_index(name)]
    if table.is_text or table.indices is not None or len(names) != 1 or len(table.columns) < 2:
        return table
    rest = {name: column for name, column in table.columns.items() if name != names[0]}
    rows = column_reader.labels(table.columns[names[0]].read(), names[0])
    return replace(table, columns=rest, indices=rows)


def _parse(data: bytes) -> NoiseFile | Table:
    """Find the format by the first bytes and read it."""
    if data.startswith(b"PK"):
        return _parse_zip(data)
    if data.startswith(b"\x93NUMPY"):
        return _parse_npy(data)
    if torch_file.is_legacy(data):
        return column_reader.of_value(torch_file.load(data))
    if data.startswith(b"\x80"):
        return column_reader.of_value(safe_pickle.loads(data, object_arrays=True))
    text = text_table.of_bytes(data)
    if text.lstrip().startswith(("[", "{")):
        value = _parse_json(text)
        if label_studio.is_export(value):
            return label_studio.of_export(value)
        return column_reader.of_value(value)
    if label_studio.is_csv(text):
        return label_studio.of_csv(text)
    if text and text_table.looks_like(text):
        return text_table.parse(text)
    raise NoiseFileError(
        f"this is not a noise file of a known format: .{', .'.join(FORMATS)} files, pickles of "
        "protocol 2 or later and lists of labels are read, text in UTF-8 or UTF-16"
    )


def _parse_zip(data: bytes) -> NoiseFile | Table:
    archive = Archive(data)
    if torch_file.is_torch_zip(archive.names):
        return column_reader.of_value(torch_file.load(data))
    if {"header.npy", "noisy_labels.npy"} <= set(archive.names):
        return noise_file.decode(data)
    arrays = [name for name in archive.names if name.endswith(".npy")]
    if not arrays or len(arrays) < len(archive.names):
        raise NoiseFileError("this zip archive is neither an .npz nor a torch file of labels")
    return Table({name.removesuffix(".npy"): _member(archive, name) for name in arrays})


def _member(archive: Archive, name: str) -> Column:
    return Column(lambda: archive.array(name), archive.looks_like_labels(name))


def _parse_npy(data: bytes) -> Table:
    _, _, dtype, start = safe_arrays.npy_header(data)
    if dtype.kind != "O":
        return column_reader.of_value(safe_arrays.parse_npy(data))
    table = column_reader.of_value(safe_pickle.loads(data[start:], object_arrays=True))
    return table if SINGLE in table.columns else replace(table, order="tensorflow")


def _parse_json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoiseFileError(f"the file looks like JSON but is none ({error})") from error
    if is_annotations(value):
        raise NoiseFileError(
            f"a JSON object with {str(sorted(value)[:5])[:80]} is COCO annotations, which are for "
            "`noise make --format coco`, `noise info` and `noise compare`"
        )
    return value


# ---- from columns to a noise file


def _choose(table: Table, column: str | None, file_name: str) -> str:
    """The column that is meant; raises NoiseFileError, with the choice there is."""
    if column is not None and column in table.columns:
        return column
    if column is None and (usual := _usual(table)) is not None:
        return usual
    found = _listed(table, "the file")
    if column is None and len(found) == 1:  # of clean labels
        found = dict(table.columns)
    shown = [f"{name[:40]}{_rate_text(table, name)}" for name in list(found)[:_MOST_SHOWN]]
    more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    choice = f"choose {file_name}:COLUMN among {', '.join(shown)}{more}"
    if column is not None:
        raise NoiseFileError(f"the file has no column {column[:40]!r}: {choice}")
    raise NoiseFileError(f"the file has several columns of labels: {choice}")


def _usual(table: Table) -> str | None:
    """The only column of noisy labels, or the only one with a usual name."""
    clean = set(_clean_names(table))
    noisy = [name for name in _label_columns(table) if name not in clean]
    # Where the clean labels alone can be read, the noisy ones say what is wrong with them.
    usual = column_names.noisy(noisy or (name for name in table.columns if name not in clean))
    return next((names[0] for names in (noisy, usual) if len(names) == 1), None)


def _label_columns(table: Table) -> dict[str, Column]:
    """The columns that look like labels; all of them where none does, for a message about one."""
    found = {
        name: column
        for name, column in table.columns.items()
        if column.is_labels and (column.kind or not column_names.is_other(name))
    }
    return found or dict(table.columns)


def _listed(table: Table, file: str) -> dict[str, Column]:
    """The same to choose from; raises NoiseFileError where nobody could."""
    found = _label_columns(table)
    if len(found) > safe_arrays.MAX_MEMBERS:
        raise NoiseFileError(
            f"{file} has {len(found):,} columns ({', '.join(list(found)[:3])[:60]}, ...): give one "
            "as FILE:COLUMN or, if each is a sample, the labels as one list in the dataset's order"
        )
    return found


def _clean_names(table: Table, *chosen: str) -> list[str]:
    """The columns of clean labels, if there are others that may be meant, or are."""
    names = _label_columns(table)
    clean = column_names.clean(names)
    if any(map(column_names.is_surely_clean, clean)):
        return clean if len(clean) < len(table.columns) else []
    others = {*names, *column_names.noisy(table.columns), *chosen}
    return clean if len(clean) < len(others) else []


def _clean_column(table: Table, chosen: str) -> Column | None:
    """The column of the clean labels for the chosen ones."""
    clean = [
        name for name in _clean_names(table, chosen) if ("coarse" in name) == ("coarse" in chosen)
    ]
    first = chosen if chosen in clean else next(iter(clean), None)
    return None if first is None else table.columns[first]


def _noise_file(table: Table, chosen: str, path: Path | None = None) -> NoiseFile:
    column = table.columns[chosen]
    values = column.read()
    others = None if chosen == SINGLE else _clean_column(table, chosen)
    clean = None if others is None else column_reader.labels(others.read(), "the clean column")
    if column.rows is not None:
        clean = None if clean is None else clean[column.rows]
        table = table.part(column.rows)
    if isinstance(values, np.ndarray) and values.dtype == np.bool_ and table.is_text:
        if clean is None:
            raise NoiseFileError(f"column {chosen} has flags, but there is no column of labels")
        noise = make(clean, clean_labels=clean, open_set=values, kind="open_set")
    else:
        noisy = column_reader.labels(values, chosen or "labels")
        kind = column.kind or (None if table.is_text or chosen == SINGLE else chosen)
        noise = make(noisy, clean_labels=clean, kind=kind)
    return _placed(noise, table, path)


def _placed(noise: NoiseFile, table: Table, path: Path | None) -> NoiseFile:
    """The same labels with what is known or assumed about the samples they belong to."""
    if table.names is not None or table.indices is not None:
        return replace(noise, names=table.names, indices=table.indices)
    if (
        table.order
        and path is not None
        and (order := _image_order(path, len(noise.noisy_labels))) is not None
    ):
        return replace(noise, indices=order, order=table.order)
    if len(noise.noisy_labels) == PMD_SAMPLES:
        return replace(noise, indices=np.arange(PMD_SAMPLES), order="assumed")
    return replace(noise, order=table.order or "assumed")


def _image_order(path: Path, count: int) -> NDArray[np.int64] | None:
    """CIFAR-N's index file beside a file in TensorFlow's order, or one level up."""
    for folder in (path.parent, path.parent.parent):
        for name in ORDER_FILES.get(count, ()):
            if (folder / name).is_file() and ("100" in name) == ("100" in path.name):
                order = safe_arrays.parse_npy(safe_arrays.read_limited(folder / name))
                return column_reader.labels(order, name)
    return None


def _rate_text(table: Table, name: str) -> str:
    try:
        rate = _noise_file(table, name).header.measured_rate
    except TooLargeError:
        raise
    except _UNREADABLE:
        return " (no labels)"
    return "" if rate is None else f" ({rate:.2%} noisy)"


# ---- writing


def write_any(path: str | Path, noise: NoiseFile) -> None:
    """Write in the format named by the path's ending, all or nothing.

    Raises NoiseFileError when the format cannot hold what using the labels needs (which samples,
    which are replaced).
    """
    write_atomically(path, encode_any(noise, format_of(path)))


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
    if noise.names is not None:
        raise NoiseFileError(
            "the labels belong to files by name: give their dataset (--dataset, --data_path)"
        )
    check_rows(noise)
    if format == "npz":
        return noise_file.encode(noise)
    if noise.indices is not None and not np.array_equal(noise.indices, np.arange(PMD_SAMPLES)):
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


def _encode_csv(noise: NoiseFile) -> bytes:
    clean = noise.clean_labels
    if clean is None:
        raise NoiseFileError(
            "a .csv needs the clean labels too: give the dataset (--dataset, --data_path)"
        )
    second: Iterable[Any] = noise.noisy_labels.tolist()
    if noise.open_set is not None:
        if not np.array_equal(clean, noise.noisy_labels):
            raise NoiseFileError(
                "a .csv holds replaced images or wrong labels, not both: write .npz"
            )
        second = noise.open_set.tolist()
    rows = (f"{label},{value}\n" for label, value in zip(clean.tolist(), second))
    return ("label,label_noisy\n" + "".join(rows)).encode()
