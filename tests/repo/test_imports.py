"""Who may import what: projects are independent, `shared` runs without a framework, and nothing is
used undeclared.

| code in | may import, besides Python itself |
|---|---|
| `shared/` | `shared`, and the packages in SHARED_MAY_IMPORT that shared/requirements.in names |
| a project | `shared`, itself, and what its requirements.in or that of `shared` names |
| `tests/<project>/`, `tests/bench/*<project>*` | the same, and helpers under `tests` |
| other tests | `shared`, helpers under `tests`, and what tests/requirements.in or that of `shared` names |
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from house import (
    ALL_PROJECTS,
    ROOT,
    files,
    projects,
    python_files,
    report,
    requirements,
    text,
    tree,
)

SHARED_MAY_IMPORT = {"numpy", "scipy", "sklearn", "matplotlib", "PIL", "tqdm"}
FRAMEWORKS = ("torch", "torchvision", "tensorflow", "keras", "jax")
PACKAGE_OF = {  # where the name to import is not the name to install
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "cv2": "opencv-python-headless",
    "mpl_toolkits": "matplotlib",
    "open_clip": "open-clip-torch",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmengine": "onedl-mmengine",
}
OPTIONAL = {"wandb"}  # the user installs it; imported inside the function that needs it


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    in_function: bool


def imports_of(
    node: ast.AST, package: tuple[str, ...], in_function: bool = False
) -> Iterator[Import]:
    """Every import below `node`, absolute, wherever it stands. package: the folders of the file."""
    for child in ast.iter_child_nodes(node):
        inside = in_function or isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            parents = package[: len(package) - child.level + 1] if child.level else ()
            yield Import(
                ".".join([*parents, *([child.module] if child.module else [])]),
                child.lineno,
                inside,
            )
        elif isinstance(child, ast.Call) and _imports_by_call(child):
            yield Import(child.args[0].value, child.lineno, inside)
        yield from imports_of(child, package, inside)


def _imports_by_call(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    constant = (
        bool(call.args)
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    )
    return name in ("import_module", "__import__") and constant


@dataclass(frozen=True)
class Zone:
    """What one file may import: `own` are names of this repository, `declared` are packages."""

    own: set[str]
    declared: set[str]
    where: str  # the file that declares packages


def zone_of(path: Path) -> Zone:
    folder = path.parts[0]
    # A bench is named after its project, and is no way for the other benches to import that
    # project.
    siblings = {other.stem for other in python_files() if other.parent == path.parent} - set(
        ALL_PROJECTS
    )
    if folder == "shared":
        return Zone({"shared"}, _declared("shared"), "shared/requirements.in")
    if folder == "tests":
        project = next((name for name in projects() if path.parts[1] == name), None)
        if path.parts[1] == "bench":
            project = next((name for name in projects() if name in path.stem), None)
        own = {"shared", "tests"} | siblings | (_own_names(project) if project else set())
        return Zone(
            own, _declared(project or "tests", "shared"), f"{project or 'tests'}/requirements.in"
        )
    return Zone(
        {"shared"} | siblings | _own_names(folder),
        _declared(folder, "shared"),
        f"{folder}/requirements.in",
    )


def _own_names(project: str) -> set[str]:
    """The project's folder, and the packages inside it."""
    return {project} | {
        path.parts[1] for path in files() if path.parts[0] == project and path.name == "__init__.py"
    }


def _declared(*folders: str) -> set[str]:
    sources = [Path(folder, "requirements.in") for folder in folders]
    return {name for source in sources if source in files() for name in requirements(source)}


def wrong_imports(path: Path, module: ast.Module, zone: Zone) -> Iterator[str]:
    in_shared = path.parts[0] == "shared"
    for found in imports_of(module, path.parts[:-1]):
        name, place = found.module.split(".")[0], f"{path}:{found.line}: "
        if name in sys.stdlib_module_names or name in zone.own:
            continue
        if name in ALL_PROJECTS or name in ("", "shared", "tests"):
            yield (
                f"{place}imports {found.module or 'from above the repository'}; "
                f"{_advice(path, name)}"
            )
        elif name in OPTIONAL:
            if in_shared or not found.in_function:
                yield (
                    f"{place}{name} is optional; import it inside the function of a project "
                    "that needs it"
                )
        elif in_shared and name not in SHARED_MAY_IMPORT:
            yield (
                f"{place}shared/ may not import {name}; move what needs it to the project "
                "that uses it"
            )
        elif (package := PACKAGE_OF.get(name, name.lower().replace("_", "-"))) not in zone.declared:
            yield (
                f"{place}imports {name}, which {zone.where} does not name; add `{package}  # "
                "why`, then `make lock`"
            )


