"""What writing files safely and recognising data takes, in every project."""

import hashlib
import os
import secrets
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import UserError, fix_for


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file, all or nothing; its folder is made if missing.

    A temporary file in the same folder is flushed to the disk and renamed, so that a crash at any
    moment leaves the old file or the new one, never a part. An OSError names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def must_write(path: Path, content: bytes, force: bool) -> bool:
    """Whether the file has to be written: not if it has this content already.

    Raises UserError if it has another content, unless `force`, or is no file.
    """
    if not path.exists():
        return True
    if not path.is_file():
        raise UserError(f"{path} is not a file: choose another name")
    if path.stat().st_size == len(content) and path.read_bytes() == content:
        return False
    if not force:
        raise UserError(
            f"{path} exists with other content: choose another name, or overwrite it with --force"
        )
    return True


def save(path: Path, content: bytes, flag: str = "") -> None:
    """write_atomically, with a UserError that names the file (not the temporary one) and the fix.

    flag: what the user named the file with, such as --out.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(
            f"cannot write {f'{flag} ' if flag else ''}{path} ({error.strerror or error}): "
            f"{fix_for(error)}"
        ) from error


def array_hash(*arrays: NDArray[Any]) -> str:
    """SHA-256 of the arrays with their shapes and dtypes, as hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_archive(path: Path) -> None:
    """Raises BadZipFile where a zip archive does not fit its checksums; other files are let pass.

    Of files by torch.save, whose torch.load does not look at them.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} does not fit its checksum")


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that a kill in the middle of `write_atomically` left in the folder."""
    for unfinished in folder.glob(".*.tmp"):
        unfinished.unlink(missing_ok=True)
