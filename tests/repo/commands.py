"""The commands of a document: read out of its code blocks, and followed as far as that goes without
running them.
"""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path

from house import ROOT, files, make

SHELLS = ("bash", "sh", "console")
OPTION = re.compile(r"--?[A-Za-z][\w-]*")
KNOWN = {
    *(
        "apt-get",
        "cat",
        "cp",
        "curl",
        "diff",
        "docker",
        "echo",
        "export",
        "git",
        "head",
        "kill",
        "ls",
    ),
    *(
        "mkdir",
        "mv",
        "nvidia-smi",
        "pip",
        "pre-commit",
        "rm",
        "sed",
        "sleep",
        "sudo",
        "tail",
        "tar",
    ),
    *("parallel", "sbatch", "tensorboard", "unzip", "uv", "wait", "wandb"),
}
LOOPS = ("for", "while", "done", "then", "fi", "if")


@dataclass(frozen=True)
class Block:
    """Commands that are run one after another, with the line of the document where each stands."""

    lines: tuple[tuple[int, str], ...]


def blocks_of(document: str) -> Iterator[Block]:
    """The fenced shell blocks, and every `make ...` or `python ...` in the running text that is no
    mere pattern.
    """
    fence: str | None = None
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(document.splitlines(), start=1):
        if (mark := re.match(r"\s*```+\s*(\w*)", line)) is not None:
            if fence in SHELLS:
                yield Block(tuple(_joined(_typed(lines, fence))))
            fence, lines = (mark[1].lower() if fence is None else None), []
        elif fence is not None:
            lines.append((number, line))
        else:
            for command in re.findall(r"(?<!`)`((?:make|python) [^`]+)`(?!`)", line):
                if not re.search(r"[<>…%|]|\.\.\.", command):
                    yield Block(((number, command),))


def _typed(lines: list[tuple[int, str]], fence: str) -> list[tuple[int, str]]:
    """In a console block only what stands behind `$ ` was typed, and what continues it."""
    if fence != "console":
        return lines
    typed, open_ = [], False
    for number, line in lines:
        if line.startswith("$ ") or open_:
            typed.append((number, line.removeprefix("$ ").removeprefix("> ")))
            open_ = line.endswith("\\")
    return typed


