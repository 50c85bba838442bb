"""What the rules of the repository need to see: its files, their syntax trees, and `make`."""

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALL_PROJECTS = ("instancegm", "re_sln", "lra_diffusion", "ieg_fsr", "noisy_instseg")


@cache
def files() -> tuple[Path, ...]:
    """What git would commit, relative to the root; without git the rules cannot be checked."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so the files of the repository are unknown")
    found = (Path(name) for name in run.stdout.decode().split("\0") if name)
    return tuple(sorted(path for path in found if (ROOT / path).is_file()))


def python_files(*folders: str) -> list[Path]:
    """All Python files, or those of some top-level folders."""
    return [p for p in files() if p.suffix == ".py" and (not folders or p.parts[0] in folders)]


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


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
    """Name -> the rest of the line (version, comment) of a requirements.in."""
    lines = text(path).splitlines()
    matches = (re.match(r"([A-Za-z0-9][\w.-]*)(.*)", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", m[1]).lower(): m[2] for m in matches if m}


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` with these arguments, told nothing of a make that may have started the tests."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", "UV=uv", *arguments],
        cwd=folder,
        env=environment | {"LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=30,
    )


def report(problems: Iterable[str]) -> None:
    """Fail with all problems, one a line, `place: what is wrong; what fixes it`."""
    if found := sorted(set(problems)):
        pytest.fail("\n" + "\n".join(found), pytrace=False)
