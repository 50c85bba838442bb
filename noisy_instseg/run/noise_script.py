"""What the six noise scripts do: `shared`'s command line, with the script's own values as defaults.

The paper's scripts are edited and run; these can be too, and take flags.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from noisy_instseg.run.errors import exit_status

SHORT = {"symmetric": "sn", "asymmetric": "an"}


def main(
    kind: str,
    dataset: str,
    r: float,
    p_a: str,
    p_g: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Exit status: 0; 2 for input that cannot work; 130 for Ctrl-C.

    r: noise rate; p_a: clean annotations; p_g: noisy ones to write. The paths may be empty: then
    --ann and --out are needed, or only --ann, p_g being p_a with the noise in its name.
    """
    flags = list(sys.argv[1:] if argv is None else argv)
    if p_a and not p_g and not _given("--rate", flags) and not _given("--ann", flags):
        p_g = str(Path(p_a).with_name(f"{Path(p_a).stem}_{SHORT[kind]}{100 * r:g}.json"))

    def work() -> int:
        from shared.cli.coco import script_main

        ann, out = (Path(path) if path else None for path in (p_a, p_g))
        return script_main(kind, dataset, flags, rate=r, ann=ann, out=out)

    return exit_status(work)


def _given(flag: str, flags: Sequence[str]) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in flags)
