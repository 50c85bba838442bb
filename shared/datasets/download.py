"""Fetch one file, resumably and checked, and unpack archives so that nothing is ever half there.

    archive = download.fetch(url, Path("data/cifar-10-python.tar.gz"), md5="c58f...")
    download.unpack(archive, archive.parent)

Only https is spoken. DATA_MIRROR=FOLDER_OR_URL is asked first, so that machines without internet
work: a folder (or file:// address) may hold the file anywhere below it, a URL (http too, since the
checksum is the same) under the file's name relative to the data folder, or its bare name. An
interrupted download leaves `<target>.part` and resumes there. Of two processes that want a file of
one folder, the second waits.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from tqdm import tqdm

from shared.datasets.archives import DownloadError, unpack
from shared.datasets.folders import walk
from shared.errors import fix_for

if sys.platform != "win32":
    import fcntl

__all__ = ["DownloadError", "Expected", "fetch", "file_name", "unpack"]

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0  # doubled after each failed attempt
TIMEOUT_SECONDS = 30.0  # without a single byte
_CHUNK = 1 << 18
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _TransientError(Exception):
    """Worth another attempt."""


class _RefusedError(Exception):
    """This source does not give the file; another attempt would not help."""


class _UnreachableError(_RefusedError):
    """Nor would another file of the same place."""


@dataclass(frozen=True)
class Expected:
    """What a file must be; nothing given, nothing checked."""

    sha256: str | None = None  # whole, or its first digits where no more is known
    md5: str | None = None
    size: int | None = None  # bytes
    limit: int | None = None  # bytes, at most

    def problem(self, path: Path) -> str | None:
        """Why the content of `path` is not the expected file; None if it is."""
        if problem := self.too_large(path.stat().st_size):
            return problem
        if self.size is not None and path.stat().st_size != self.size:
            return f"it has {path.stat().st_size:,} bytes, expected {self.size:,}"
        for algorithm, expected in (("sha256", self.sha256), ("md5", self.md5)):
            if expected is None:
                continue
            if not (found := _digest(path, algorithm)).startswith(expected.lower()):
                return f"its {algorithm} is {found}, expected {expected.lower()}"
        return None

    def too_large(self, size: int) -> str | None:
        """Why a file of so many bytes, or of more, cannot be the expected one."""
        limit = self.limit if self.size is None else max(self.size, self.limit or 0)
        if limit is None or size <= limit:
            return None
        return f"it has {size:,} bytes or more, expected {limit:,} at most"

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
    limit: int | None = None,
    names: Sequence[str] = (),
) -> Path:
    """The file of `url` at `target`, checked; returns `target`. Does nothing when it is there.

    sha256: whole, or its first digits. limit: bytes, at most. names: what the file may be called in
    DATA_MIRROR, which is asked first, besides the bare name. Raises DownloadError when no source
    has the file or its content is not as expected.
    """
    if urlsplit(url).scheme != "https":
        raise DownloadError(
            f"{url} is not an https address; only those are fetched (DATA_MIRROR may name a "
            "local place)"
        )
    expected = Expected(sha256, md5, size, limit)
    try:
        if _is_there(url, target, expected):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target) as partial:
            if not _is_there(url, target, expected):  # unless another process was faster
                _fetch_from_any(url, (*names, file_name(url)), partial, target, expected)
    except OSError as error:
        raise DownloadError(
            f"cannot write {target} ({error.strerror or error}): {fix_for(error)}"
        ) from error
    return target


def _is_there(url: str, target: Path, expected: Expected) -> bool:
    if not target.exists():
        return False
    if problem := expected.problem(target):
        raise DownloadError(
            f"{target} is there, but is not the file of {url}: {problem}. Move it away and try "
            "again."
        )
    return True


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[Path]:
    """The part file of a target, while no other process downloads into its folder.

    A lock ends with its process. Where the file system has no locks, the part file is one of this
    process alone.
    """
    partial = target.with_name(target.name + ".part")
    own = target.with_name(f"{target.name}.{os.getpid()}.part")
    if sys.platform == "win32":
        yield own
        return
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            print(f"waiting for another download into {target.parent}", file=sys.stderr)
            fcntl.flock(folder, fcntl.LOCK_EX)
        else:
            partial = own
    try:
        yield partial
    finally:
        os.close(folder)


def _fetch_from_any(
    url: str, names: Sequence[str], partial: Path, target: Path, expected: Expected
) -> None:
    failures: list[str] = []
    unreachable: set[str] = set()
    for source in _sources(url, names):
        if urlsplit(str(source)).netloc in unreachable:
            continue
        try:
            if isinstance(source, Path):
                shutil.copyfile(_candidate(source, file_name(url), expected), partial)
            else:
                _download(source, partial, expected)
            _put_in_place(partial, target, expected)
            return
        except _RefusedError as error:
            failures.append(f"{source}: {error}")
            if isinstance(error, _UnreachableError):
                unreachable.add(urlsplit(str(source)).netloc)
    tried = "".join(f"\n  {failure}" for failure in failures)
    raise DownloadError(f"""could not get {file_name(url)}:{tried}
