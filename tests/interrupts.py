"""Ctrl-C at a known moment: when a script is about to import a certain module.

A signal sent from outside at a random moment is lost where Python happens to run a callback of its
own, as it does for every module that it imports.
"""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CODE = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
script, module = sys.argv[1:3]
sys.argv = [script, *sys.argv[3:]]

class Interrupts:
    def find_spec(self, name, *rest):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
if script.endswith(".py"):
    runpy.run_path(script, run_name="__main__")
else:
    runpy.run_module(script, run_name="__main__", alter_sys=True)
"""


def interrupted(
    script: object, flags: list[str], module: str, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """What is left of `script`, a file or a package, that gets SIGINT before it has `module`."""
    return subprocess.run(
        [sys.executable, "-c", CODE, str(script), module, *flags],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def heed_ctrl_c() -> None:
    """As `preexec_fn`: what a shell starts in the background ignores SIGINT, as do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
