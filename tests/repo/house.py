"""What the rules of the house need to see: the files of the repository, their syntax trees, and
`make`.

A rule is a function that takes text or a syntax tree and yields what is wrong; its own tests feed
it snippets, so that it cannot rot unseen. `report` turns what a rule found into one failure that
names every place and its fix.
"""

import ast
import fnmatch
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALL_PROJECTS = ("instancegm", "re_sln", "lra_diffusion", "ieg_fsr", "noisy_instseg")


@cache
def files() -> tuple[Path, ...]:
    """What belongs to the repository, relative to its root: what git would commit, else what no
    ignore file names.
    """
    found = _files_of_git() if (ROOT / ".git").exists() else None
    if found is None:
        found = list(_walk(ROOT, (ROOT / ".gitignore").read_text()))
    return tuple(sorted(path for path in found if (ROOT / path).is_file()))


def _files_of_git() -> list[Path] | None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (
        OSError,
        subprocess.CalledProcessError,
    ):  # no git here, or a checkout that belongs to somebody else
        return None
    return [Path(name) for name in run.stdout.decode().split("\0") if name]


def _walk(root: Path, ignore: str) -> Iterator[Path]:
    patterns = [
        line.strip() for line in ignore.splitlines() if line.strip() and not line.startswith("#")
    ]
    for folder, subfolders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        subfolders[:] = [
            name for name in subfolders if name != ".git" and not _ignored(here / name, patterns)
        ]
        yield from (here / name for name in names if not _ignored(here / name, patterns))


def _ignored(path: Path, patterns: list[str]) -> bool:
    """The part of git's rules that this repository's .gitignore uses: names, paths from the root
    (`/data/`), and exceptions.
    """
    if any(
        fnmatch.fnmatch(str(path), pattern[1:].strip("/"))
        for pattern in patterns
        if pattern.startswith("!")
    ):
        return False
    anchored = [pattern.strip("/") for pattern in patterns if pattern.startswith("/")]
    anywhere = [pattern.strip("/") for pattern in patterns if not pattern.startswith("/")]
    return any(fnmatch.fnmatch(str(path), pattern) for pattern in anchored) or any(
        fnmatch.fnmatch(path.name, pattern) for pattern in anywhere
    )


def python_files(*folders: str) -> list[Path]:
    """All Python files, or those of some top-level folders."""
    return [
        path
        for path in files()
        if path.suffix == ".py" and (not folders or path.parts[0] in folders)
    ]


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def projects() -> tuple[str, ...]:
    """The projects that exist so far."""
    return tuple(name for name in ALL_PROJECTS if any(path.parts[0] == name for path in files()))


@cache
def text(path: Path) -> str:
    """A file of the repository; bytes that are not UTF-8 are replaced."""
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), str(path))


def dotted(node: ast.AST) -> str | None:
    """`a.b.c` for the expression a.b.c; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (parent := dotted(node.value)):
        return f"{parent}.{node.attr}"
    return None


def requirements(path: Path) -> dict[str, str]:
    """Name -> the rest of the line (version, comment) of a requirements.in; names in lower case
    with dashes.
    """
    found = {}
    for line in text(path).splitlines():
        if match := re.match(r"([A-Za-z0-9][\w.-]*)(.*)", line):
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` with these arguments, told nothing of a make that may have started the tests; uv
    counts as installed.
    """
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "LC_ALL": "C"
    }
    command = ["make", "UV=uv", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30
    )


def report(problems: Iterable[str]) -> None:
    """Fail with all problems, one a line, `place: what is wrong; what mends it`."""
    if found := sorted(set(problems)):
        pytest.fail("\n" + "\n".join(found), pytrace=False)
