"""Messages: the flags that they name, full disks, Ctrl-C, Ray that does not start."""

import ast
import errno
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import SCRIPTS, TINY, environment

from re_sln import make_dependent_noise, plot, table, tune
from re_sln.method.train import TrainingSet
from re_sln.run import record, report
from re_sln.run.config import parse
from re_sln.search import cores
from tests import interrupts

SEARCH = [*TINY, "--n_epochs", "1", "--device", "cpu"]
GRID = ["--dataset_name", "digits", "--noise_mode", "sym", "--limit_train", "96", "--n_epochs", "2"]

# ---- the flags that messages name (those of other commands stand in backticks)

EVERY = ("train_cifar", "train_real", "tune", "table", "plot", "viz", "results")
TRAIN = ("train_cifar", "train_real")
# Module: the scripts that print its messages.
MODULES = {
    "run/experiment.py": (*TRAIN, "tune"),
    "run/data.py": TRAIN,
    "run/report.py": TRAIN,
    "run/broken_images.py": ("train_real",),
    "run/places.py": (*TRAIN, "tune", "table", "plot", "viz"),
    "run/device.py": (*TRAIN, "tune", "table", "plot", "make_dependent_noise"),
    "run/labels.py": ("train_cifar", "tune"),
    "method/disk_images.py": ("train_real",),
    "search/sigma_search.py": ("tune",),
    "search/sigma_trial.py": ("tune",),
    "search/paper_grid.py": ("table",),
    "search/ray_backend.py": ("tune", "table"),
    "analysis/scores.py": ("plot",),
    "analysis/finished_runs.py": ("plot", "results", "table"),
    "analysis/overview.py": ("results",),
    "analysis/searches.py": ("results",),
    "plot.py": ("plot",),
    "viz.py": ("viz",),
    "results.py": ("results",),
    "make_dependent_noise.py": ("make_dependent_noise",),
}
# A share that only a search splits off; a part of a command in backticks; of networks that only
# train_real.py has; of several processes, which a search never is.
EXPLAINED = [
    ("run/data.py", "--val_size"),
    ("run/labels.py", "--exclude_true_class"),
    ("run/experiment.py", "--pretrained"),
    ("run/experiment.py", "--sync_bn"),
]


def flags_of(script):
    command = [sys.executable, str(SCRIPTS / f"{script}.py")]
    texts = [[*command, "--help"]]
    if script == "viz":
        texts = [[*command, name, "--help"] for name in ("cifar10", "digits")]
    said = [
        subprocess.run(text, capture_output=True, text=True, env=environment()) for text in texts
    ]
    return {flag for done in said for flag in re.findall(r"--\w+", done.stdout)}


def named_flags(module):
    """The flags in the module's texts; those of other commands stand in backticks."""
    nodes = list(ast.walk(ast.parse((SCRIPTS / module).read_text())))
    texts = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    inner = {id(part) for text in texts for part in text.values}
    inner |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    texts += [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in inner]
    for node in texts:
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(str(getattr(part, "value", "X")) for part in parts)
        if " " in text:  # else a flag that is declared or passed on
            yield from re.findall(r"(?<![\w-])--[a-z]\w+", re.sub(r"`[^`]*`", "", text))


