"""A download that is cut at a random byte: continued or refused, and never taken for the file.

A server on this machine ends the connection after a random number of bytes, knowing ranges or not,
saying the length or not; or the process that downloads is killed there. The file has a checksum, as
all of `python -m shared data` have. What comes then is a second call, from a server that is whole.
"""

import contextlib
import hashlib
import http.server
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import cycle, islice, product
from pathlib import Path

from shared.datasets import download
from tests.proof.projects import ROOT
from tests.proof.report import Row

SIZE = 1_500_000
CONTENT = random.Random(0).randbytes(SIZE)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ADDRESS = "https://127.0.0.1:1/some/data.bin"  # nobody listens there: DATA_MIRROR is the server
PATIENCE = 60.0
CUTS = ("once", "always", "killed")  # the connection; or the process, while the server waits


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT for every path, up to byte `cut` of it, where that is not None."""

    daemon_threads = True

    def __init__(self, ranges: bool, length: bool, cut: int, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges, self.length, self.kind = ranges, length, kind
        self.cut: int | None = cut
        self.sent, self.killed = threading.Event(), threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(wanted[1]) if wanted and self.server.ranges else 0
        if begin >= SIZE:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{SIZE}")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{SIZE - 1}/{SIZE}")
        if self.server.length:
            self.send_header("Content-Length", str(SIZE - begin))
        self.end_headers()
        cut = self.server.cut
        if self.server.kind == "once":
            self.server.cut = None
        with contextlib.suppress(OSError):  # the reader may be gone
            self.wfile.write(CONTENT[begin : SIZE if cut is None else max(begin, cut)])
            if cut is not None and self.server.kind == "killed":
                self.server.sent.set()
                self.server.killed.wait(PATIENCE)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(server: Server) -> Iterator[None]:
    """The server in a thread, as DATA_MIRROR; no waiting between attempts."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    before, wait = dict(os.environ), download.FIRST_WAIT_SECONDS
    os.environ |= {"DATA_MIRROR": f"http://127.0.0.1:{server.server_port}", "no_proxy": "127.0.0.1"}
    download.FIRST_WAIT_SECONDS = 0.0
    try:
        yield
    finally:
        download.FIRST_WAIT_SECONDS = wait
        os.environ.clear()
        os.environ.update(before)
        server.shutdown()
        server.server_close()


def part(tries: int, seed: int) -> list[Row]:
    """A row for each way to be cut off."""
    moments = random.Random(f"{seed} downloads")
    found: dict[str, list[str]] = {kind: [] for kind in CUTS}
    tried, refused = dict.fromkeys(CUTS, 0), dict.fromkeys(CUTS, 0)
    for ranges, length, kind in islice(cycle(product((True, False), (True, False), CUTS)), tries):
        server = Server(ranges, length, moments.randrange(SIZE), kind)
        with tempfile.TemporaryDirectory() as folder, serving(server):
            says = f"cut at {server.cut}, ranges {ranges}, length {length}: "
            failures, was_refused = one(server, Path(folder, "data.bin"))
        tried[kind] += 1
        refused[kind] += was_refused
        found[kind] += [says + failure for failure in failures]
    return [
        Row(
            f"download cut {'' if kind != 'killed' else 'by SIGKILL '}at a random byte"
            f"{'' if kind == 'killed' else f', {kind}'}",
            tried[kind],
            tuple(found[kind]),
            f"{refused[kind]} refused, {tried[kind] - refused[kind]} continued at once"
            if kind != "killed"
            else "continued by the next call",
        )
        for kind in CUTS
    ]


def one(server: Server, target: Path) -> tuple[list[str], bool]:
    """What is wrong after a download that was cut, and after the next; whether it was refused."""
    failures, refused = [], False
    if server.kind == "killed":
        killed_when_cut(server, target)
    else:
        try:
            fetch(target)
        except download.DownloadError:
            refused = True
    if target.exists() and target.read_bytes() != CONTENT:
        failures.append("another file was taken")
    if (refused or server.kind == "killed") and target.exists():
        failures.append("refused, and there all the same")
    server.cut = None
    try:
        fetch(target)
    except download.DownloadError as error:
        failures.append(f"the next call was refused: {error}")
    if not target.exists() or target.read_bytes() != CONTENT:
        failures.append("the next call did not bring the file")
    if rest := [path.name for path in target.parent.iterdir() if path != target]:
        failures.append(f"left {rest}")
    return failures, refused


def fetch(target: Path) -> None:
    download.fetch(ADDRESS, target, sha256=SHA256)


def killed_when_cut(server: Server, target: Path) -> None:
    """Another process downloads, and is killed when the server has sent what it will send."""
    code = "import sys; from tests.proof.downloads import Path, fetch; fetch(Path(sys.argv[1]))"
    words = [sys.executable, "-c", code, str(target)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    server.sent.wait(PATIENCE)
    process.kill()
    process.wait()
    server.killed.set()
