"""`python -m compare` as a user starts it, and the files that it leaves for other machines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment
from PIL import Image

from compare import slurm
from compare.methods import METHODS
from compare.plan import ROOT, Job, python_of
from shared.runs.reader import find_runs

TINY = "--device cpu ce: --num_epochs 1 --limit_train 200 --limit_test 50 "
TINY += "sln: --n_epochs 2 --limit_train 200 --limit_test 50"


def needs(*projects):
    missing = [name for name in projects if not python_of(name).exists()]
    what = " ".join(f"setup-{name}" for name in missing)
    return pytest.mark.skipif(bool(missing), reason=f"`make {what}` has not been run")


def test_commands_are_printed_and_nothing_else(compare, tmp_path):
    run = compare("commands", "--methods", "sln", "ce", "--seeds", 1, 2)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 4
    assert all(line.startswith(str(ROOT / ".venv")) for line in lines)
    assert (tmp_path / "c/commands.txt").read_text() == run.stdout
    assert "array.sbatch" in run.stderr
    assert lines[3] in (tmp_path / "c/array.sbatch").read_text()


def test_seeds_and_methods_are_added_to_a_comparison(compare, tmp_path):
    assert compare("commands", "--methods", "ce").returncode == 0
    run = compare("commands", "--methods", "sln", "--seeds", 2)
    assert run.returncode == 0, run.stderr
    assert "sln-seed2" in run.stdout
    other = compare("commands", "--methods", "sln", "--rate", 0.2)
    assert other.returncode == 2
    assert "is the comparison with --rate 0.4, not 0.2" in other.stderr


def test_the_slurm_array_runs_the_command_of_its_task(tmp_path):
    folder = tmp_path / "with space"
    commands = [("echo", "it's {one} %a"), ("false",)], [("sh", "-c", "echo two; exit 5")]
    jobs = [
        Job(METHODS["ce"], seed, tuple(steps), folder / f"ce-seed{seed}", None)
        for seed, steps in enumerate(commands, start=1)
    ]
    slurm.write(jobs, folder)
    spooled = tmp_path / "spooled.sbatch"  # what Slurm keeps of it
    shutil.copy(folder / "array.sbatch", spooled)
    slurm.write(jobs[1:], folder)
    assert "#SBATCH --array=1-2" in spooled.read_text()
    expected = {"1": ("it's {one} %a\n", 1), "2": ("two\n", 5), "3": ("", 2)}
    for task, ended in expected.items():
        run = subprocess.run(
            [spooled],
            env=os.environ | {"SLURM_ARRAY_TASK_ID": task},
            capture_output=True,
            text=True,
        )
        assert (run.stdout, run.returncode) == ended
    assert "there is no task 3, only 1 to 2" in run.stderr
    alone = subprocess.run([spooled], capture_output=True, text=True)
    assert alone.returncode != 0
    assert "run this with sbatch" in alone.stderr


def test_the_second_of_two_at_once_is_refused(compare, tmp_path):
    from shared.run_folder import locked

    with locked(tmp_path / "c"):
        run = compare("commands", "--methods", "ce")
    assert run.returncode == 2
    assert "is in use by process" in run.stderr
    assert "--folder" in run.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "slm"], "there is no method 'slm'"),
        (["--args", "slm: --x 1"], "no method"),
        (["--dataset", "folder"], "--data"),
        (["--kind", "pmd"], "invalid choice"),
        (["--seeds", "one"], "argument --seeds: invalid int value: 'one'"),
        (["--seeds", "-1"], "--seeds -1 (make: SEEDS): give numbers from 0 on"),
        (["--rate", "4"], "outside [0, 1]"),
        (["--kind", "asymmetric"], "--noise_file (make: NOISE_FILE)"),
        (["--noise_file", "nowhere.npz"], "does not exist: check its name and folder"),
        (["--dataset", "folder", "--data", "nowhere"], "pass its path (--data, make: DATA)"),
        (
            ["--dataset", "cifar10", "--data", "nowhere"],
            "pass its path (--data, make: DATA), or set DATA_ROOT",
        ),
        (["--dataset", "folder", "--data", "one"], "list the labels of all pictures (--labels, "),
    ],
)
def test_what_cannot_be_is_refused_with_a_fix(compare, tmp_path, words, message):
    (tmp_path / "one" / "ash").mkdir(parents=True)
    run = compare("commands", *words)
    assert run.returncode == 2
    assert message in run.stderr
    assert run.stderr.startswith("error: ")
    assert "usage" not in run.stderr
    assert not (tmp_path / "c").exists()


def test_a_folder_of_the_user_stays_where_a_call_fails(compare, tmp_path):
    (tmp_path / "c").mkdir()
    assert compare("commands", "--noise_file", "nowhere.npz").returncode == 2
    assert (tmp_path / "c").exists()


@needs("instancegm", "re_sln", "ieg_fsr")
def test_a_flag_that_a_script_lacks_is_refused_before_any_training(compare, tmp_path):
    for further, script in (
        ("--no_such 3", "instancegm/instanceGM.py"),  # which itself would ignore it
        ("ce: --num_epochs 1 sln: --num_epochs=1", "re_sln/train_cifar.py"),
    ):
        run = compare("run", "--methods", "ce", "sln", "--args", further)
        assert run.returncode == 2
        assert f", which {script} does not know" in run.stderr
        assert not (tmp_path / "c").exists()
    right = "--limit_test=9 ce: --num_ep 1 --no-plots sln: --p 0 ieg: --nouse_ema"
    run = compare("commands", "--methods", "ce", "sln", "ieg", "--args", right)
    assert run.returncode == 0, run.stderr


def test_a_broken_picture_is_refused_without_flags_that_are_not_here(compare, tmp_path):
    for name, side in (("ash", 8), ("elm", 0)):
        (tmp_path / "mine" / name).mkdir(parents=True)
        if side:
            Image.new("L", (side, side)).save(tmp_path / "mine" / name / "1.png")
    (tmp_path / "mine/elm/2.png").write_bytes(b"no picture")
    run = compare("commands", "--dataset", "folder", "--data", "mine", "--kind", "symmetric")
    assert run.returncode == 2
    assert "1 of 2 pictures of" in run.stderr
    assert "repair or delete them\n" in run.stderr


def test_whose_environments_are_needed(compare, tmp_path):
    assert compare("projects").stdout == "instancegm re_sln lra_diffusion ieg_fsr\n"
    script = [sys.executable, ROOT / "compare"]  # from any folder
    words = ["projects", "--methods", "fsr", "ieg"]
    run = subprocess.run([*script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout == "ieg_fsr\n"


@pytest.mark.parametrize(("seeds", "flags"), [({"SEEDS": "1 2"}, "<1><2>"), ({"SEED": "3"}, "<3>")])
def test_what_make_is_told_becomes_flags(tmp_path, seeds, flags):
    notes, python, make = (tmp_path / name for name in ("notes", "python", "make"))
    python.write_text(f'#!/bin/sh\nprintf "<%s>" "$@" >> {notes}\n[ "$3" = run ] || echo re_sln\n')
    make.write_text(f'#!/bin/sh\necho "made $2" >> {notes}\n')
    for tool in (python, make):
        tool.chmod(0o755)
    told = {"DATASET": "folder", "DATA": "my images", "METHODS": "sln ieg"} | seeds
    told |= {"ARGS": "--skip_broken", "RAY": "auto", "PYTHON": str(python)}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    script = ROOT / "compare/scripts/compare.sh"
    subprocess.run([script, "compare"], env=os.environ | told | {"PATH": path}, check=True)
    assert notes.read_text().split("made setup-re_sln\n") == [
        "<-m><compare><projects><--methods><sln><ieg>",
        f"<-m><compare><run><--dataset><folder><--data><my images><--seeds>{flags}"
        "<--methods><sln><ieg><--ray><auto><--args=--skip_broken>",
    ]


@pytest.mark.training
@needs("instancegm", "re_sln")
def test_two_methods_from_noise_to_table(compare, tmp_path):
    words = ["--methods", "ce", "sln", "--args", TINY]
    run = compare("run", *words)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "[2/2] SLN+MO+LC, seed 1: time not measured" in run.stdout
    runs, _ = find_runs([tmp_path / "c"])
    assert [one.title for one in runs] == ["Cross-entropy", "SLN+MO+LC"]
    assert len({one.noise_sha256 for one in runs}) == 1
    assert "the labels of 2 runs were compared" in run.stdout
    head, *rows = (tmp_path / "c/table.csv").read_text().splitlines()
    assert head.startswith("method,seeds,last,last_deviation,best")
    assert [row.split(",")[0] for row in rows] == ["Cross-entropy", "SLN+MO+LC"]
    again = compare("run", *words)
    assert again.stdout.count("finished before") == 2
    assert not (tmp_path / "c/array.sbatch").exists()  # of `commands` alone
    moved = (tmp_path / "c").rename(tmp_path / "moved")
    for place in (moved, Path("moved")):
        run = compare("table", place)
        assert run.returncode == 0, run.stderr
        assert run.stdout.count("SLN+MO+LC") == 1
        assert "the labels of 2 runs were compared" in run.stdout
    (moved / "noise.npz").unlink()
    run = compare("table", moved)
    assert run.returncode == 2
    assert "noise.npz" in run.stderr
    assert "--noise_file" not in run.stderr


@pytest.mark.training
@needs("re_sln")
def test_a_printed_command_runs_from_any_folder(compare, tmp_path):
    run = compare("commands", "--methods", "sln", "--args", TINY)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for _ in range(2):  # the second time there is nothing left to do
        done = subprocess.run(
            ["bash", "-c", run.stdout.strip()],
            cwd=elsewhere,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == []
    assert Path(tmp_path / "c/sln-seed1/metrics.jsonl").read_text().count("\n") == 2
