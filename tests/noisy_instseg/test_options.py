"""The command lines: the published flags as they are, ours, and the combinations that are refused."""

import os
from pathlib import Path

import pytest

from noisy_instseg import experiment, options


def test_the_published_commands_are_understood():
    config = "configs/cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_nl_2.py"
    checkpoint = "work_dirs/mask_rcnn_r50_fpn_1x_cityscapes_nl_1/epoch_4.pth"
    args = options.parse(
        options.train_parser(), [config, "--launcher", "pytorch", "--resume-from", checkpoint]
    )
    assert (args.config, args.resume_from, args.seed) == (Path(config), Path(checkpoint), 0)
    args = options.parse(
        options.test_parser(), [config, checkpoint, "--eval", "bbox", "segm", "--out", "res.pkl"]
    )
    assert (args.eval, args.out, args.show_score_thr) == (["bbox", "segm"], Path("res.pkl"), 0.3)
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
    args = options.parse(options.train_parser(), [config, *everything])
    assert args.options == ["a=1", "b=2", "c=3"]
    assert options.parse(options.train_parser(), [config, "--resume"]).resume == options.NEWEST


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gpus", "2"], "tools/dist_train.sh CONFIG 2"),
        (["--gpu-ids", "0", "1"], "tools/dist_train.sh CONFIG 2"),
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
        options.parse(options.train_parser(), ["config.py", *flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "say what to do with the predictions"),
        (["--eval", "segm", "--format-only"], "exclude each other"),
        (["--eval", "cityscapes"], "invalid choice"),
        (["--out", "predictions.json"], "name it .pkl"),
        (["--show"], "--show needs a screen"),
        (["--show-dir", "p", "--show-score-thr", "3"], "scores lie in [0, 1]"),
    ],
)
def test_test_needs_something_to_do(flags, message, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SystemExit) as stop:
        options.parse(options.test_parser(), ["config.py", "epoch_1.pth", *flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_wandb_is_named_when_it_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        options.parse(options.train_parser(), ["config.py", "--wandb"])
    assert "pip install wandb" in capsys.readouterr().err


def test_devices_are_chosen_through_the_environment(monkeypatch):
    for name in (
        "LOCAL_RANK",
        "RANK",
        "WORLD_SIZE",
        "CUDA_VISIBLE_DEVICES",
        "CUBLAS_WORKSPACE_CONFIG",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    parse = lambda *flags: options.parse(options.train_parser(), ["config.py", *flags])  # noqa: E731
    options.choose_device(parse("--gpu-ids", "2", "--local_rank", "1"))
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["LOCAL_RANK"]) == ("2", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    options.choose_device(parse("--gpu-ids", "1", "--deterministic"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    options.choose_device(parse("--device", "cpu"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert "WORLD_SIZE" not in os.environ
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    options.choose_device(parse("--launcher", "slurm"))
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("3", "8")


def test_mmdetections_options_of_the_evaluation_are_told_apart():
    rest, evaluation = experiment.evaluation_options(
        ["classwise=True", "jsonfile_prefix=out/a", "val_dataloader.batch_size=2"]
    )
    assert rest == ["val_dataloader.batch_size=2"]
    assert evaluation == {"classwise": True, "outfile_prefix": "out/a"}
