"""`shared` needs no framework and no network; who may import whom stands in pyproject.toml."""

import subprocess
import sys

from house import ALL_PROJECTS, ROOT, python_files

FRAMEWORKS = ("torch", "torchvision", "tensorflow", "keras", "jax")


def test_shared_starts_without_a_framework_or_the_network():
    """Imports all of `shared` in a fresh interpreter that refuses to open a connection."""
    modules = [".".join(path.with_suffix("").parts) for path in python_files("shared")]
    code = f"""
import importlib, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"importing opens a connection: {{arguments}}")

sys.addaudithook(refuse)
for module in {modules}:
    importlib.import_module(module)
    loaded = sorted(set({(*FRAMEWORKS, *ALL_PROJECTS)}) & set(sys.modules))
    if loaded:
        raise SystemExit(f"importing {{module}} also imports {{', '.join(loaded)}}")
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
