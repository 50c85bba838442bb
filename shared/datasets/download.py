"""Fetch one file, resumably and checked, and unpack archives so that nothing is ever half there.

    archive = download.fetch(url, Path("data/cifar-10-python.tar.gz"), md5="c58f...")
    download.unpack(archive, archive.parent)

Only https is spoken. DATA_MIRROR=FOLDER_OR_URL is asked first, by file name, so that machines
without internet work: a folder may hold the file anywhere below it, a URL (http too, since the
checksum is the same) directly below it. An interrupted download leaves `<target>.part` and goes on
from there.
"""

import gzip
import hashlib
import os
import re
import shutil
import ssl
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote, urlsplit

from tqdm import tqdm

from shared.errors import UserError

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0  # doubled after each failed attempt
TIMEOUT_SECONDS = 30.0  # without a single byte
_CHUNK = 1 << 18
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(UserError):
    """A file could not be had or unpacked; the message says why and how to bring it by hand."""


class _TransientError(Exception):
    """Worth another attempt."""


class _RefusedError(Exception):
    """This source does not give the file; another attempt would not help."""


@dataclass(frozen=True)
class Expected:
    """What a file must be; nothing given, nothing checked."""

    sha256: str | None = None
    md5: str | None = None
    size: int | None = None  # bytes

    def problem(self, path: Path) -> str | None:
        """Why the content of `path` is not the expected file; None if it is."""
        if self.size is not None and path.stat().st_size != self.size:
            return f"it has {path.stat().st_size:,} bytes, expected {self.size:,}"
        for algorithm, expected in (("sha256", self.sha256), ("md5", self.md5)):
            if expected is not None and (found := _digest(path, algorithm)) != expected.lower():
                return f"its {algorithm} is {found}, expected {expected.lower()}"
        return None

    @property
    def has_checksum(self) -> bool:
        return self.sha256 is not None or self.md5 is not None


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
) -> Path:
    """The file of `url` at `target`, checked; returns `target`.

    Does nothing when it is there already.

    DATA_MIRROR is asked first. Raises DownloadError when no source has the file or its content is
    not as expected.
    """
    if urlsplit(url).scheme != "https":
        raise DownloadError(
            f"{url} is not an https address; only those are fetched (DATA_MIRROR may name a "
            "local place)"
        )
    expected = Expected(sha256, md5, size)
    if target.exists():
        if problem := expected.problem(target):
            raise DownloadError(
                f"{target} is there, but is not the file of {url}: {problem}. Move it away and "
                "try again."
            )
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_from_any(url, target, expected)
    except OSError as error:
        raise DownloadError(
            f"cannot write {target}: {error}; free some space or choose another place"
        ) from error
    return target


def _fetch_from_any(url: str, target: Path, expected: Expected) -> None:
    failures: list[str] = []
    for source in _sources(url):
        try:
            if isinstance(source, Path):
                _copy_from_folder(source, file_name(url), target, expected)
            else:
                _download(source, target, expected)
            return
        except _RefusedError as error:
            failures.append(f"{source}: {error}")
    tried = "".join(f"\n  {failure}" for failure in failures)
    raise DownloadError(f"""could not get {file_name(url)}:{tried}
Try again later (a partial download is continued), or bring it by hand:
  - get {url} elsewhere and put it at {target.absolute()}
  - or set DATA_MIRROR to a folder that holds {file_name(url)}, or to a URL below which it lies""")


def file_name(url: str) -> str:
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def _sources(url: str) -> Iterator[str | Path]:
    mirror = os.environ.get("DATA_MIRROR")
    if mirror and mirror.startswith(("http://", "https://")):
        yield f"{mirror.rstrip('/')}/{quote(file_name(url))}"
    elif mirror:
        yield Path(mirror).expanduser()
    yield url


# ---- from a folder


def _candidate(folder: Path, name: str, expected: Expected) -> Path:
    """The file of that name, by its checksum: file names repeat between datasets (`sym0.4.csv`)."""
    candidates = sorted(Path(place, name) for place, _, files in os.walk(folder) if name in files)
    if len(candidates) > 1 and not expected.has_checksum:
        raise _RefusedError(
            f"{len(candidates)} files named {name}, and no checksum to tell which one is meant"
        )
    problems: list[str] = []
    for candidate in candidates:
        problem = expected.problem(candidate)
        if problem is None:
            return candidate
        problems.append(f"{candidate} is another file: {problem}")
    raise _RefusedError(
        "; ".join(problems) or ("no " + name if folder.is_dir() else "no such folder (DATA_MIRROR)")
    )


