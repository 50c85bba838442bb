"""Every departure from a paper's original code is marked where it happens and listed in the
project's NOTES.md.

The mark is a comment, and its headline, the text up to the first full stop, semicolon or colon, is
the key:

    # DEVIATION(instancegm): the variance is clamped; the original divides by zero
    # once a class has a single sample.

NOTES.md has a section whose heading begins with "Deviations", and there a table whose rows begin
with the headline:

    ## Deviations: paper vs original code vs here

    | deviation | paper | original code | here |
    |---|---|---|---|
    | The variance is clamped | not said | no clamp | at least 1e-6 |

Case, code quotes and emphasis do not count. Several marks may share a headline, for one row; each
mark needs its row and each row its mark. A mark stands in the project's folder, or in shared/ where
that acts for the project.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from house import ALL_PROJECTS, python_files, report, text

MARK = re.compile(r"#\s*DEVIATION\((\w+)\):\s*(\S.*)")


@dataclass(frozen=True)
class Mark:
    project: str
    headline: str
    place: str


def headline(reason: str) -> str:
    """What a mark and a row have to share: the text up to the first `.`, `;` or `:` that ends a
    word.
    """
    plain = re.sub(r"[`*\\]", "", reason)
    return " ".join(re.split(r"[.;:](?=\s|$)", plain.strip(), maxsplit=1)[0].lower().split())


def comments_of(code: str) -> Iterator[tuple[int, str, bool]]:
    """(line, text, whether it has the line to itself) of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, not token.line[: token.start[1]].strip()


def marks_of(path: Path, code: str) -> Iterator[Mark | str]:
    """Every mark of a file; a string for a comment that looks like one and is not."""
    comments = {line: (comment, alone) for line, comment, alone in comments_of(code)}
    for line, (comment, _) in comments.items():
        if "DEVIATION" not in comment:
            continue
        match = MARK.fullmatch(comment.strip())
        if match is None or match[1] not in ALL_PROJECTS:
            yield (
                f"{path}:{line}: not a mark; write `# DEVIATION(<project>): <reason>` on a "
                "line of its own"
            )
            continue
        reason, following = match[2], line + 1
        while (
            following in comments
            and comments[following][1]
            and "DEVIATION" not in comments[following][0]
        ):
            reason += " " + comments[following][0].lstrip("# ")
            following += 1
        yield Mark(match[1], headline(reason), f"{path}:{line}")


def rows_of(notes: str) -> Iterator[tuple[int, str]]:
    """(line, headline) of the table rows in sections whose heading begins with "Deviations"."""
    level, in_code = 0, False
    lines = notes.splitlines()
    for number, line in enumerate(lines, start=1):
        in_code ^= line.lstrip().startswith("```")
        if not in_code and (heading := re.match(r"(#+)\s+(.*)", line)):
            if level == 0 or len(heading[1]) <= level:
                level = len(heading[1]) if heading[2].lower().startswith("deviations") else 0
        elif level and not in_code and line.startswith("|"):
            is_head = re.match(r"\|[\s:|-]+$", lines[number] if number < len(lines) else "")
            if not is_head and not re.match(r"\|[\s:|-]+$", line):
                yield number, headline(re.split(r"(?<!\\)\|", line)[1])


def mismatches(project: str, marks: list[Mark], notes: str) -> Iterator[str]:
    rows = dict((key, line) for line, key in rows_of(notes))
    for mark in marks:
        if mark.headline not in rows:
            yield (
                f"{mark.place}: the deviation {mark.headline!r} is not listed; begin a row with "
                "these words in the table "
                f'under the heading "Deviations" of {project}/NOTES.md'
            )
    for key in rows.keys() - {mark.headline for mark in marks}:
        yield (
            f"{project}/NOTES.md:{rows[key]}: no code is marked {key!r}; put `# "
            f"DEVIATION({project}): {key}` where it "
            "happens, or drop the row"
        )


def all_marks() -> list[Mark | str]:
    return [
        mark
        for path in python_files()
        if path.parts[0] != "tests"
        for mark in marks_of(path, text(path))
    ]


def test_marks_are_well_formed_and_stand_where_they_belong():
    found = all_marks()
    report(mark for mark in found if isinstance(mark, str))
    report(
        (
            f"{mark.place}: marks a deviation of {mark.project}; a mark stands in that project's "
            "folder or in shared/"
        )
        for mark in found
        if isinstance(mark, Mark) and Path(mark.place).parts[0] not in (mark.project, "shared")
    )


@pytest.mark.parametrize("project", ALL_PROJECTS)
def test_marks_and_the_table_of_the_notes_agree(project):
    notes = Path(project, "NOTES.md")
    marks = [mark for mark in all_marks() if isinstance(mark, Mark) and mark.project == project]
    report(mismatches(project, marks, text(notes)))


CODE = """
x = 1  # noqa
# DEVIATION(instancegm): the variance is clamped to `1e-6`
# at least; the original divides by 0.5 * 0.
y = "# DEVIATION(re_sln): a string, no comment"
z = 2  # DEVIATION(instancegm): seeds 0.5 apart. More words
"""
NOTES = """
## Deviations: paper vs original code vs here
Words.

| deviation | paper |
|---|---|
| The variance is **clamped** to 1e-6 at least | no |
| `Seeds 0.5` apart; and so on | 0 |

### Of less weight
| deviation | paper |
|:--|--:|
| a \\| b | no |
## Data
| not | this |
|---|---|
| one | . |
"""


def test_reading_code_and_notes():
    marks = list(marks_of(Path("instancegm/vae.py"), CODE))
    assert [(mark.headline, mark.place) for mark in marks] == [
        ("the variance is clamped to 1e-6 at least", "instancegm/vae.py:3"),
        ("seeds 0.5 apart", "instancegm/vae.py:6"),
    ]
    assert list(rows_of(NOTES)) == [
        (7, "the variance is clamped to 1e-6 at least"),
        (8, "seeds 0.5 apart"),
        (13, "a | b"),
    ]
    problems = list(mismatches("instancegm", marks, NOTES))
    assert len(problems) == 1
    assert "NOTES.md:13: no code is marked 'a | b'" in problems[0]
    assert len(list(mismatches("instancegm", marks, "# InstanceGM\n"))) == 2


@pytest.mark.parametrize(
    "comment",
    [
        "# DEVIATION: why",
        "# DEVIATION(instancegm):",
        "# DEVIATION(nobody): why",
        "# see DEVIATION(re_sln): a",
    ],
)
def test_what_only_looks_like_a_mark_is_refused(comment):
    (problem,) = marks_of(Path("instancegm/vae.py"), comment)
    assert problem.startswith("instancegm/vae.py:1: not a mark")