Try again later (a partial download is continued), or bring it by hand:
  - get {url} elsewhere and put it at {target.absolute()}
  - or set DATA_MIRROR to a folder that holds {file_name(url)}, or to a URL below which it lies""")


def file_name(url: str) -> str:
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def _sources(url: str, names: Sequence[str]) -> Iterator[str | Path]:
    mirror = os.environ.get("DATA_MIRROR")
    if mirror and mirror.startswith(("http://", "https://")):
        yield from (f"{mirror.rstrip('/')}/{quote(name)}" for name in dict.fromkeys(names))
    elif mirror and mirror.startswith("file://"):
        yield Path(url2pathname(urlsplit(mirror).path))
    elif mirror:
        yield Path(mirror).expanduser()
    yield url


# ---- from a folder


def _candidate(folder: Path, name: str, expected: Expected) -> Path:
    """The file of that name, by its checksum: file names repeat between datasets (`sym0.4.csv`)."""
    candidates = sorted(place / name for place in walk(folder) if (place / name).is_file())
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


# ---- from the net


def _download(url: str, partial: Path, expected: Expected) -> None:
    wait = FIRST_WAIT_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _download_once(url, partial, expected)
        except _TransientError as error:
            if attempt == ATTEMPTS:
                raise _UnreachableError(f"{error} ({ATTEMPTS} attempts)") from error
        time.sleep(wait)
        wait *= 2


def _download_once(url: str, partial: Path, expected: Expected) -> None:
    """Bring `partial` to the complete, checked file, resuming from what it holds."""
    have = partial.stat().st_size if partial.exists() else 0
    if have and (expected.has_checksum or expected.size) and expected.problem(partial) is None:
        return
    if expected.size is not None and have >= expected.size:
        partial.unlink(missing_ok=True)
        have = 0
    _receive(url, partial, have, expected)
    if problem := expected.problem(partial):
        partial.unlink()
        if have:
            raise _TransientError(f"what was continued is not the expected file ({problem})")
        raise _RefusedError(f"not the expected file, {problem} (deleted)")


def _receive(url: str, partial: Path, have: int, expected: Expected) -> None:
    headers = {"User-Agent": "noisy-label-reproductions", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as response:
            _save_body(response, partial, have, expected)
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
        certificate = isinstance(error.reason, ssl.SSLCertVerificationError)
        kind = _RefusedError if certificate else _TransientError
        raise kind(str(error.reason)) from error
    except (HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _TransientError(f"the connection broke ({type(error).__name__} {error})") from error


def _save_body(response: HTTPResponse, partial: Path, have: int, expected: Expected) -> None:
    if response.status != 206:
        have = 0  # the server does not know Range and sends everything
    elif _content_range(response.headers, r"bytes (\d+)-") != have:
        partial.unlink()
        raise _TransientError("the server sent another range than asked for, starting again")
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else expected.size
    bar = tqdm(
        total=total, initial=have, desc=partial.stem, unit="B", unit_scale=True, disable=None
    )
    with partial.open("ab" if have else "wb") as file, bar:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
            have += len(chunk)
            if expected.too_large(have):
                return  # the check that follows refuses it
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


def _put_in_place(partial: Path, target: Path, expected: Expected) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, target)
    if problem := expected.problem(target):  # the disk is no less fallible than the network
        target.unlink()
        raise _RefusedError(f"the file changed on its way into place: {problem} (deleted)")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