def _advice(path: Path, name: str) -> str:
    if name == "tests":
        return "code outside tests/ must run without the tests; move what it needs out of there"
    if path.parts[0] == "shared":
        return "shared/ knows no project; let the project call shared"
    return (
        "projects never import each other; copy the few lines, or move what is about noise "
        "or data to shared/"
    )


def test_every_import_is_one_the_table_allows():
    report(
        problem
        for path in python_files()
        for problem in wrong_imports(path, tree(path), zone_of(path))
    )


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
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr


EVERYONE = {"numpy", "scikit-learn", "pyyaml"}


@pytest.mark.parametrize(
    ("path", "code", "expected"),
    [
        ("shared/noise/generators.py", "import torch", "may not import torch"),
        (
            "shared/noise/generators.py",
            "def f():\n    from torch import nn",
            "may not import torch",
        ),
        (
            "shared/noise/generators.py",
            "import importlib\nimportlib.import_module('torch.nn')",
            "may not import torch",
        ),
        ("shared/noise/generators.py", "from instancegm import losses", "knows no project"),
        ("shared/noise/generators.py", "def f():\n    import wandb", "optional"),
        (
            "shared/noise/generators.py",
            "from scipy import special",
            "shared/requirements.in does not name",
        ),
        ("instancegm/losses.py", "from re_sln.losses import f", "never import each other"),
        ("instancegm/losses.py", "from ..re_sln import losses", "never import each other"),
        ("instancegm/losses.py", "from ... import losses", "from above the repository"),
        (
            "instancegm/losses.py",
            "from tests.shared import torch_bytes",
            "move what it needs out of there",
        ),
        ("instancegm/losses.py", "import einops", "add `einops  # why`"),
        ("instancegm/losses.py", "import wandb", "optional"),
        ("tests/instancegm/test_losses.py", "import lra_diffusion", "never import each other"),
        (
            "shared/noise/generators.py",
            "from shared.labels import Labels\nfrom . import cifar\nimport os.path, numpy as np",
            None,
        ),
        (
            "instancegm/losses.py",
            "from sklearn import x\nimport yaml\nfrom .data import y\nimport shared.noise",
            None,
        ),
        ("instancegm/report.py", "def f():\n    import wandb", None),
        (
            "tests/instancegm/test_losses.py",
            "import numpy\nfrom instancegm import losses\nimport tests.helper",
            None,
        ),
    ],
)
def test_the_rule_tells_wrong_from_right(path, code, expected):
    parts = Path(path).parts
    own = {"shared", *(("tests", parts[1]) if parts[0] == "tests" else parts[:1])}
    problems = list(
        wrong_imports(
            Path(path), ast.parse(code), Zone(own, EVERYONE, f"{parts[0]}/requirements.in")
        )
    )
    if expected is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert expected in problems[0]
        assert problems[0].startswith(f"{path}:{len(code.splitlines())}: ")


def test_zones_follow_the_folders():
    assert zone_of(Path("shared/noise/generators.py")).own == {"shared"}
    for project in projects():
        for path in (
            Path(project, "train.py"),
            Path("tests", project, "test_x.py"),
            Path("tests/bench", f"{project}.py"),
        ):
            zone = zone_of(path)
            assert {"shared", project} <= zone.own
            assert not set(ALL_PROJECTS) - {project} & zone.own
            assert zone.where == f"{project}/requirements.in"
    assert not set(ALL_PROJECTS) & zone_of(Path("tests/shared/test_x.py")).own
    assert "torch" not in zone_of(Path("tests/shared/test_x.py")).declared
    assert "pytest" in text(Path("tests/requirements.in"))
