"""The recipes behind `make`, at a small size."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, SCRIPTS, environment, rows

from re_sln.run.record import read_config


@pytest.mark.training
def test_a_shorter_run_of_the_digits_recipe(tmp_path):
    """`make re_sln-digits ARGS="--n_epochs 12 ..."`, in a folder of its own by its seed."""
    args = "--n_epochs 12 --limit_train 96 --limit_test 40 --batch_size 48 --amp off"
    known = {"PYTHON": sys.executable, "SEED": str(os.getpid()), "ARGS": args}
    slug = args.replace("--", "_").replace(" ", "_").replace("__", "_").strip("_")
    folder = ROOT / "runs" / f"re_sln-digits-0.4-seed{os.getpid()}-{slug}"
    try:
        done = subprocess.run(
            [str(SCRIPTS / "scripts" / "digits.sh")],
            env={**environment(), **known},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert [len(rows(folder / method)) for method in ("ce", "sln_mo", "sln_mo_lc")] == [12] * 3
        assert read_config(folder / "sln_mo_lc")["lc_n_epoch"] == 10
        assert (folder / "curves.png").exists()
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)
