"""A copy of the repository for the tests that call make, so that what it must not do could not do
harm.
"""

import shutil
from pathlib import Path

import pytest
from house import ROOT, files


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh checkout, without environments, data or runs."""
    copy = tmp_path_factory.mktemp("checkout")
    for path in files():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy / path)
    return copy
