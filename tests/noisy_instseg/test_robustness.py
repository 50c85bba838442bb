"""robustness.py: its commands, its resuming, and real training at the smallest size."""

import csv
import json
from pathlib import Path

import pytest
from conftest import SHAPES, rows, tool

from noisy_instseg.analysis import study as robustness
from noisy_instseg.analysis.study import Study, Trial
from shared.errors import UserError

FAMILY = SHAPES / "mask_rcnn_tiny_shapes"
CONFIG = "train_cfg = dict(max_epochs={})\n"
# Stands for train.py and train_stages.py: an epoch is a line; with a file `fail` beside it, the
# next call stops after one.
FAKE = """
import json, sys
from pathlib import Path
flags = sys.argv[1:]
out = Path(flags[flags.index("--work-dir") + 1])
epochs = ((1, 3), (3, 5))
stages = [(out / Path(config).stem, range(*some)) for config, some in zip(flags[:2], epochs)]
if "train.py" in sys.argv[0]:
    stages = [(out, range(3 if "--resume-from" in flags else 1, 5))]
with open(Path(__file__).with_name("calls.txt"), "a") as file:
    file.write(json.dumps(flags) + chr(10))
seed = int(flags[flags.index("--seed") + 1])
fail = Path(__file__).with_name("fail")
for folder, epochs in stages:
    folder.mkdir(parents=True, exist_ok=True)
    config = f"train_cfg = dict(max_epochs={epochs[-1]})" + chr(10)
    (folder / (folder.name + ".py")).write_text(config)
    metrics = folder / "metrics.jsonl"
    known = metrics.read_text().count("epoch") if metrics.exists() else 0
    for epoch in epochs[known:]:
        row = {"epoch": epoch, "segm_mAP": 0.1 * epoch + seed / 100, "bbox_mAP": 0.5}
        row["seconds"] = 1.0
        with metrics.open("a") as file:
            file.write(json.dumps(row) + chr(10))
        (folder / f"epoch_{epoch}.pth").write_bytes(b"")
        if fail.exists():
            fail.unlink()
            print("error: the disk is full", file=sys.stderr)
            sys.exit(int(2))
"""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training that takes no time, in place of tools/."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("train.py", "train_stages.py"):
        (folder / name).write_text(FAKE)
    monkeypatch.setattr(robustness, "TOOLS", folder)
    monkeypatch.setattr(robustness.signal, "signal", lambda *_: None)
    return folder


def calls(fakes: Path) -> list[list[str]]:
    path = fakes / "calls.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def flags_for(data: Path, out: Path, *more: str) -> list[str]:
    annotations = str(data / "annotations/instances_train.json")
    return [
        "--dataset-config",
        str(FAMILY),
        "--ann",
        annotations,
        "--out",
        str(out),
        "--rates",
        "0",
        "0.5",
        *more,
    ]


