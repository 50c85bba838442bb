"""What the parts count, as one table on the terminal and one section each of NOTES.md."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

HEAD = ("what", "tried", "failed", "of these")


@dataclass(frozen=True)
class Row:
    """One thing that was tried many times."""

    what: str
    tried: int
    failures: tuple[str, ...] = ()  # a line for each
    remarks: str = ""  # how the tries came out

    @property
    def cells(self) -> tuple[str, ...]:
        return self.what, f"{self.tried:,}", f"{len(self.failures):,}", self.remarks


def table(rows: Sequence[Row]) -> str:
    """A table in Markdown, which a terminal shows as well."""
    cells = [HEAD, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    rule = ["-" * width for width in widths]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths))} |"
        for line in lines
    )


def section(title: str, command: str, seconds: float, rows: Sequence[Row]) -> str:
    """A part's section of NOTES.md: the command, where and how long, the counts, what failed."""
    # The last line of a traceback says what it was, and no folder of this machine.
    last = [
        (row.what, failure.strip().splitlines()[-1]) for row in rows for failure in row.failures
    ]
    failures = [f"- {what}: {failure}" for what, failure in last]
    return "\n".join(
        [
            f"## {title}",
            "",
            f"`{command}`, {date.today()}, {machine()}, {seconds:,.0f} seconds",
            "",
            table(rows),
            "",
            *([*failures, ""] if failures else []),
        ]
    )


def machine() -> str:
    """Processor, cores and system, without a name."""
    known = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", known.read_text()) if known.exists() else None
    model = found[1] if found else platform.machine()
    return f"{model} ({os.cpu_count()} cores), {platform.system()}"


def replace_section(notes: Path, text: str) -> None:
    """Puts a part's section into NOTES.md in place of its old one, or at the end."""
    head, *sections = re.split(r"(?m)^(?=## )", notes.read_text())
    title = text.splitlines()[0]
    kept = {one.splitlines()[0]: one for one in sections} | {title: text}
    notes.write_text("\n".join(one.rstrip() + "\n" for one in (head, *kept.values())))