def _copy_from_folder(folder: Path, name: str, target: Path, expected: Expected) -> None:
    partial = _partial(target)
    shutil.copyfile(_candidate(folder, name, expected), partial)
    _put_in_place(partial, target)


# ---- from the net


def _download(url: str, target: Path, expected: Expected) -> None:
    wait = FIRST_WAIT_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _download_once(url, _partial(target), expected)
            break
        except _TransientError as error:
            if attempt == ATTEMPTS:
                raise _RefusedError(f"{error} ({ATTEMPTS} attempts)") from error
        time.sleep(wait)
        wait *= 2
    _put_in_place(_partial(target), target)


def _download_once(url: str, partial: Path, expected: Expected) -> None:
    """Bring `partial` to the complete, checked file, going on from what it holds."""
    have = partial.stat().st_size if partial.exists() else 0
    if have and (expected.has_checksum or expected.size) and expected.problem(partial) is None:
        return
    if expected.size is not None and have >= expected.size:
        partial.unlink(missing_ok=True)
        have = 0
    _receive(url, partial, have, expected.size)
    if problem := expected.problem(partial):
        partial.unlink()
        if have:
            raise _TransientError(f"what was continued is not the expected file ({problem})")
        raise _RefusedError(f"not the expected file, {problem} (deleted)")


def _receive(url: str, partial: Path, have: int, size: int | None) -> None:
    headers = {"User-Agent": "noisy-label-reproductions", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with _OPENER.open(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        ) as response:
            _save_body(response, partial, have, size)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # there is nothing after what we have
            if _content_range(error.headers, r"bytes \*/(\d+)") == have:
                return
            partial.unlink()
            raise _TransientError(
                "the partial file was longer than the file, starting again"
            ) from error
        kind = _TransientError if error.code in _TRANSIENT_STATUS else _RefusedError
        raise kind(f"HTTP status {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        kind = (
            _RefusedError
            if isinstance(error.reason, ssl.SSLCertVerificationError)
            else _TransientError
        )
        raise kind(str(error.reason)) from error
    except (HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _TransientError(f"the connection broke ({type(error).__name__} {error})") from error


def _save_body(response: HTTPResponse, partial: Path, have: int, size: int | None) -> None:
    if response.status != 206:
        have = 0  # the server does not know Range and sends everything
    elif _content_range(response.headers, r"bytes (\d+)-") != have:
        partial.unlink()
        raise _TransientError("the server sent another range than asked for, starting again")
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else size
    with (
        partial.open("ab" if have else "wb") as file,
        tqdm(
            total=total, initial=have, desc=partial.stem, unit="B", unit_scale=True, disable=None
        ) as bar,
    ):
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
            have += len(chunk)
            if size is not None and have > size:
                return  # the size check that follows refuses it
    if length.isdigit() and total is not None and have < total:
        raise _TransientError(f"the connection ended after {have:,} of {total:,} bytes")


def _content_range(headers: Message, pattern: str) -> int | None:
    match = re.match(pattern, headers.get("Content-Range", ""))
    return int(match[1]) if match else None


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """A redirect may not leave https (or, from an http mirror, http)."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in {"https", req.type}:
            raise urllib.error.HTTPError(newurl, code, "redirected away from https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_NoDowngrade)


# ---- files


def _partial(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _put_in_place(partial: Path, target: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, target)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


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
                while tar.fileobj and tar.fileobj.read(_CHUNK):
                    pass  # tarfile stops before the checksum at the very end of the compressed file
            _move_all(Path(temporary), folder, archive)
    except tarfile.FilterError as error:
        raise DownloadError(
            f"{archive} is refused: {error}; data archives hold plain files and folders only"
        ) from error
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DownloadError(
            f"{archive} is damaged ({_first_line(error)}): delete it and download it again"
        ) from error
    except OSError as error:
        raise DownloadError(f"cannot unpack {archive} into {folder}: {error}") from error
    return folder


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def _plain_members(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    if (
        member.issym() or member.islnk()
    ):  # the data filter lets harmless links pass; data sets have none at all
        raise tarfile.LinkOutsideDestinationError(member, member.linkname)
    return tarfile.data_filter(member, folder)


def _move_all(source: Path, folder: Path, archive: Path) -> None:
    entries = sorted(source.iterdir())
    if existing := [
        str(folder / entry.name) for entry in entries if (folder / entry.name).exists()
    ]:
        raise DownloadError(
            f"cannot unpack {archive}: {', '.join(existing)} is there already; move it away first"
        )
    for entry in entries:
        entry.rename(folder / entry.name)
