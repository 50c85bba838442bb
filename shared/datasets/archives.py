"""Unpacks tar archives so that nothing is ever half there, and nothing leaves the folder.

unpack(archive, archive.parent)
"""

import gzip
import lzma
import tarfile
import tempfile
import zlib
from pathlib import Path

from shared.errors import UserError, fix_for

_CHUNK = 1 << 18


class DownloadError(UserError):
    """A file could not be downloaded or unpacked; says why, and how to bring it by hand."""


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar archive (any compression) into `folder`; returns `folder`.

    The content appears by renaming, complete or not at all. Refused (DownloadError): members that
    leave the folder, links, devices, and names that exist already.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DownloadError("unpacking safely needs Python 3.11.4 or newer")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as temporary:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter=_plain_members)
                # tarfile stops before the checksum at the very end of the compressed file
                while tar.fileobj and tar.fileobj.read(_CHUNK):
                    pass
            _move_all(Path(temporary), folder, archive)
    except tarfile.FilterError as error:
        raise DownloadError(
            f"{archive} is refused: {error}; data archives hold plain files and folders only"
        ) from error
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DownloadError(
            f"{archive} is damaged ({_first_line(error)}): delete it and download it again"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"cannot unpack {archive} into {folder} ({error.strerror or error}): {fix_for(error)}"
        ) from error
    return folder


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def _plain_members(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    # The data filter lets harmless links pass; data sets have none at all.
    if member.issym() or member.islnk():
        raise tarfile.LinkOutsideDestinationError(member, member.linkname)
    return tarfile.data_filter(member, folder)


def _move_all(source: Path, folder: Path, archive: Path) -> None:
    entries = sorted(source.iterdir())
    places = [folder / entry.name for entry in entries]
    if existing := [str(place) for place in places if place.exists()]:
        raise DownloadError(
            f"cannot unpack {archive}: {', '.join(existing)} is there already; move it away first"
        )
    for entry in entries:
        entry.rename(folder / entry.name)