def table(out: Path) -> list[dict[str, str]]:
    with (out / "robustness.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.training
def test_a_study_is_done_once_and_can_grow(fakes, data, tmp_path, capsys):
    out, script = tmp_path / "study", tool("robustness")
    assert script.main([*flags_for(data, out), "--", "--data_root", str(data)]) == 0
    assert [(row["method"], row["rate"]) for row in table(out)] == [
        ("nl", "0.0"),
        ("ce", "0.0"),
        ("nl", "0.5"),
        ("ce", "0.5"),
    ]
    assert {row["epochs"] for row in table(out)} == {"4"}
    assert {row["seconds"] for row in table(out)} == {"4.0"}  # stage 1 counts for both
    realised = float(table(out)[3]["realised_rate"])
    manifest = json.loads((out / "noise/symmetric_0.5_seed0.manifest.json").read_text())
    assert realised == pytest.approx(manifest["realised_rate"], abs=1e-6) != 0
    assert (out / "robustness.png").read_bytes().startswith(b"\x89PNG")
    first = calls(fakes)
    assert len(first) == 4
    assert all(call[-2:] == ["--data_root", str(data)] for call in first)
    assert (
        script.main([*flags_for(data, out, "--seeds", "0", "7"), "--", "--data_root", str(data)])
        == 0
    )
    assert len(calls(fakes)) == 8
    assert len(table(out)) == 8
    assert "[8/8] rate 0.5, seed 7, ce: mask AP 47.0 %" in capsys.readouterr().out
    before = table(out)
    grown = flags_for(data, out, "--methods", "ce", "--seeds", "7", "--rates", "0", "0.2")
    assert script.main([*grown, "--", "--data_root", str(data)]) == 0
    assert len(calls(fakes)) == 9
    assert [row for row in table(out) if row["rate"] != "0.2"] == sorted(
        before, key=lambda row: (row["method"], row["rate"], row["seed"]) == ("ce", "0.0", "7")
    )  # the row that was asked for again stands with the new one, behind


def test_it_goes_on_where_it_was_stopped(fakes, data, tmp_path, capsys):
    out, script = tmp_path / "study", tool("robustness")
    (fakes / "fail").touch()
    flags = flags_for(data, out, "--methods", "sce", "ce")
    assert script.main(flags) == 2
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert error.count("\n") == 1
    assert not (out / "robustness.csv").exists()
    assert script.main(flags) == 0
    starts = [("--resume" in call, "--resume-from" in call) for call in calls(fakes)]
    assert starts == [(False, False), (True, False), (False, False), (False, False), (False, False)]
    assert [row["method"] for row in table(out)] == ["ce", "sce", "ce", "sce"]


def test_cross_entropy_goes_on_from_a_finished_first_stage_only(fakes, data, tmp_path):
    study = Study(
        FAMILY,
        data / "annotations/instances_train.json",
        "symmetric",
        tmp_path / "out",
        ("--device", "cpu"),
    )
    trial = Trial(0.2, 3, "ce")
    assert "--resume-from" not in robustness.command(study, trial)
    stage_1 = study.folder(trial, "nl_1")
    stage_1.mkdir(parents=True)
    (stage_1 / "a.py").write_text(CONFIG.format(6))
    for epoch in (2, 6, 10):
        (stage_1 / f"epoch_{epoch}.pth").touch()
    (stage_1 / "metrics.jsonl").write_text('{"epoch": 2}\n')
    assert "--resume-from" not in robustness.command(study, trial)
    (stage_1 / "metrics.jsonl").write_text('{"epoch": 6}\n')
    found = robustness.command(study, trial)
    assert found[found.index("--resume-from") + 1] == str(stage_1 / "epoch_10.pth")
    assert found[-2:] == ["--device", "cpu"]
    folder = study.folder(trial)
    folder.mkdir()
    (folder / "metrics.jsonl").touch()  # stopped in its first epoch
    assert "--resume-from" in robustness.command(study, trial)
    (folder / "epoch_11.pth").touch()
    assert "--resume" in robustness.command(study, trial)


def test_seeds_and_rates_are_trained_once_each_and_stage_1_first():
    planned = list(robustness.trials([0.4, 0, 0.4], [1, 0, 1], ["ce", "nl", "ce"]))
    assert [(t.seed, t.rate, t.method) for t in planned] == [
        (seed, rate, method) for seed in (1, 0) for rate in (0, 0.4) for method in ("nl", "ce")
    ]


def test_the_curve_is_over_the_realised_rates_and_all_seeds():
    read = [
        dict(zip(robustness.COLUMNS, values))
        for values in (
            ("ce", "0.4", "0.38", "0", "0.2", "0.2", "4", "9"),
            ("ce", "0.4", "0.42", "1", "0.3", "0.2", "4", "9"),
            ("nl", "0", "0", "0", "0.5", "0.5", "4", "9"),
            ("ce", "0", "0", "0", "0.6", "0.5", "4", "9"),
        )
    ]
    assert robustness.curves(read) == {
        robustness.METHODS["nl"]: [(0.0, [0.5])],
        robustness.METHODS["ce"]: [(0.0, [0.6]), (pytest.approx(0.4), [0.2, 0.3])],
    }


def test_plot_only_draws_the_table_again(tmp_path, capsys):
    line = "ce,0.4,0.38,0,0.2,0.2,4,9.0\n"
    (tmp_path / "robustness.csv").write_text(",".join(robustness.COLUMNS) + "\n" + line)
    before = (tmp_path / "robustness.csv").read_bytes()
    assert tool("robustness").main(["--plot-only", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "robustness.csv").read_bytes() == before


def test_another_study_does_not_mix_with_this_one(fakes, data, tmp_path, capsys):
    out, script = tmp_path / "study", tool("robustness")
    assert script.main(flags_for(data, out, "--methods", "gce")) == 0
    assert script.main([*flags_for(data, out, "--methods", "gce"), "--", "--limit_train", "4"]) == 2
    assert "holds another study" in capsys.readouterr().err
    assert script.main(flags_for(data, out, "--kind", "asymmetric")) == 2
    assert len(calls(fakes)) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--ann", "none.json"], "no such file"),
        (["--dataset-config", "configs/none"], "there is no"),
        (["--plot-only"], "run without --plot-only first"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    fakes, data, tmp_path, monkeypatch, capsys, flags, said
):
    monkeypatch.chdir(tmp_path)
    assert tool("robustness").main([*flags_for(data, tmp_path / "study"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "study").exists()
    assert calls(fakes) == []


def test_noise_rules_are_those_of_the_configs_folder():
    for folder, dataset in (
        ("coco", "coco"),
        ("voc", "voc"),
        ("shapes", "coco_format"),
        ("mine", "coco_format"),
    ):
        assert (
            Study(Path("configs", folder, "x"), Path("a"), "symmetric", Path("o"), ()).dataset
            == dataset
        )


def test_a_run_without_evaluation_is_not_done(fakes, data, tmp_path):
    (fakes / "train.py").write_text("")
    study = Study(
        FAMILY, data / "annotations/instances_train.json", "symmetric", tmp_path / "out", ()
    )
    with pytest.raises(UserError, match="before its last epoch"):
        robustness.train(study, Trial(0.2, 0, "ce"))


def test_real_training_shares_the_first_stage(
    stages, stage_configs, data, tmp_path, monkeypatch, capsys
):
    """Stage 1 as trained elsewhere is taken over, so that only plain cross-entropy is trained here,
    for its last two epochs.
    """
    base, ce = stage_configs[1].read_text(), tmp_path / "tiny_ce.py"
    ce.write_text(base.replace("_nl_2.py", "_ce.py"))
    for path in stage_configs:
        (tmp_path / path.name).write_text(path.read_text())
    out = tmp_path / "study"
    annotations = data / "annotations/instances_train.json"
    study = Study(tmp_path / "tiny", annotations, "symmetric", out, ())
    trial = Trial(0.0, 0, "ce")
    robustness.make_noise(study, trial)
    study.noise_file(trial).write_bytes(
        annotations.read_bytes()
    )  # what stage 1 was trained on, byte for byte
    folder = study.folder(trial)
    folder.parent.mkdir(parents=True)
    study.folder(trial, "nl_1").symlink_to(stages / "tiny_nl_1")
    robustness.train(study, trial)
    assert [row["epoch"] for row in rows(folder)] == [3, 4]
    result = robustness.result(study, trial, 0.0)
    assert (result["method"], result["epochs"]) == ("ce", 4)
    assert 0 <= result["segm_mAP"] <= 1
    assert robustness.is_done(study, trial)
