"""The shape of the repository: what stands where, how large it may grow, and that it makes sense to
a stranger.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import house
import pytest
from house import ALL_PROJECTS, ROOT, files, projects, python_files, report, requirements, text

ROOT_FILES = {"Makefile", "README.md", "pyproject.toml", "LICENSE", ".gitignore", ".dockerignore"}
ROOT_FOLDERS = {"shared", "docker", "tests", ".ci", *ALL_PROJECTS}
MUST_EXIST = (
    "Makefile",
    "README.md",
    "pyproject.toml",
    "LICENSE",
    ".gitignore",
    ".dockerignore",
    ".ci/run",
)
EVERY_PROJECT_HAS = (
    "{0}/README.md",
    "{0}/requirements.in",
    "{0}/requirements.txt",
    "docker/{0}.Dockerfile",
)
MAX_LINES = 400
MAX_BYTES = 1_000_000
NOT_TEXT = {".png", ".jpg", ".jpeg", ".gif", ".npz", ".npy", ".pt", ".pdf"}
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")  # in parts, or this line were a find
# Folders of somebody's machine; inside a container the image's own folders are nobody's.
MACHINE = re.compile(
    r"(?<![\w.~}>/-])/(?:home|root|work|Users|tmp|mnt|scratch|workspace)/\w|\b[A-Z]:\\\\?Users\b"
)
INDEX = re.compile(
    r"(?:^|\s|\")--(?:extra-)?index-url\b|--find-links\b|\b(?:PIP|UV)_(?:EXTRA_|DEFAULT_)?INDEX|/simple\b"
)
PINNED = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;\\]+)")


def misplaced(path: Path) -> Iterator[str]:
    allowed = ROOT_FILES if len(path.parts) == 1 else ROOT_FOLDERS
    if path.parts[0] not in allowed:
        yield (
            f"{path}:1: the root holds only {', '.join(sorted(ROOT_FILES | ROOT_FOLDERS))}; "
            "move it, or ignore it"
        )
    elif path.parts[0] == ".ci" and path.name != "run":
        yield f"{path}:1: .ci holds `run` alone; let `make lint` or `make test` do it"
    elif path.parts[0] == "docker" and path.name.removesuffix(".Dockerfile") not in ALL_PROJECTS:
        yield f"{path}:1: docker holds <project>.Dockerfile and nothing else"
    elif (
        path.parts[0] == "tests"
        and path.suffix == ".py"
        and len(path.parts) == 2
        and path.name != "__init__.py"
    ):
        yield (
            f"{path}:1: tests stand in tests/<project>, tests/shared, tests/repo or "
            "tests/bench; move it there"
        )


def test_everything_stands_in_its_place():
    report(problem for path in files() for problem in misplaced(path))
    report(f"{name}:1: is missing; write it" for name in MUST_EXIST if Path(name) not in files())
    if Path(".ci/run") in files():
        assert os.access(ROOT / ".ci/run", os.X_OK), (
            ".ci/run:1: cannot be executed; chmod +x .ci/run"
        )


@pytest.mark.parametrize("project", projects())
def test_no_project_is_an_empty_shell(project):
    report(shell_of(project))


def shell_of(project: str) -> Iterator[str]:
    """What a project lacks that makes it one."""
    for name in EVERY_PROJECT_HAS:
        if Path(name.format(project)) not in files():
            yield (
                f"{name.format(project)}:1: is missing; a project comes with its README, "
                "requirements and image"
            )
    if not any('if __name__ == "__main__"' in text(path) for path in python_files(project)):
        yield f"{project}:1: has no script to run; add the paper's"
    if not any(
        path.parts[1] == project and path.name.startswith("test_") for path in python_files("tests")
    ):
        yield f"tests/{project}:1: has no tests; test the project there"
    for name in ("Makefile", "README.md"):
        if Path(name) in files() and project not in text(Path(name)):
            yield f"{name}:1: does not name {project}; add what it is and how to run it"


def test_the_licence_is_mit():
    words = " ".join(text(Path("LICENSE")).split())
    assert words.startswith("MIT License Copyright (c) "), (
        "LICENSE:1: begin with `MIT License` and the copyright line"
    )
    for clause in (
        "free of charge, to any person obtaining a copy",
        'PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND',
    ):
        assert clause in words, f"LICENSE:1: lacks {clause!r}; restore the text of the MIT licence"


def test_files_stay_small():
    report(
        f"{path}:{count}: {count} lines, at most {MAX_LINES}; split it by role"
        for path in python_files()
        if (count := len(text(path).splitlines())) > MAX_LINES
    )
    report(
        f"{path}:1: {size:,} bytes, at most {MAX_BYTES:,}; download or generate it instead"
        for path in files()
        if (size := (ROOT / path).stat().st_size) > MAX_BYTES
    )


def strange(path: Path, content: str) -> Iterator[str]:
    """What makes sense on one machine only, or is not finished."""
    in_image = path.parts[0] == "docker"
    for number, line in enumerate(content.splitlines(), start=1):
        place = f"{path}:{number}: "
        if UNFINISHED.search(line):
            yield f"{place}an unfinished mark; do it, or say in plain words what is not done"
        if (found := MACHINE.search(line)) and not in_image:
            yield (
                f"{place}names {found[0]!r}..., a folder of one machine; take it from a flag "
                "or make it relative"
            )
        if INDEX.search(line):
            yield f"{place}names a package index; leave that to the user's pip or uv settings"
        for climb in re.findall(r"(?<![\w./])(?:\.\./)+", line):
            if path.suffix != ".py" and climb.count("..") >= len(path.parts):
                yield f"{place}{climb} points out of the repository; what it needs has to be in it"


def test_the_repository_makes_sense_to_a_stranger():
    readable = [
        path
        for path in files()
        if path.suffix not in NOT_TEXT and path != Path("tests/repo", Path(__file__).name)
    ]
    report(problem for path in readable for problem in strange(path, text(path)))


def unexplained(path: Path, content: str) -> Iterator[str]:
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip() and not line.startswith("#") and not re.search(r"\s#\s*\w{2,}", line):
            yield f"{path}:{number}: {line.strip()!r} does not say why; add `# why` behind it"


def unlocked(path: Path, content: str) -> Iterator[str]:
    """Lines of a lock that do not name one version and its hashes."""
    number = 1
    for entry in re.split(r"(?<!\\)\n", content):
        first = entry.splitlines()[0].strip() if entry.strip() else ""
        if first and not first.startswith("#"):
            if not PINNED.match(first):
                yield (
                    f"{path}:{number}: {first!r} does not pin a version of the index; run "
                    "`make lock`"
                )
            elif not re.search(r"--hash=sha256:[0-9a-f]{64}", entry):
                yield f"{path}:{number}: {first!r} has no hash; run `make lock`"
            if "://" in entry:
                yield (
                    f"{path}:{number}: {first!r} names an address; run `make lock`, which "
                    "writes none"
                )
        number += entry.count("\n") + 1


def missing_from_lock(
    source: Path, wanted: dict[str, str], lock: Path, content: str
) -> Iterator[str]:
    pinned: dict[str, set[str]] = {}
    for line in content.splitlines():
        if match := PINNED.match(line):
            pinned.setdefault(re.sub(r"[-_.]+", "-", match["name"]).lower(), set()).add(
                match["version"]
            )
    for name, rest in wanted.items():
        exact = re.match(r"(?:\[.*\])?==([^\s;#*]+)(?=\s|;|$)", rest)
        if name not in pinned or (exact and pinned[name] != {exact[1]}):
            found = ", ".join(pinned.get(name, ())) or "nothing"
            yield (
                f"{lock}:1: {source} asks for {name}{exact[0] if exact else ''}, locked is "
                f"{found}; run `make lock`"
            )


def folders_with_requirements() -> list[Path]:
    return sorted(
        {path.parent for path in files() if path.name in ("requirements.in", "requirements.txt")}
    )


@pytest.mark.parametrize("folder", folders_with_requirements(), ids=str)
def test_requirements_are_explained_and_locked(folder):
    source, lock = folder / "requirements.in", folder / "requirements.txt"
    for path in (source, lock):
        assert path in files(), (
            f"{path}:1: is missing; requirements.in says what and why, `make lock` writes the other"
        )
    report([*unexplained(source, text(source)), *unlocked(lock, text(lock))])
    for asked in {source, Path("shared/requirements.in")}:
        report(missing_from_lock(asked, requirements(asked), lock, text(lock)))


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("shared/a.py", "# " + "TO" + "DO later", "unfinished"),
        ("shared/a.py", 'open("/home/me/data")', "'/home/m'"),
        ("README.md", "see `/mnt/papers`", "'/mnt/p'"),
        ("README.md", r"C:\Users\me", "Users"),
        ("docker/instancegm.Dockerfile", "RUN cp a /home/user/a", None),
        ("Makefile", "\tpip install --index-url $(URL)", "package index"),
        ("docker/instancegm.Dockerfile", "ENV PIP_INDEX_URL=x", "package index"),
        ("Makefile", "\tuv pip compile --no-emit-index-url", None),
        ("README.md", "[x](../docker/y.md)", "points out"),
        ("instancegm/README.md", "[x](../docker/a.md)", None),
        ("instancegm/README.md", "[x](../../docker/a.md)", "points out"),
        ("tests/shared/test_a.py", 'name = "../../evil"', None),
        ("README.md", "https://example.org/home/tmp/a and runs/tmp/a, ../", "points out"),
        ("README.md", "https://example.org/home/tmp/a and runs/tmp/a, $DIR/mnt/a", None),
    ],
)
def test_the_rule_knows_what_a_stranger_cannot_use(path, line, expected):
    problems = list(strange(Path(path), line))
    assert problems == [] if expected is None else expected in " ".join(problems)


def test_the_rules_know_places_and_locks():
    good = (
        "numpy==2.4.6 ; python_version < '3.12' \\\n    --hash=sha256:"
        + "0" * 64
        + "\n    # via x\n"
    )
    lock = Path("a/requirements.txt")
    assert list(unlocked(lock, "# by uv\n" + good)) == []
    for bad in (
        "numpy>=2 \\\n    --hash=sha256:" + "0" * 64,
        "numpy==2.4.6",
        "a @ https://example.org/a.whl",
        "-r b.txt",
    ):
        assert any(
            problem.startswith("a/requirements.txt:4:") for problem in unlocked(lock, good + bad)
        )
    assert list(missing_from_lock(lock, {"numpy": "==2.4.6  # why"}, lock, good)) == []
    assert (
        len(list(missing_from_lock(lock, {"numpy": "==2.4.60  # why", "torch": ""}, lock, good)))
        == 2
    )
    assert len(list(unexplained(lock, "# all\na\nb  #\nc==1  # why\n"))) == 2
    wrong = (
        "notes.md",
        "papers/a.pdf",
        ".ci/more",
        "docker/all.sh",
        "tests/test_all.py",
        "conftest.py",
    )
    assert all(list(misplaced(Path(name))) for name in wrong)
    assert not any(
        list(misplaced(Path(name)))
        for name in ("README.md", ".ci/run", "tests/repo/house.py", "re_sln/a.py")
    )


def test_without_git_the_ignore_file_decides(tmp_path):
    kept, ignored = (
        ["a.py", "shared/data/b.py", "noisy_instseg/configs/b.py"],
        [
            "data/a.bin",
            ".venv/x/y.py",
            "shared/runs/1/log",
            "a/__pycache__/b.pyc",
            "re_sln/configs/c.yml",
        ],
    )
    for name in kept + ignored:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert sorted(str(path) for path in house._walk(tmp_path, text(Path(".gitignore")))) == sorted(
        kept
    )
