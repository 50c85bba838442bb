"""Every command in a README can run as it stands, and every link and picture leads somewhere.

Commands are those in ```bash, ```sh and ```console blocks, and `make ...` or `python ...` in
running text and tables unless they are patterns with <, |, % or an ellipsis. A block is followed
from the README's own folder or from the root, whichever suits it, and `cd` inside it counts.
Nothing is run: targets are tried with `make -n`, flags are looked up in the script's `--help` (as
far as its environment is installed).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Block, Walk, blocks_of, flags_of, words_of
from house import ROOT, documents, files, report, text

LINK = re.compile(
    r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\""
)


def wrong_commands(document: Path, content: str, checkout: Path) -> Iterator[str]:
    for block in blocks_of(content):
        tries = [
            list(Walk(folder, checkout).problems(block))
            for folder in {document.parent: 0, Path(): 0}
        ]
        for line, problem in min(
            tries, key=lambda found: (len(found), "there is no" in str(found))
        ):
            yield f"{document}:{line}: {problem}"


def wrong_links(document: Path, content: str) -> Iterator[str]:
    for number, line in enumerate(_without_code(content), start=1):
        for match in LINK.finditer(line):
            target = match[1] or match[2]
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (ROOT / document.parent / name).resolve() if name else ROOT / document
            inside = path.relative_to(ROOT) if path.is_relative_to(ROOT) else None
            known = inside is not None and (
                inside in files() or any(inside in other.parents for other in files())
            )
            if name and not known:
                yield (
                    f"{document}:{number}: {target} leads nowhere; fix the path, relative to "
                    f"{document.parent}/"
                )
            elif (
                anchor
                and path.suffix == ".md"
                and anchor not in _anchors(text(inside) if name else content)
            ):
                yield f"{document}:{number}: #{anchor} is no heading of {name or document}; fix it"


def _without_code(content: str) -> Iterator[str]:
    """The lines, those inside fences and inline code left empty."""
    in_code = False
    for line in content.splitlines():
        fence = line.lstrip().startswith("```")
        in_code ^= fence
        yield "" if in_code or fence else re.sub(r"`[^`]*`", "", line)


def _anchors(content: str) -> set[str]:
    """Headings as GitHub names them."""
    headings = re.findall(r"^#+\s+(.*?)\s*$", content, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.training
def test_every_command_can_run_as_it_stands(checkout):
    report(
        problem for path in documents() for problem in wrong_commands(path, text(path), checkout)
    )


def test_every_link_and_picture_leads_somewhere():
    report(problem for path in documents() for problem in wrong_links(path, text(path)))


def fenced(*lines: str, language: str = "bash") -> str:
    return "\n".join([f"```{language}", *lines, "```"])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (fenced("make no-such-target"), 2),
        (fenced("make help", "make setup-nothing"), 3),
        (fenced("make data-mnist9"), 2),
        (fenced("make test-nothing"), 2),
        (fenced("python shared/no_such_script.py"), 2),
        (fenced("cd no_such_folder"), 2),
        (fenced("cd shared", "make help"), 3),
        (fenced("bash scripts/all.sh"), 2),
        (fenced("./run_all.sh"), 2),
        (fenced("python -m shared.no_such_module"), 2),
        (fenced("python -m pytest tests/nothing"), 2),
        (fenced("docker build -f docker/nothing.Dockerfile ."), 2),
        (fenced("frobnicate --all"), 2),
        (fenced("source venv/bin/activate"), 2),
        (fenced("echo 'never closed"), 2),
        (fenced("echo a \\", "  && make no-such-target", language="sh"), 2),
        (fenced("for s in 1 2; do", "  make no-such-target SEED=$s", "done"), 3),
        (
            fenced("$ make help", "make printed this", "$ make no-such-target", language="console"),
            4,
        ),
        ("Run `make no-such-target RATE=0.5`, then rest.", 1),
        ("| a | `python shared/no_such_script.py` |", 1),
    ],
)
def test_a_command_that_cannot_run_is_found(checkout, content, line):
    (problem,) = wrong_commands(Path("README.md"), content, checkout)
    assert problem.startswith(f"README.md:{line}: ")


@pytest.mark.parametrize(
    "content",
    [
        fenced("git clone https://example.org/a/papers.git && cd papers", "make help  # lists"),
        fenced("cd shared", "cd ..", "make lint test"),
        fenced(
            "make noise DATASET=digits RATE=0.2 ARGS='--force'",
            "make data-cifar10 DATA_MIRROR=/media/stick",
        ),
        fenced("DATA_ROOT=data CUDA_VISIBLE_DEVICES= python -m shared data list > list.txt 2>&1"),
        fenced(
            "python -m shared noise make --dataset digits --kind pdn \\", "  --rate=0.4 --out a.npz"
        ),
        fenced("python -m pytest tests/repo -k readme"),
        fenced("$ python -m shared noise info \\", "> a.npz", "rate 0.4", language="console"),
        fenced("no command", language="text"),
        "`make setup-<name>`, `make noise ...`, `python script.py|other.py`, ``make this``",
    ],
)
def test_a_command_that_can_run_passes(checkout, content):
    assert list(wrong_commands(Path("README.md"), content, checkout)) == []


def test_flags_come_from_the_help_of_the_script(checkout):
    if not flags_of(("-m", "shared", "noise", "make")):
        pytest.skip("`make setup-shared` has not been run")
    assert {"--dataset", "--kind", "--out"} <= flags_of(("-m", "shared", "noise", "make"))
    line = "python -m shared noise make --dataset digits --kind pdn --rate 0.4 --out a.npz"
    assert list(wrong_commands(Path("README.md"), fenced(line), checkout)) == []
    (problem,) = wrong_commands(Path("README.md"), fenced(f"{line} --no_such 1"), checkout)
    assert "has no flag --no_such" in problem


def test_links_are_followed():
    readme = Path("instancegm/README.md")
    for good in (
        "[a](README.md) [b](../docker/) ![c](https://example.org/c.png) [d](#data)\n## Data",
        "`[a](b)`",
    ):
        assert list(wrong_links(readme, good)) == []
    for bad in (
        "![a](results/no.png)",
        "[a](../../b)",
        '<img src="no.png">',
        "[![a](b)](no.md)",
        "[a](#no)\n# Data",
    ):
        (problem, *_) = wrong_links(readme, bad)
        assert problem.startswith("instancegm/README.md:1: ")


def test_words_of_a_shell_line():
    line = "A=1 nohup make x B='2 3' > log 2>&1 & cd y && python z.py --a=b | tail # why; not"
    assert list(words_of(line)) == [
        ["make", "x", "B=2 3"],
        ["cd", "y"],
        ["python", "z.py", "--a=b"],
        ["tail"],
    ]
    assert list(blocks_of("text\n```python\nmake x\n```\n")) == []
    assert list(blocks_of("```sh\na \\\n b\nc\n```")) == [Block(((2, "a   b"), (4, "c")))]