def test_every_flag_that_a_message_names_is_a_flag_of_the_command():
    known = {script: flags_of(script) for script in {*EVERY, "make_dependent_noise"}}
    wrong = {
        (module, flag, script)
        for module, scripts in MODULES.items()
        for flag in named_flags(module)
        for script in scripts
        if flag not in known[script] and (module, flag) not in EXPLAINED
    }
    assert wrong == set()


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (tune, [*SEARCH, "--lc_n_epoch", "2"]),
        (tune, [*SEARCH, "--mo", "--lc_n_epoch", "7"]),
        (tune, [*SEARCH, "--mo", "--lc_n_epoch", "0"]),
        (table, [*GRID, "--seeds", "-1"]),
        (table, [*GRID, "--n_epochs", "1"]),
    ],
)
def test_examples_of_flags_that_were_of_another_command(script, flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(flags)
    error = capsys.readouterr().err.partition("error: ")[2]
    known = flags_of(script.__name__.rpartition(".")[2])
    named = set(re.findall(r"--\w+", error))
    assert named
    assert named <= known


def test_the_teacher_of_another_run_is_refused_in_the_words_of_its_command(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    flags = ["--dataset_name", "digits", "--out", "noise.npz", "--device", "cpu"]
    other = {"known": {"epochs": 1}, "net": {}, "total": None, "epoch": 1}
    monkeypatch.setattr("re_sln.run.checkpoint.load", lambda *a: other)
    (tmp_path / "noise.npz.ckpt").write_text("")
    monkeypatch.setattr("re_sln.run.checkpoint.save", lambda *a: pytest.fail("went on"))
    assert make_dependent_noise.main(flags) == 2
    error = capsys.readouterr().err
    assert "epochs: 1 then, 10 now" in error
    assert "another --out" in error
    assert "--output_dir" not in error


# ---- full disks


@pytest.mark.training
def test_a_full_disk_names_the_file_and_the_way_on(main, tmp_path, capsys, monkeypatch):
    real_open = open

    def full(path, *mode, **more):
        file = real_open(path, *mode, **more)
        if str(path).endswith("metrics.jsonl") and mode == ("a",):
            file.close()
            file = real_open("/dev/full", "w")
        return file

    monkeypatch.setattr(record, "open", full, raising=False)
    assert main(*TINY, "--method", "ce", "--output_dir", "run") == 2
    error = capsys.readouterr().err
    assert "no space left to write run" in error
    assert "run the same command with --resume" in error
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(*TINY, "--method", "ce", "--output_dir", "run", "--resume") == 0


def no_space(*args, **more):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/last.ckpt")


@pytest.mark.training
@pytest.mark.parametrize(
    ("script", "flags", "again"),
    [(tune, SEARCH, "command with --resume"), (table, [*GRID, "--device", "cpu"], "command again")],
)
def test_a_full_disk_in_one_of_many_trainings(script, flags, again, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("re_sln.run.checkpoint.save", no_space)
    assert script.main([*flags, "--backend", "local", "--output_dir", "all"]) == 2
    said = capsys.readouterr()
    assert "no space left to write a/last.ckpt: free some space" in said.out + said.err
    assert f"run the same {again}" in said.out + said.err


@pytest.mark.training
@pytest.mark.parametrize(("epochs", "kept"), [(1, False), (2, True)])
def test_the_last_good_checkpoint_is_promised_only_where_there_is_one(
    main, capsys, monkeypatch, epochs, kept
):
    if kept:
        assert main(*TINY, "--method", "ce", "--n_epochs", 1, "--output_dir", "run") == 0
    monkeypatch.setattr(
        "re_sln.method.train.soft_cross_entropy", lambda logits, _: logits.float().sum(1) / 0
    )
    flags = ["--n_epochs", epochs, "--output_dir", "run", "--resume"]
    assert main(*TINY, "--method", "ce", *flags) == 3
    assert ("last good epoch is kept in run" in capsys.readouterr().err) is kept


# ---- Ctrl-C

COMMANDS = {
    "train_cifar": [*TINY, "--method", "ce", "--n_epochs", "5000"],
    "train_real": ["--dataset_name", "animal-10n", "--method", "ce"],
    "tune": [*SEARCH, "--n_epochs", "5000", "--backend", "local"],
    "table": [*GRID, "--n_epochs", "5000", "--backend", "local"],
    "plot": ["--exp_id", "none", "--plot_type", "curves"],
    "results": [],
    "viz": ["digits", "--noise_mode", "sym"],
    "make_dependent_noise": ["--dataset_name", "digits", "--n_epochs", "5000", "--out", "n.npz"],
}


@pytest.mark.parametrize("script", COMMANDS)
def test_ctrl_c_before_the_flags_are_read_is_one_line(script, tmp_path):
    done = interrupted(script, [], "re_sln.run.errors", tmp_path)
    assert done.returncode == 130
    assert done.stderr == "interrupted; run the same command again\n"


@pytest.mark.parametrize("script", COMMANDS)
def test_ctrl_c_while_importing_is_one_line(script, tmp_path):
    """When the script is just about to import torch, which takes seconds."""
    done = interrupted(script, COMMANDS[script], "torch", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (130, 1), done.stderr
    assert done.stderr.startswith("interrupted; run the same command")
    assert ("--resume" in done.stderr) == (script in ("train_cifar", "train_real", "tune"))


def interrupted(script, flags, module, folder):
    path = SCRIPTS / f"{script}.py"
    return interrupts.interrupted(path, flags, module, folder, environment())


@pytest.mark.training
@pytest.mark.parametrize("script", ["train_cifar", "tune", "table", "make_dependent_noise"])
def test_ctrl_c_in_the_middle_is_one_line(script, tmp_path):
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *COMMANDS[script]]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background makes them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 200
    while not [*tmp_path.rglob("last.ckpt"), *tmp_path.glob("n.npz.ckpt")]:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("interrupted; run the same command")


def test_ctrl_c_stops_all_pictures(monkeypatch, capsys):
    drawn = []

    def interrupted(run, request):
        drawn.append(run)
        raise KeyboardInterrupt

    monkeypatch.setattr(plot, "draw", interrupted)
    monkeypatch.setattr("re_sln.analysis.finished_runs.find", lambda name: name)
    assert plot.main(["--exp_id", "a", "b", "--plot_type", "tsne"]) == 130
    assert drawn == ["a"]
    assert len(capsys.readouterr().err.splitlines()) == 1


# ---- Ray


@pytest.mark.training
@pytest.mark.parametrize("error", [Exception("the current node timed out"), AssertionError()])
def test_ray_that_does_not_start_is_a_message(error, tmp_path, capsys, monkeypatch):
    def fail(*args, **more):
        assert more["num_cpus"] == cores.usable_cores()
        raise error

    # Ray itself, once imported, would keep what it read of the environment for other tests.
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=fail))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert tune.main([*SEARCH, "--output_dir", str(tmp_path / "hp")]) == 2
    said = capsys.readouterr().err
    assert str(error) in said
    assert "--backend local" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("affinity", "slurm", "quota", "expected"),
    [
        (8, {}, None, 8),
        (8, {"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "16"}, None, 3),
        (8, {"SLURM_CPUS_ON_NODE": "4"}, None, 4),
        (2, {"SLURM_CPUS_ON_NODE": "4"}, None, 2),
        (8, {"SLURM_CPUS_PER_TASK": "many"}, "250000 100000", 2),
        (8, {}, "50000 100000", 1),
        (8, {}, "max 100000", 8),
    ],
)
def test_cores_that_this_process_may_use(affinity, slurm, quota, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(affinity), raising=False)
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert cores.usable_cores() == expected


# ---- notes


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        ("--method sln_mo_lc", None),
        ("--method sln_mo", None),
        ("--method ce --n_epochs 1", None),
        (
            "--method sln_mo --n_epochs 5",
            "100 steps or so, and the run has 115: more",
        ),
        (
            "--method sln_mo_lc --n_epochs 12",
            "4.3 epochs or so, and labels are corrected after 9",
        ),
    ],
)
def test_a_run_that_is_too_short_for_its_average_says_so(flags, note, capsys):
    """On as many images as digits has; what `make re_sln-digits` trains is long enough."""
    words = ["--dataset_name", "digits", "--noise_mode", "sym", *flags.split()]
    train_set = TrainingSet(None, torch.zeros(1442, 10), None)
    run = SimpleNamespace(
        config=parse("train_cifar", words), data=SimpleNamespace(train_set=train_set)
    )
    report._warn_of_slow_average(run)
    said = capsys.readouterr().out
    assert said == "" if note is None else f"averages the last {note}" in said
