"""Downloads from a local server: resumed, checked, mirrored; archives unpacked whole or not."""

import hashlib
import http.server
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from shared.datasets import download
from shared.datasets.download import DownloadError, fetch

CONTENT = np.random.default_rng(0).bytes(1_200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
NOWHERE = "https://127.0.0.1:1/some/data.bin"  # nobody listens there
REPOSITORY = Path(__file__).resolve().parents[2]


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT for every path; `faults` is what goes wrong, once each, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = True
        self.faults: list[str] = []
        self.requests: list[str | None] = []  # the Range headers
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
        elif fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("to "))
            self.end_headers()
        else:
            self.send_content(wanted, fault)

    def send_content(self, wanted: str | None, fault: str) -> None:
        start = (
            int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.ranges else 0
        )
        if start and start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = bytearray(CONTENT[start:])
        if fault == "garbage":
            body[:4] = b"...."
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "hang":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server.release.wait(20)
        else:
            self.wfile.write(body[: len(body) // 2] if fault == "break" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(
            target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        yield running
        running.release.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DATA_MIRROR", raising=False)


@pytest.fixture
def mirror(server, monkeypatch):
    monkeypatch.setenv("DATA_MIRROR", server.url)
    return server


def test_a_mirror_url_is_asked_by_file_name(mirror, tmp_path):
    target = fetch(
        NOWHERE, tmp_path / "new" / "data.bin", sha256=SHA256, md5=MD5, size=len(CONTENT)
    )
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["data.bin"]


def test_a_file_that_is_there_is_not_fetched_again(mirror, tmp_path):
    for _ in range(2):
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)
    assert mirror.requests == [None]


def test_another_file_in_its_place_is_never_overwritten(mirror, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"precious")
    with pytest.raises(DownloadError, match=r"(?s)data\.bin is there.*Move it away"):
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)
    assert (tmp_path / "data.bin").read_bytes() == b"precious"


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_broken_connection_is_continued(mirror, tmp_path, ranges, size):
    mirror.faults, mirror.ranges = ["break", "503", ""], ranges
    fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256, size=size)
    assert mirror.requests == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) // 2}-"]


@pytest.mark.parametrize(
    ("partial", "checksum"),
    [
        (CONTENT[:1000], SHA256),
        (CONTENT[:1000], None),
        (CONTENT, SHA256),
        (CONTENT, None),
        (CONTENT + b"too long", SHA256),
        (CONTENT + b"too long", None),
        (b"wrong" * 100, SHA256),
    ],
    ids=["begun", "begun, no sum", "complete", "complete, no sum", "long", "long, no sum", "wrong"],
)
def test_a_partial_file_is_used_when_it_can_be(mirror, tmp_path, partial, checksum):
    (tmp_path / "data.bin.part").write_bytes(partial)
    assert fetch(NOWHERE, tmp_path / "data.bin", sha256=checksum).read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["data.bin"]


def test_a_killed_download_goes_on_where_it_was(mirror, tmp_path):
    mirror.faults = ["hang"]
    partial = tmp_path / "data.bin.part"
    code = (
        "from pathlib import Path; from shared.datasets import download; "
        f"download.fetch({NOWHERE!r}, Path('data.bin'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    deadline = time.monotonic() + 20
    while (
        not (partial.exists() and partial.stat().st_size > 100_000) and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = partial.stat().st_size
    assert 0 < have < len(CONTENT)
    assert fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256).read_bytes() == CONTENT
    assert mirror.requests[-1] == f"bytes={have}-"


@pytest.mark.parametrize(
    "wrong", [{"sha256": "0" * 64}, {"md5": "0" * 32}, {"size": 5}, {"size": len(CONTENT) + 1}]
)
def test_wrong_content_is_deleted_and_both_sums_are_told(mirror, tmp_path, wrong):
    with pytest.raises(DownloadError) as caught:
        fetch(NOWHERE, tmp_path / "data.bin", **wrong)
    value = next(iter(wrong.values()))
    assert (f"expected {value:,}" if "size" in wrong else f"expected {value}") in str(caught.value)
    assert {"sha256": SHA256, "md5": MD5, "size": "bytes"}[next(iter(wrong))] in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_garbage_in_a_continued_file_starts_afresh(mirror, tmp_path):
    mirror.faults = ["break", "garbage"]
    assert fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256).read_bytes() == CONTENT
    assert mirror.requests[-1] is None


def test_what_is_not_there_is_not_asked_twice_and_the_advice_is_complete(mirror, tmp_path):
    mirror.faults = ["404"]
    with pytest.raises(DownloadError) as caught:
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)
    assert mirror.requests == [None]
    target = str(tmp_path / "data.bin")
    for part in (f"{mirror.url}/data.bin", "404", NOWHERE, target, "DATA_MIRROR", "attempts"):
        assert part in str(caught.value)


def test_a_server_that_stays_broken_is_given_up(mirror, tmp_path):
    mirror.faults = ["500"] * 20
    with pytest.raises(DownloadError, match=f"500.*{download.ATTEMPTS} attempts"):
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)
    assert len(mirror.requests) == download.ATTEMPTS
    with pytest.raises(DownloadError, match="500"):  # nor is it asked by another name
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256, names=("a/data.bin",))
    assert len(mirror.requests) == 2 * download.ATTEMPTS


@pytest.mark.parametrize(
    "url",
    ["http://example.org/data.bin", "file:///etc/passwd", "ftp://example.org/data.bin", "data.bin"],
)
def test_only_https_is_fetched(url, tmp_path):
    with pytest.raises(DownloadError, match="https"):
        fetch(url, tmp_path / "data.bin")


