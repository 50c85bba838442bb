"""The shape of the repository: what stands where, how large it may grow, that it is portable."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import ALL_PROJECTS, ROOT, files, python_files, report, requirements, text

MUST_EXIST = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    ".gitignore",
    ".dockerignore",
    ".editorconfig",
    ".pre-commit-config.yaml",
    ".ci/run",
    ".github/workflows/ci.yml",
)
ROOT_FOLDERS = {"shared", "compare", "docker", "tests", ".ci", ".github", *ALL_PROJECTS}
EVERY_PROJECT_HAS = (
    "{0}/README.md",
    "{0}/NOTES.md",
    "{0}/requirements.in",
    "{0}/requirements.txt",
    "docker/{0}.Dockerfile",
)
MAX_LINES = 400
MAX_TEST_LINES = 500
MAX_README_LINES = 130
MAX_BYTES = 1_000_000
NOT_TEXT = {".png", ".npz", ".npy", ".pt", ".ckpt", ".pth", ".safetensors"}
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")  # in parts, or it would find itself
# Folders of somebody's machine; inside a container the image's own folders are nobody's.
MACHINE = re.compile(r"(?<![\w.~}>/-])/(?:home|root|work|Users|tmp|mnt|scratch|workspace)/\w")
INDEX = re.compile(r"--(?:extra-)?index-url\b|--find-links\b|\b(?:PIP|UV)_\w*INDEX|/simple\b")


def test_everything_stands_in_its_place():
    report(f"{name}:1: is missing; write it" for name in MUST_EXIST if Path(name) not in files())
    report(
        f"{path}:1: the root holds {', '.join(MUST_EXIST)} and folders; move it"
        for path in files()
        if (
            str(path) not in MUST_EXIST
            if len(path.parts) == 1
            else path.parts[0] not in ROOT_FOLDERS
        )
    )
    assert os.access(ROOT / ".ci/run", os.X_OK), ".ci/run:1: is not executable; chmod +x .ci/run"


@pytest.mark.parametrize("project", ALL_PROJECTS)
def test_every_project_is_complete(project):
    wanted = [Path(name.format(project)) for name in EVERY_PROJECT_HAS]
    report(f"{path}:1: is missing; write it" for path in wanted if path not in files())
    report(
        f"{name}:1: does not name {project}; say what it is and how to run it"
        for name in ("Makefile", "README.md", "CITATION.cff")
        if project not in text(Path(name))
    )


def test_shell_scripts_can_be_run():
    scripts = [path for path in files() if path.suffix == ".sh" and text(path).startswith("#!")]
    report(f"{p}:1: chmod +x it" for p in scripts if not os.access(ROOT / p, os.X_OK))


def test_files_stay_small():
    for paths, limit in (
        ([path for path in python_files() if path.parts[0] != "tests"], MAX_LINES),
        (python_files("tests"), MAX_TEST_LINES),
        ([path for path in files() if path.name == "README.md"], MAX_README_LINES),
    ):
        report(
            f"{path}:{count}: {count} lines, at most {limit}; split it by role"
            for path in paths
            if (count := len(text(path).splitlines())) > limit
        )
    report(
        f"{path}:1: {size:,} bytes, at most {MAX_BYTES:,}; download or generate it instead"
        for path in files()
        if (size := (ROOT / path).stat().st_size) > MAX_BYTES
    )


def strange(path: Path, content: str) -> Iterator[str]:
    """What makes sense on one machine only, or is not finished."""
    for number, line in enumerate(content.splitlines(), start=1):
        place = f"{path}:{number}: "
        if UNFINISHED.search(line):
            yield f"{place}an unfinished mark; do it, or say in plain words what is not done"
        if (found := MACHINE.search(line)) and path.parts[0] != "docker":
            yield f"{place}names {found[0]!r}..., a folder of one machine; take it from a flag"
        if INDEX.search(line.replace("--no-emit-index-url", "")):
            yield f"{place}names a package index; leave that to the user's settings"
        for climb in re.findall(r"(?<![\w./])(?:\.\./)+", line):
            if path.suffix != ".py" and climb.count("..") >= len(path.parts):
                yield f"{place}{climb} points out of the repository"


def test_the_repository_makes_sense_to_a_stranger():
    this = Path("tests/repo", Path(__file__).name)
    readable = [path for path in files() if path.suffix not in NOT_TEXT and path != this]
    report(problem for path in readable for problem in strange(path, text(path)))


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("shared/a.py", "# " + "TO" + "DO later", "unfinished"),
        ("shared/a.py", 'open("/home/me/data")', "'/home/m'"),
        ("docker/instancegm.Dockerfile", "RUN cp a /home/user/a", None),
        ("Makefile", "\tpip install --index-url $(URL)", "package index"),
        ("Makefile", "\tuv pip compile --no-emit-index-url", None),
        ("README.md", "[x](../docker/y.md)", "points out"),
        ("instancegm/README.md", "[x](../docker/a.md)", None),
        ("README.md", "https://example.org/home/tmp/a and runs/tmp/a", None),
    ],
)
def test_the_rule_knows_what_a_stranger_cannot_use(path, line, expected):
    problems = list(strange(Path(path), line))
    assert problems == [] if expected is None else expected in " ".join(problems)


@pytest.mark.parametrize("folder", ["shared", "tests", "compare", *ALL_PROJECTS])
def test_requirements_are_explained_and_locked(folder):
    source, lock = Path(folder, "requirements.in"), Path(folder, "requirements.txt")
    report(
        f"{source}:{number}: {line!r} does not say why; add `# why` behind it"
        for number, line in enumerate(text(source).splitlines(), start=1)
        if line.strip() and not line.startswith("#") and not re.search(r"\s#\s*\w{2,}", line)
    )
    entries = [
        e for e in re.split(r"(?<!\\)\n", text(lock)) if e and not e.lstrip().startswith("#")
    ]
    report(
        f"{lock}:1: {entry.splitlines()[0]!r} has no version or no hash; run `make lock`"
        for entry in entries
        if not re.match(r"[\w.-]+==[^\s;\\]+", entry) or "--hash=sha256:" not in entry
    )
    locked = {re.sub(r"[-_.]+", "-", entry.split("==")[0]).lower() for entry in entries}
    for asked in (source, Path("shared/requirements.in")):
        missing = requirements(asked).keys() - locked
        assert not missing, f"{lock}:1: lacks {missing} of {asked}; run `make lock`"
