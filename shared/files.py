"""What writing files safely and recognising data takes, in every project."""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write to a temporary file in the same folder (made if missing), flush it to the disk and
    rename it.

    A crash at any moment leaves the old file or the new one, never a part. An OSError names `path`.
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
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def array_hash(*arrays: NDArray[Any]) -> str:
    """SHA-256 of the arrays with their shapes and dtypes, as hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files that a kill inside `write_atomically` left in the folder."""
    for unfinished in folder.glob(".*.tmp"):
        unfinished.unlink(missing_ok=True)
