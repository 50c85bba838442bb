"""The Makefile does what its help says, `make -n` can follow every target, and .ci/run runs what a
reader would.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import files, make, report, text

RULE = re.compile(r"(?P<names>[A-Za-z][\w% -]*):(?![=:])[^#]*(?:## (?P<help>.+))?")
PRELUDE = re.compile(r'#.*|set -[a-zA-Z]+( -?o? ?pipefail)?|cd "\$\(dirname "?\$\{?0\}?"?\)/\.\."')
CI_MAY_RUN = {"make lint", "make test"}


def rules_of(makefile: str) -> dict[str, tuple[int, str | None]]:
    """Public target -> (line, help).

    Public: a plain name or pattern, not a file such as .venv/uv/bin/uv.
    """
    found = {}
    for number, line in enumerate(makefile.splitlines(), start=1):
        if match := RULE.fullmatch(line):
            found |= {name: (number, match["help"]) for name in match["names"].split()}
    return found


def phony_of(makefile: str) -> dict[str, int]:
    lines = enumerate(makefile.splitlines(), start=1)
    return {
        name: number
        for number, line in lines
        if line.startswith(".PHONY:")
        for name in line.split()[1:]
    }


def undocumented(makefile: str) -> Iterator[str]:
    rules = rules_of(makefile)
    for name, (line, help_) in rules.items():
        if not help_:
            yield (
                f"Makefile:{line}: target {name} has no help; add `## what it does` behind "
                "its prerequisites"
            )
    for name, line in phony_of(makefile).items():
        if name not in rules:
            yield f"Makefile:{line}: .PHONY names {name}, which no rule makes; drop it"


def environments() -> list[str]:
    """Every folder that has requirements, and so an environment of its own."""
    return [path.parts[0] for path in files() if path.name == "requirements.in"]


def expanded(target: str) -> list[str]:
    """Targets as they are typed; `<name>` stands for what exists."""
    with_tests = sorted(
        {path.parts[1] for path in files() if path.parts[0] == "tests" and len(path.parts) > 2}
    )
    names = {
        "setup-": environments(),
        "lock-": environments(),
        "data-": ["list", "cifar10", "cifar100", "sln/cifar10/sym0.4.csv", "sln-noise"],
        "test-": with_tests,
    }
    stem = target.removesuffix("%")
    assert target == stem or stem in names, (
        f"say in {Path(__file__).name} what {target} may stand for"
    )
    return [stem + name for name in names[stem]] if target != stem else [target]


def test_every_target_says_what_it_does():
    report(undocumented(text(Path("Makefile"))))


@pytest.mark.parametrize("arguments", [[], ["help"]])
def test_the_help_lists_every_documented_target(checkout, arguments):
    run = make(checkout, *arguments)
    assert run.returncode == 0, run.stderr
    shown = dict(re.findall(r"^  (\S+) +(\S.*)$", run.stdout, re.MULTILINE))
    for name, (line, help_) in rules_of(text(Path("Makefile"))).items():
        assert not help_ or shown.get(name.replace("%", "<name>")) == help_, (
            f"Makefile:{line}: `make {' '.join(arguments)}` does not print {name}; mend the awk "
            "script of `help`"
        )


def test_make_can_follow_every_target_and_a_dry_run_changes_nothing(checkout):
    before = sorted(checkout.rglob("*"))
    targets = [
        (line, name)
        for rule, (line, _) in rules_of(text(Path("Makefile"))).items()
        for name in expanded(rule)
    ]
    runs = [(line, name, make(checkout, "-n", name)) for line, name in targets]
    report(
        f"Makefile:{line}: `make -n {name}` fails: {run.stderr.strip()}; mend the rule or its help"
        for line, name, run in runs
        if run.returncode != 0
    )
    assert sorted(checkout.rglob("*")) == before, (
        "a dry run of make wrote files; look for $(shell) and $(MAKE)"
    )


def test_a_misspelt_target_is_refused(checkout):
    for target in ("instancegm-cifar11", "setup-nothing", "lock-nothing"):
        run = make(checkout, "-n", target)
        assert run.returncode != 0, (
            f"`make {target}` passes; make its pattern depend on a file that has to exist"
        )
    assert "No rule" in run.stderr


def ci_problems(script: str, readme: str) -> Iterator[str]:
    commands = {
        number: line.strip()
        for number, line in enumerate(script.splitlines(), start=1)
        if line.strip()
    }
    commands = {number: line for number, line in commands.items() if not PRELUDE.fullmatch(line)}
    for number, line in commands.items():
        if line not in CI_MAY_RUN:
            yield (
                f".ci/run:{number}: runs {line!r}; put it behind `make lint` or `make test`, "
                "which readers run too"
            )
    for missing in CI_MAY_RUN - set(commands.values()):
        yield f".ci/run:1: does not run `{missing}`; add it"
    if "make test" not in readme:
        yield "README.md:1: does not say that `make test` runs the tests; add it"


def test_ci_runs_what_the_readme_tells():
    report(
        f"{name}:1: is missing; write it"
        for name in (".ci/run", "README.md")
        if Path(name) not in files()
    )
    report(ci_problems(text(Path(".ci/run")), text(Path("README.md"))))


def test_reading_a_makefile():
    makefile = (
        "x := 1\n.PHONY: a gone\na: b ## does a\nb c-%: | d\n\techo a: ## no\n.venv/x: "
        "y\ne::\nv = a: b\n"
    )
    assert rules_of(makefile) == {"a": (3, "does a"), "b": (4, None), "c-%": (4, None)}
    assert [problem.split(";")[0] for problem in undocumented(makefile)] == [
        "Makefile:4: target b has no help",
        "Makefile:4: target c-% has no help",
        "Makefile:2: .PHONY names gone, which no rule makes",
    ]


def test_reading_the_ci_script():
    head = '#!/usr/bin/env bash\n# checks\nset -euo pipefail\ncd "$(dirname "$0")/.."\n\n'
    assert list(ci_problems(head + "make lint\nmake test\n", "make test")) == []
    (problem,) = ci_problems(head + "make lint\nmake test\nmake quickstart\n", "make test")
    assert problem.startswith(".ci/run:8: runs 'make quickstart'")
    assert len(list(ci_problems(head + "make lint || true\n", ""))) == 4
