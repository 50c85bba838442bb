"""Untrusted files never execute: no call outside the tests lets what it reads run or unpack.

Names that must not be used at all (pickle.load, yaml.load, eval ...) are banned by ruff; see
pyproject.toml. Here are the calls that are safe with one argument and unsafe with another. A gate,
not a proof: it follows `import ... as ...` and looks at literal arguments.
"""

import ast
import re
from collections.abc import Iterator

import pytest
from house import dotted, python_files, report, tree

EXECUTES = "runs code that the file brings along"
SHELL = "hands its text to a shell"
MUST_BE = {  # keyword -> (the only value allowed, why), in any call
    "weights_only": (True, EXECUTES + " if not true"),
    "allow_pickle": (False, EXECUTES + " if true"),
    "shell": (False, SHELL),
    "verify": (True, "accepts any server if not true"),
    "safe_mode": (True, EXECUTES + " if not true"),
    "trust_remote_code": (False, EXECUTES + " if true"),
}
# call -> the keyword of MUST_BE that it has to have, since defaults changed between versions
MUST_SAY = {
    "torch.load": "weights_only",
    "numpy.load": "allow_pickle",
    "numpy.lib.format.read_array": "allow_pickle",
}
LOCAL = r"(?!(?:localhost|127\.0\.0\.1|\[::1\])\b)"


def unsafe(module: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what is wrong and what to do) for everything the gate refuses."""
    names = dict(_imported_names(module))
    filters = {
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef) and "data_filter" in ast.dump(node)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield from _unsafe_call(node, _full_name(node.func, names), filters)
        yield from _unsafe_address(node)


def _imported_names(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Local name -> full name, of every import of the file."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (
                (alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names
            )


def _full_name(node: ast.AST, names: dict[str, str]) -> str | None:
    first, dot, rest = (dotted(node) or "").partition(".")
    return names.get(first, first) + dot + rest


def _unsafe_call(call: ast.Call, name: str | None, filters: set[str]) -> Iterator[tuple[int, str]]:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    for keyword, (value, why) in MUST_BE.items():
        missing = MUST_SAY.get(name or "") == keyword and keyword not in given
        wrong = keyword in given and not (
            isinstance(given[keyword], ast.Constant) and given[keyword].value is value
        )
        if missing or wrong:
            yield (
                call.lineno,
                f"{name or 'a call'} {why}; write {keyword}={value} in the call itself",
            )
    unpacks = isinstance(call.func, ast.Attribute) and call.func.attr in ("extract", "extractall")
    if unpacks or name == "shutil.unpack_archive":
        chosen = given.get("filter", call)
        if (
            not (isinstance(chosen, ast.Constant) and chosen.value == "data")
            and dotted(chosen) not in filters
        ):
            yield (
                call.lineno,
                (
                    'unpacks whatever the archive says; give filter="data" or a function that '
                    "ends in tarfile.data_filter; "
                    "read a zip member by member"
                ),
            )


def _unsafe_address(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Addresses without TLS: whole ones, and `http://` put in front of something."""
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    whole = re.search(rf"http://{LOCAL}[\w\[]", text)
    before = []
    if isinstance(node, ast.JoinedStr):
        before = [
            part
            for part, after in zip(node.values, node.values[1:])
            if isinstance(after, ast.FormattedValue)
        ]
    elif isinstance(node, ast.BinOp):
        before = [node.left]
    joined = any(
        isinstance(part, ast.Constant) and str(part.value).endswith("http://") for part in before
    )
    if whole or joined:
        yield node.lineno, "http:// can be changed on the way; use https://"


def test_nothing_in_the_code_can_execute_untrusted_files():
    checked = [path for path in python_files() if path.parts[0] != "tests"]
    assert checked
    report(f"{path}:{line}: {problem}" for path in checked for line, problem in unsafe(tree(path)))


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "import torch\ntorch.load(f, weights_only=safe)",
        "import torch as t\nt.load(f)",
        "from torch import load as read\nread(f)",
        "import torch\ntorch.load(f, **options)",
        "state = lightning.load(f, weights_only=False)",
        "import numpy as np\nnp.load(f)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f, None, True)",
        "from numpy.lib.format import read_array\nread_array(f)",
        "np.savez(f, allow_pickle=flag)",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import subprocess as s\ns.Popen(c, shell=flag)",
        "import tarfile\ntarfile.open(f).extractall()",
        "import tarfile\ntarfile.open(f).extractall(d, filter='fully_trusted')",
        "import tarfile\ntarfile.open(f).extract('a', d)",
        "def trust(member, folder):\n    return member\ntar.extractall(d, filter=trust)",
        "import zipfile\nzipfile.ZipFile(f).extractall(d)",
        "import shutil\nshutil.unpack_archive(f, d)",
        "import requests\nrequests.get(u, verify=False)",
        "url = 'http://example.org/a'",
        "url = f'http://{host}/a'",
        "url = 'http://' + host",
    ],
)
def test_the_gate_catches(code):
    assert list(unsafe(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(f, map_location=d, weights_only=True)",
        "import numpy as np\nnp.load(f, allow_pickle=False)\nnp.save(f, a, allow_pickle=False)",
        "import pickle\npickle.dumps(x)",
        "import yaml\nyaml.safe_load(f)\nyaml.safe_dump(x)",
        "net.eval()\nself.exec(x)",
        "import json\njson.load(f)",
        "from shared.formats.safe_pickle import loads\nloads(b)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "import tarfile\ntarfile.open(f).extractall(d, filter='data')",
        "def strict(member, folder):\n    return tarfile.data_filter(member, "
        "folder)\ntar.extractall(d, filter=strict)",
        "import zipfile\nzipfile.ZipFile(f).open('a')\ntar.extractfile(m)",
        "u = ('https://example.org', 'http://127.0.0.1:80', "
        "f'http://localhost:{port}')\nx.startswith('http://')",
    ],
)
def test_the_gate_lets_pass(code):
    assert list(unsafe(ast.parse(code))) == []