def test_a_redirect_may_not_leave_https(mirror, tmp_path):
    for place in ("ftp://127.0.0.1/data.bin", "file:///etc/passwd"):
        mirror.faults = [f"to {place}"]
        with pytest.raises(DownloadError):
            fetch(NOWHERE, tmp_path / "data.bin")
    handler, https = download._NoDowngrade(), urllib.request.Request(NOWHERE)
    with pytest.raises(urllib.error.HTTPError, match="away from https"):
        handler.redirect_request(https, io.BytesIO(), 302, "", {}, "http://127.0.0.1/data.bin")
    assert handler.redirect_request(https, io.BytesIO(), 302, "", {}, "https://127.0.0.1/other")
    mirror.faults = [f"to {mirror.url}/elsewhere"]
    assert fetch(NOWHERE, tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_place_that_cannot_be_written_is_named(mirror, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot write"):
        fetch(NOWHERE, tmp_path / "file" / "data.bin")


def test_a_file_that_vanishes_is_no_lack_of_space(mirror, tmp_path, monkeypatch):
    def vanished(*_):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(download, "_put_in_place", vanished)
    with pytest.raises(DownloadError) as caught:
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)
    assert "free" not in str(caught.value)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_put_in_place", full)
    with pytest.raises(DownloadError, match=r"data\.bin \(No space left.*free some space"):
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)


# ---- two at once


def test_of_two_downloads_the_second_waits_and_takes_the_file(mirror, tmp_path):
    mirror.faults = ["hang"]
    code = (
        "import sys; from pathlib import Path; from shared.datasets import download; "
        f"download.fetch({NOWHERE!r}, Path('data.bin'), sha256={SHA256!r})"
    )

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE,
            text=True,
        )

    first = start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "data.bin.part").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    second = start()
    assert "waiting for another download" in second.stderr.readline()
    mirror.release.set()
    assert (first.wait(30), second.wait(30)) == (0, 0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["data.bin"]
    assert len(mirror.requests) == 2, "one broken off and resumed, and none of the second process"


def test_without_locks_each_process_has_its_own_part_file(mirror, tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(download.fcntl, "flock", no_locks)
    (tmp_path / "data.bin.part").write_bytes(b"of another process")
    assert fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256).read_bytes() == CONTENT
    assert (tmp_path / "data.bin.part").read_bytes() == b"of another process"


def test_the_file_is_checked_again_in_its_place(mirror, tmp_path, monkeypatch):
    replace = os.replace

    def corrupting(source, target):
        replace(source, target)
        Path(target).write_bytes(b"corrupt")

    monkeypatch.setattr(download.os, "replace", corrupting)
    with pytest.raises(DownloadError, match="changed on its way into place"):
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)
    assert not (tmp_path / "data.bin").exists()


# ---- what is asked, and how much is taken


def test_a_mirror_is_asked_for_the_whole_name_first(mirror, tmp_path):
    paths = []
    get = Handler.do_GET

    def watched(handler):
        paths.append(handler.path)
        get(handler)

    mirror.RequestHandlerClass = type("Watched", (Handler,), {"do_GET": watched})
    mirror.faults = ["404", "404"]
    names = ("label_noisy/sln/a b.csv", "sln/a b.csv")
    fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256, names=names)
    assert paths == ["/label_noisy/sln/a%20b.csv", "/sln/a%20b.csv", "/data.bin"]


def test_a_mirror_may_be_a_file_address_or_behind_a_link(tmp_path, monkeypatch):
    (tmp_path / "outside/a b").mkdir(parents=True)
    (tmp_path / "outside/a b/data.bin").write_bytes(CONTENT)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/link").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "outside/circle").symlink_to(tmp_path / "mirror", target_is_directory=True)
    for number, place in enumerate(((tmp_path / "outside/a b").as_uri(), tmp_path / "mirror")):
        monkeypatch.setenv("DATA_MIRROR", str(place))
        fetch(NOWHERE, tmp_path / str(number) / "data.bin", sha256=SHA256)


def test_no_more_is_taken_than_the_limit(mirror, tmp_path, monkeypatch):
    with pytest.raises(
        DownloadError, match="it has 524,288 bytes or more, expected 500,000 at most"
    ):
        fetch(NOWHERE, tmp_path / "data.bin", limit=500_000)  # two pieces, not all of CONTENT
    assert os.listdir(tmp_path) == []
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/data.bin").write_bytes(CONTENT)
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(DownloadError, match="expected 500,000 at most"):
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256, limit=500_000)


# ---- a mirror folder


def test_a_mirror_folder_is_searched_by_name_and_checksum(tmp_path, monkeypatch):
    for place, content in (("a", b"other"), ("b/deep/er", CONTENT), ("c", b"third")):
        (tmp_path / "mirror" / place).mkdir(parents=True)
        (tmp_path / "mirror" / place / "data.bin").write_bytes(content)
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    assert fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="3 files named"):  # and no checksum
        fetch(NOWHERE, tmp_path / "unchecked.bin")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no data.bin"), (b"other", "another file: its sha256 is")]
)
def test_a_mirror_folder_without_the_file_is_told(tmp_path, monkeypatch, content, message):
    (tmp_path / "mirror").mkdir()
    if content:
        (tmp_path / "mirror" / "data.bin").write_bytes(content)
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(DownloadError, match=message):
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)


def test_a_mirror_folder_that_does_not_exist_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "nothing"))
    with pytest.raises(DownloadError, match="no such folder"):
        fetch(NOWHERE, tmp_path / "data.bin", sha256=SHA256)