def _joined(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Lines that end in a backslash and their continuation become one."""
    start, text = 0, ""
    for number, line in lines:
        start = start if text else number
        text += line
        if text.endswith("\\"):
            text = text[:-1] + " "
        else:
            yield start, text
            text = ""
    if text:
        yield start, text


def words_of(line: str) -> Iterator[list[str]]:
    """The simple commands of a line as words, without assignments, redirections and the words of
    loops.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    lexer.whitespace_split = True
    command: list[str] = []
    skip = False
    for token in [*lexer, ";"]:
        if set(token) <= set(";&|()"):
            if command and command[0] not in LOOPS:
                yield command
            command = []
        elif set(token) <= set("<>&"):
            skip = True  # the file that follows
            if command and command[-1] in ("1", "2"):
                command.pop()
        elif skip:
            skip = False
        elif command or not re.fullmatch(r"do|time|nohup|[A-Z_][A-Z0-9_]*=.*", token):
            command.append(token)


@dataclass
class Walk:
    """Follows the commands of a block from a folder.

    folder: relative to the root of the repository.
    """

    folder: Path
    checkout: Path
    cloned: set[str] = field(default_factory=set)

    def problems(self, block: Block) -> Iterator[tuple[int, str]]:
        """(line, what is wrong) for each command that could not run."""
        for number, line in block.lines:
            try:
                commands = list(words_of(line))
            except ValueError as error:
                yield (
                    number,
                    f"{line.strip()!r} is no shell command ({error}); write it on one line",
                )
                continue
            for words in commands:
                if problem := self.follow(words):
                    yield number, f"`{shlex.join(words)}`: {problem}"

    def follow(self, words: list[str]) -> str | None:
        name, arguments = words[0], words[1:]
        if name == "uv" and arguments[:1] == ["run"]:
            return self.follow(arguments[1:])
        if re.fullmatch(r"(\S*/)?python[\d.]*", name):
            return self.python(arguments)
        if name == "torchrun":  # behind its own flags the script, as python takes it
            return self.python(arguments[arguments.index("--") + 1 :])
        handlers: dict[str, Callable[[list[str]], str | None]] = {
            "make": self.make,
            "cd": self.cd,
            "git": self.git,
            "docker": self.docker,
            "bash": self.shell,
            "sh": self.shell,
            "source": self.activate,
            ".": self.activate,
        }
        if name in handlers:
            return handlers[name](arguments)
        if "/" in name:
            return self.shell([name])
        return (
            None
            if name in KNOWN
            else f"{name} is a command this test does not know; see KNOWN in {Path(__file__).name}"
        )

    def find(self, name: str) -> Path | None:
        """A path as typed, relative to the root; None for one that leads out or to nothing the
        repository holds.
        """
        path = (ROOT / self.folder / name).resolve()
        if not path.is_relative_to(ROOT):
            return None
        path = path.relative_to(ROOT)
        return path if path in files() or any(path in other.parents for other in files()) else None

    def make(self, arguments: list[str]) -> str | None:
        folder = self.checkout / self.folder
        if not (folder / "Makefile").exists() and "-C" not in arguments:
            return "there is no Makefile here; run it from the root"
        run = make(folder, "-n", *(word for word in arguments if word != "-n"))
        if run.returncode:
            return f"{run.stderr.strip().splitlines()[-1]}; `make help` lists the targets"
        for target in arguments:
            kind, _, name = target.partition("-")
            if kind == "data" and name not in _names_of_data():
                return f"there are no data called {name}; `make data-list` names what there is"
            if (
                kind == "test"
                and "=" not in target
                and name not in ("", "fast")
                and not any(p.parts[:2] == ("tests", name) for p in files())
            ):
                return f"there is no folder tests/{name}; name one that exists"
        return None

    def cd(self, arguments: list[str]) -> str | None:
        name = arguments[0] if arguments else "."
        if name.strip("/") in self.cloned:
            self.folder = Path()
            return None
        found = self.find(name)
        if found is None:
            return f"there is no folder {name} in {self.folder}; fix the path"
        self.folder = found
        return None

    def git(self, arguments: list[str]) -> str | None:
        if arguments[:1] == ["clone"]:
            self.cloned.add(arguments[-1].rstrip("/").rsplit("/", 1)[-1].removesuffix(".git"))
        return None

    def docker(self, arguments: list[str]) -> str | None:
        dockerfiles = [after for flag, after in pairwise(arguments) if flag in ("-f", "--file")]
        missing = [name for name in dockerfiles if self.find(name) is None]
        return f"there is no {missing[0]}; fix the path" if missing else None

    def shell(self, arguments: list[str]) -> str | None:
        names = [word for word in arguments if not word.startswith("-")]
        if not names or "-c" in arguments or self.find(names[0]) is not None:
            return None
        return f"there is no {names[0]} in {self.folder}; fix the path"

    def activate(self, arguments: list[str]) -> str | None:
        match = re.fullmatch(
            r"(?:\.\./)*\.venv/(\w+)/bin/activate", arguments[0] if arguments else ""
        )
        if match and Path(match[1], "requirements.txt") in files():
            return None
        return "activate .venv/<project>/bin/activate, which `make setup-<project>` installs"

    def python(self, arguments: list[str]) -> str | None:
        while arguments[:1] and arguments[0] in ("-u", "-O", "-B"):
            arguments = arguments[1:]
        if not arguments or arguments[0] in ("-c", "-", "-V", "--version"):
            return None
        if arguments[0] == "-m":
            return self.module(arguments[1:])
        if arguments[0].startswith("-"):
            return f"python has no flag {arguments[0]} that a reader needs; leave it out"
        script = self.find(arguments[0])
        if script is None or script.suffix != ".py":
            return f"there is no script {arguments[0]} in {self.folder}; fix the path, or cd first"
        return _unknown_flags((str(script),), arguments[1:])

    def module(self, arguments: list[str]) -> str | None:
        if not arguments:
            return "-m needs a module"
        name, rest = arguments[0], arguments[1:]
        if name in ("pytest", "venv", "pip", "http.server", "tensorboard.main"):
            missing = [
                word
                for word in rest
                if word.startswith("tests") and self.find(word.split("::")[0]) is None
            ]
            return f"there is no {missing[0]}; fix the path" if missing else None
        path = Path(*name.split("."))
        found = self.find(str(path / "__main__.py")) or self.find(f"{path}.py")
        if found is None:
            return (
                f"there is no module {name} in {self.folder}; fix its name, or run it from the root"
            )
        return _unknown_flags(
            ("-m", ".".join(found.with_suffix("").parts).removesuffix(".__main__")), rest
        )


@cache
def _names_of_data() -> set[str]:
    from shared import datasets
    from shared.datasets import published_noise

    return {
        "list",
        *datasets.NAMES,
        *datasets.FILE_NAMES,
        *published_noise.COLLECTIONS,
        *published_noise.NOISE,
    }


def _unknown_flags(command: tuple[str, ...], arguments: list[str]) -> str | None:
    """Flags that the command's `--help` does not list; its words before the first flag may be
    sub-commands.
    """
    given = [word.split("=")[0] for word in arguments if OPTION.fullmatch(word.split("=")[0])]
    words = tuple(takewhile(lambda word: re.fullmatch(r"[a-z][a-z0-9-]*", word), arguments))
    known = flags_of(command + words) or flags_of(command)
    unknown = [flag for flag in given if known and flag not in known]
    return f"{command[-1]} has no flag {unknown[0]}; see its --help" if unknown else None


@cache
def flags_of(command: tuple[str, ...]) -> frozenset[str]:
    """What `--help` of a script or module lists; nothing where its environment is not installed."""
    project = re.split(r"[/.]", command[1] if command[0] == "-m" else command[0])[0]
    python = ROOT / ".venv" / project / "bin/python"
    if not python.exists():
        return frozenset()
    run = subprocess.run(
        [python, *command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    listed = re.findall(r"(?<![\w-])--?(?:\[no\])?[A-Za-z][\w-]*", run.stdout)
    flags = {flag.replace("[no]", "") for flag in listed}
    return frozenset(flags | {flag.replace("--", "--no", 1) for flag in flags})
