"""The command lines: the published flags, ours, and the combinations that are refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOOLS

from noisy_instseg.analysis.config import (
    FindNoisyFlags,
    PicturesFlags,
    RobustnessFlags,
    parse_robustness,
)
from noisy_instseg.run import config as run_config
from noisy_instseg.run import experiment
from noisy_instseg.run.config import NEWEST, CheckDataFlags, EvaluateFlags, StagesFlags, TrainFlags
from noisy_instseg.run.device import prepare_environment
from noisy_instseg.run.flags import parse
from shared.errors import UserError


def test_the_published_commands_are_understood():
    config = "configs/cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_nl_2.py"
    checkpoint = "work_dirs/mask_rcnn_r50_fpn_1x_cityscapes_nl_1/epoch_4.pth"
    flags = parse(TrainFlags, [config, "--launcher", "pytorch", "--resume-from", checkpoint])
    assert (flags.config, flags.resume_from, flags.settings.seed) == (
        Path(config),
        Path(checkpoint),
        None,
    )
    flags = parse(EvaluateFlags, [config, checkpoint, "--eval", "bbox", "segm", "--out", "res.pkl"])
    assert (flags.metrics, flags.out, flags.show_score_thr) == (
        ("bbox", "segm"),
        Path("res.pkl"),
        0.3,
    )
    everything = [
        "--work-dir",
        "w",
        "--no-validate",
        "--gpus",
        "1",
        "--seed",
        "3",
        "--deterministic",
        "--options",
        "a=1",
        "b=2",
        "--cfg-options",
        "c=3",
        "--local-rank",
        "0",
    ]
    flags = parse(TrainFlags, [config, *everything])
    assert flags.settings.options == ("a=1", "b=2", "c=3")
    assert parse(TrainFlags, [config, "--resume"]).resume == NEWEST


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gpus", "2"], "tools/dist_train.sh CONFIG 2"),
        (["--gpu-ids", "2", "3"], "CUDA_VISIBLE_DEVICES=2,3 tools/dist_train.sh CONFIG 2 [flags]"),
        (["--gpu-ids", "2", "3", "--launcher", "pytorch"], "set CUDA_VISIBLE_DEVICES=2,3 instead"),
        (["--gpus", "8", "--launcher", "pytorch"], "--gpus 8: the launcher started 1 process"),
        (["--gpus", "1", "--gpu-ids", "0"], "not allowed with"),
        (["--gpus", "0"], "--gpus 0: must be at least 1"),
        (["--gpu-ids", "-1"], "GPUs are numbered from 0"),
        (["--device", "cpu", "--gpus", "1"], "contradict each other"),
        (["--resume", "b.pth", "--resume-from", "a.pth"], "drop one of them"),
        (["--limit_train", "0"], "must be at least 1"),
        (["--seed", "-1"], "must be in [0, 2^32)"),
        (["--options", "train_cfg"], "expected KEY=VALUE"),
        (["--amp", "fp16"], "invalid choice"),
        (["--res", "a.pth"], "unrecognized arguments"),
    ],
)
def test_what_contradicts_itself_is_refused(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(TrainFlags, ["config.py", *flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "say what to do with the predictions"),
        (["--eval", "segm", "--format-only"], "exclude each other"),
        (["--eval", "cityscapes"], "invalid choice"),
        (["--eval", "segm", "--gpu-collect", "--tmpdir", "t"], "drop one of them"),
        (["--out", "predictions.json"], "name it .pkl"),
        (["--show"], "--show needs a screen"),
        (["--show-dir", "p", "--show-score-thr", "3"], "scores lie in [0, 1]"),
    ],
)
def test_test_needs_something_to_do(flags, message, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SystemExit) as stop:
        parse(EvaluateFlags, ["config.py", "epoch_1.pth", *flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_number_of_gpus_is_that_of_the_launcher(monkeypatch, capsys):
    flags = ["config.py", "--launcher", "slurm", "--gpus", "8"]
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert parse(TrainFlags, flags).settings.gpus == 8
    monkeypatch.setenv("WORLD_SIZE", "4")  # which mmengine reads
    with pytest.raises(SystemExit):
        parse(TrainFlags, flags)
    assert "the launcher started 4 process(es)" in capsys.readouterr().err


def test_wandb_is_named_when_it_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(run_config.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        parse(TrainFlags, ["config.py", "--wandb"])
    assert "pip install wandb" in capsys.readouterr().err


def test_devices_are_chosen_through_the_environment(monkeypatch):
    for name in (
        "LOCAL_RANK",
        "RANK",
        "WORLD_SIZE",
        "CUDA_VISIBLE_DEVICES",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def settings(*flags: str):
        return parse(TrainFlags, ["config.py", *flags]).settings

    prepare_environment(settings("--gpu-ids", "2", "--local_rank", "1"))
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["LOCAL_RANK"]) == ("2", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    prepare_environment(settings("--gpu-ids", "1"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    prepare_environment(settings("--device", "cpu"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert "WORLD_SIZE" not in os.environ
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    prepare_environment(settings("--launcher", "slurm"))
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("3", "8")


def test_mmdetections_options_of_the_evaluation_are_told_apart():
    rest, evaluation = experiment.evaluation_options(
        ["classwise=True", "jsonfile_prefix=out/a", "val_dataloader.batch_size=2"]
    )
    assert rest == ("val_dataloader.batch_size=2",)
    assert evaluation == {"classwise": True, "outfile_prefix": "out/a"}
    with pytest.raises(UserError, match="a bracket is open or too many"):
        experiment.evaluation_options(["classwise=(1,2"])


CONFIG_AND_CHECKPOINT = ["config.py", "epoch_1.pth"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (TrainFlags, ["config.py"]),
        (StagesFlags, ["config.py", "config.py"]),
        (EvaluateFlags, [*CONFIG_AND_CHECKPOINT, "--eval", "segm"]),
        (CheckDataFlags, ["config.py"]),
        (FindNoisyFlags, CONFIG_AND_CHECKPOINT),
        (PicturesFlags, [*CONFIG_AND_CHECKPOINT, "--out", "a.png"]),
    ],
)
def test_what_changes_a_config_is_the_same_in_every_tool(kind, words):
    given = ["--cfg-options", "a=1", "b=2", "--data_root", "here", "--options", "c=3"]
    settings = parse(kind, [*words, *given]).settings
    assert settings.options == ("a=1", "b=2", "c=3")
    assert settings.data_root == Path("here")
    with pytest.raises(SystemExit):
        parse(kind, [*words, "--cfg-options", "a"])


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        (FindNoisyFlags, [*CONFIG_AND_CHECKPOINT, "--limit_train", "0"], "must be at least 1"),
        (PicturesFlags, ["--names", "a", "b"], "2 names for 1 checkpoints"),
        (PicturesFlags, ["--images", "0"], "must be at least 1"),
        (PicturesFlags, ["--score_thr", "1.5"], "scores lie in"),
        (RobustnessFlags, ["--plot-only", "--rates", "1.5"], "lies in [0, 1]"),
        (RobustnessFlags, ["--plot-only", "--seeds", "-1"], "must be in"),
        (RobustnessFlags, ["--plot-only", "--", "--seed", "3"], "decides that itself"),
        (RobustnessFlags, ["--plot-only", "--", "--noise_file=a.json"], "--noise_file behind --"),
        (RobustnessFlags, [], "are needed, except with --plot-only"),
    ],
)
def test_what_tools_refuse(kind, words, message, capsys):
    if kind is PicturesFlags:
        words = [*CONFIG_AND_CHECKPOINT, "--out", "a.png", *words]
    with pytest.raises(SystemExit) as stop:
        parse_robustness(["--out", "s", *words]) if kind is RobustnessFlags else parse(kind, words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


TOOL_NAMES = sorted(path.stem for path in TOOLS.glob("*.py"))


@pytest.mark.parametrize("flag", ["--help", "--wrong"])
@pytest.mark.parametrize("name", TOOL_NAMES)
def test_help_and_a_wrong_flag_wait_for_no_framework(name, flag, tmp_path):
    command = [sys.executable, "-X", "importtime", str(TOOLS / f"{name}.py"), flag]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if flag == "--help" else 2)
    assert "usage: " in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert not imported & {"torch", "mmdet", "mmcv", "mmengine", "matplotlib", "sklearn", "scipy"}


def test_checking_does_not_wait_for_mmdet():
    code = (
        "import sys, noisy_instseg.run.data_checks; print([name for name in ('mmdet', 'mmcv') if "
        "name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=TOOLS.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
