"""What imports what: the papers stand on their own, and a command line answers at once."""

import ast
import subprocess
import sys

import pytest
from conftest import PROJECT, environment

BELOW = {  # what each folder of the package may import of the others
    "augment": set(),
    "networks": set(),
    "input": {"augment"},
    "method": {"input"},
    "run": {"input", "method", "networks"},
    "analysis": {"run"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("folder", sorted(BELOW))
def test_no_file_imports_uphill(folder):
    for path in (PROJECT / "ieg" / folder).glob("*.py"):
        names = set(imported(path))
        packages = {name.split(".")[1] for name in names if name.startswith("ieg.")}
        assert packages <= BELOW[folder] | {folder}, path
        assert folder == "run" or "argparse" not in names, path


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--help"], 0, "usage: python -m ieg.main"),
        (["--learning_rate=0"], 2, "must be greater than 0"),
        (["--dataset=digits_unifrom_0.4"], 2, "after digits_ comes uniform"),
    ],
)
def test_help_and_a_wrong_flag_do_not_wait_for_tensorflow(flags, status, message):
    code = (
        "import sys\nfrom ieg.main import main\ntry:\n    status = main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & {*sys.modules}\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *flags],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    assert message in done.stdout + done.stderr
