"""What tools say: flags that they take, signs of life, one line for Ctrl-C, the batch first."""

import ast
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, SHAPES, TOOLS, environment, main, rows

from noisy_instseg.analysis.config import CompareFlags, FindNoisyFlags, PicturesFlags
from noisy_instseg.run import experiment, flags, progress, run_folder
from noisy_instseg.run.config import CheckDataFlags, EvaluateFlags, StagesFlags, TrainFlags
from shared.errors import UserError
from tests import interrupts

PROJECT = ROOT / "noisy_instseg"

# ---- flags in messages

TOOL_FLAGS = {
    "train": TrainFlags,
    "train_stages": StagesFlags,
    "test": EvaluateFlags,
    "check_data": CheckDataFlags,
    "find_noisy": FindNoisyFlags,
    "pictures": PicturesFlags,
    "compare": CompareFlags,
}
READ_CONFIGS = set(TOOL_FLAGS) - {"compare"}
TRAIN = {"train", "train_stages"}
SAID_BY = {  # module -> tools whose messages it words
    "run/datasets.py": READ_CONFIGS,
    "run/data_checks.py": READ_CONFIGS,
    "run/annotations.py": READ_CONFIGS,
    "run/experiment.py": READ_CONFIGS,
    "run/trial_build.py": TRAIN,
    "run/checkpoints.py": READ_CONFIGS,
    "run/hooks.py": TRAIN,
    "run/training.py": {"train"},  # the other one goes on by itself
    "run/evaluation.py": {"test"},
    "analysis/trained_model.py": {"find_noisy", "pictures"},
    "analysis/noise_ranking.py": {"find_noisy"},
    "analysis/prediction_page.py": {"pictures"},
    "analysis/run_table.py": {"compare"},
    "tools/train.py": {"train"},
    "tools/find_noisy.py": {"find_noisy"},
    "tools/pictures.py": {"pictures"},
}
# of the converters, of those who say which tool's they are, or of what only such a flag leads to
OTHERS = {"--nproc", "--out-dir", "--noise_file"}


def said_flags(path: Path) -> set[str]:
    """The flags in the texts of a module that are no docstrings and name no other tool."""
    module = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and isinstance(node.body[0], ast.Expr)
    }
    found = set()
    for node in ast.walk(module):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in docs else None
        if isinstance(text, str) and not re.match(r"train\.py (its|or test\.py)", text):
            found |= set(re.findall(r"(?<![\w-])--[a-z][a-z_-]*[a-z]", text))
    return found - OTHERS


@pytest.mark.parametrize("module", SAID_BY)
def test_a_tool_takes_the_flags_that_its_messages_name(module):
    for tool_name in SAID_BY[module]:
        taken = {
            name
            for one, _ in flags._flags_of(TOOL_FLAGS[tool_name])
            for name in flags._names(one)
            if name.startswith("--")
        }
        if module == "run/checkpoints.py" and tool_name not in TRAIN:
            taken.add("--work-dir")  # of the sentence about resuming a run
        assert said_flags(PROJECT / module) <= taken, tool_name


# ---- the batch


def test_a_batch_that_is_not_the_published_one_is_said_first(capsys, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    config = PROJECT / "configs/cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_nl_1.py"

    def said(*options: str) -> str:
        settings = flags.parse(
            TrainFlags, [str(config), "--data_root", "nowhere", *options]
        ).settings
        with pytest.raises(UserError, match="nowhere"):  # before the data are looked for
            experiment.load(config, settings, trains=True)
        return capsys.readouterr().err

    note = said()
    assert note.startswith("note: batch: 1 process(es) x 1 image(s) = 1 a step")
    assert "is made for 8" in note
    first, second = re.findall(r"--cfg-options (\S+?)(?:;|\s|$)", note)
    assert said("--cfg-options", first) == ""
    assert said("--cfg-options", second) == ""
    assert said("--cfg-options", "optim_wrapper.accumulative_counts=8") == ""
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert said() == ""


# ---- signs of life


def test_without_a_terminal_there_is_a_line_at_start_and_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert list(progress.watched("abc", "reading", 3, "letter")) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == [
        "reading: 3 letters",
        *(f"reading: letter {number} of 3" for number in (1, 2, 3)),
    ]
    monkeypatch.setattr(progress, "EVERY", 60.0)
    assert list(progress.watched("abc", "reading", 3, "letter", least=4)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "1")
    assert list(progress.watched("abc", "reading", 3, "letter")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_training_and_testing_show_life(
    stages, stage_configs, train, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert train(stage_configs[0], "--cfg-options", "train_cfg.max_epochs=1") == 0
    said = capsys.readouterr().err.splitlines()
    assert "epoch 1: 2 steps" in said
    assert any(
        re.fullmatch(r"epoch 1: step 1 of 2, loss [\d.]+, [\d.,]+ images/s", one) for one in said
    )
    assert any(one.startswith("evaluation after epoch 1: step 1 of 1, ") for one in said)
    checkpoint = stages / "tiny_nl_2/epoch_4.pth"
    assert main("test", stage_configs[1], checkpoint, "--eval", "segm", "--work-dir", "t") == 0
    assert "testing: 1 steps" in capsys.readouterr().err.splitlines()


# ---- Ctrl-C

SCRIPTS = {  # script, arguments, an import after the flags are read
    "tools/train.py": (["{config}"], "mmengine"),
    "tools/train_stages.py": (["{config}", "{config}"], "mmengine"),
    "tools/test.py": (["{config}", "a.pth", "--eval", "segm"], "mmengine"),
    "tools/check_data.py": (["{config}"], "mmengine"),
    "tools/find_noisy.py": (["{config}", "a.pth"], "torch"),
    "tools/pictures.py": (["{config}", "a.pth", "--out", "a.png"], "torch"),
    "tools/compare.py": (["a"], "noisy_instseg.analysis.run_table"),
    "tools/robustness.py": (["--plot-only", "--out", "a"], "noisy_instseg.analysis.study"),
    "tools/convert_datasets/cityscapes.py": (["a"], "numpy"),
    "tools/convert_datasets/voc.py": (["a"], "pycocotools"),
    "noisy_labels_SN_COCO.py": (["--ann", "a.json", "--out", "b.json"], "numpy"),
    "noisy_labels_AN_VOC.py": (["--ann", "a.json", "--out", "b.json"], "shared.cli"),
}


@pytest.mark.training  # twelve processes
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_interrupt_while_importing_is_one_line(script, tmp_path):
    arguments, module = SCRIPTS[script]
    config = str(SHAPES / "mask_rcnn_tiny_shapes_ce.py")
    words = [argument.format(config=config) for argument in arguments]
    found = {**environment(), "PYTHONPATH": str(ROOT)}
    done = interrupts.interrupted(PROJECT / script, words, module, tmp_path, found)
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("interrupted")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def started(name: str, *arguments: object, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(TOOLS / name), *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background makes them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


@pytest.mark.training
def test_an_interrupt_in_the_middle_says_how_to_go_on(stage_configs, tmp_path):
    process = started("train_stages.py", *stage_configs, "--work-dir", "runs", folder=tmp_path)
    wait_for(tmp_path / "runs/tiny_nl_1/epoch_1.pth", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    # It may come before the end of a line about progress, whose newline is a write of its own.
    assert errors.endswith("interrupted; the same command continues after the last whole epoch\n")
    assert "Traceback" not in errors


# ---- one process per run folder


@pytest.mark.training
def test_a_second_command_is_refused_and_harms_nothing(stage_configs, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = [stage_configs[0], "--work-dir", folder]
    process = started("train.py", *arguments, folder=tmp_path)
    wait_for(folder / ".holder", process)
    assert main("train", *arguments) == 2
    errors = capsys.readouterr().err
    assert f"{folder} is in use by process {process.pid} on " in errors
    assert "choose another --work-dir" in errors
    assert process.wait(timeout=240) == 0
    assert [row["epoch"] for row in rows(folder)] == [1, 2]
    assert main("train", *arguments, "--resume") == 0  # nobody is in it any more
    assert "the run is done" in capsys.readouterr().out


def test_a_folder_that_was_not_used_is_not_left_behind(tmp_path, monkeypatch):
    folder = tmp_path / "deep/run"
    with pytest.raises(UserError, match="no"), run_folder.locked(folder):
        raise UserError("no")
    with run_folder.locked(folder):
        pass
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RANK", "1")  # the first process locks
    with run_folder.locked(folder):
        assert not folder.exists()


def test_two_stages_lock_both_folders(stages, stage_configs, capsys):
    with run_folder.locked(stages / "tiny_nl_2"):
        assert main("train_stages", *stage_configs, "--work-dir", stages) == 2
    assert "tiny_nl_2 is in use by process" in capsys.readouterr().err


# ---- a full disk


@pytest.mark.training
@pytest.mark.parametrize("name", ["epoch_1.pth", "metrics.jsonl"])
def test_a_full_disk_names_the_file_and_the_way_on(
    name, train, stage_configs, tmp_path, capsys, monkeypatch
):
    from noisy_instseg.run import checkpoints

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "run" / name))

    if name == "metrics.jsonl":
        monkeypatch.setattr(run_folder, "append_row", full)
    else:
        monkeypatch.setattr(checkpoints, "write_atomically", full)
    assert train(stage_configs[0], "--work-dir", "run") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: no space left to write {tmp_path / 'run' / name}: free some space, then the same "
        "command with --resume"
    )


def test_a_row_that_cannot_be_written_names_its_file(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"metrics\.jsonl"):
        run_folder.append_row(tmp_path, {"epoch": 1})
