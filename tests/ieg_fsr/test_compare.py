"""The table and the picture of several runs."""

import json

import pytest
import yaml
from conftest import METHODS, rows
from PIL import Image

from ieg import compare
from ieg.analysis.runs import read_run, table


def run_folder(folder, method="fsr", labels="a", weights=(1.5, 0.5), use_ema=True):
    folder.mkdir()
    config = {
        "method": method,
        "use_ema": use_ema,
        "dataset": "digits",
        "network_name": "wrn10-1",
        "seed": 1,
        "identity": {"train_labels_sha256": labels},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = []
    for iteration, accuracy in ((1, 10.0), (10, 30.0), (20, 20.0)):
        row = {
            "iteration": iteration,
            "epoch": iteration / 10,
            "accuracy": accuracy + 1,
            "accuracy_ema": accuracy,
        }
        if weights:
            factor = iteration / 20  # so that the first half would be seen in the mean
            row |= {"weight_clean": weights[0] * factor, "weight_noisy": weights[1] * factor}
        lines.append(json.dumps(row) + "\n")
    # A kill while writing.
    (folder / "metrics.jsonl").write_text("".join(lines) + '{"iteration": 30, "acc')
    return folder


def test_the_table_has_last_and_best_accuracy_and_the_weights_of_the_second_half(tmp_path):
    runs = [
        read_run(run_folder(tmp_path / "a")),
        read_run(run_folder(tmp_path / "b", "supervised", weights=None, use_ema=False)),
    ]
    lines = table(runs).splitlines()
    assert lines[2].split() == ["FSR", "20.00", "30.00", "1.50", "0.50"]
    assert lines[3].split() == ["supervised", "21.00", "31.00", "-", "-"]
    assert "weight: 1 is uniform" in lines[4]


def test_real_runs_become_a_table_and_a_picture(trained, tmp_path, capsys):
    folders = [str(trained[method][0]) for method in METHODS]
    assert compare.main([*folders, "--plot", str(tmp_path / "out" / "runs.png")]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["supervised", "L2R", "IEG", "FSR"]
    for line, method in zip(lines[2:6], METHODS):
        assert line.split()[1] == f"{rows(trained[method][0])[-1]['accuracy_ema']:.2f}"
    with Image.open(tmp_path / "out" / "runs.png") as image:
        assert image.format == "PNG"
        assert image.size == (1500, 600)


def test_one_method_alone_and_no_warning_for_the_same_labels(tmp_path, capsys):
    folders = [run_folder(tmp_path / "a", "l2r"), run_folder(tmp_path / "b", "ieg")]
    assert compare.main([*map(str, folders), "--plot", str(tmp_path / "x.png")]) == 0
    assert capsys.readouterr().err == ""
    assert compare.main([str(folders[0])]) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", None, "No such file"),
        ("config.yaml", "method: sln\n", "not of a run of ieg.main"),
        ("config.yaml", "- a\n", "not of a run of ieg.main"),
        ("config.yaml", "!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("metrics.jsonl", "", "has no evaluation yet"),
        ("metrics.jsonl", "nonsense\n", "Expecting value"),
        ("metrics.jsonl", None, "No such file"),
    ],
)
def test_what_is_no_run_is_one_message(tmp_path, capsys, name, content, message):
    folder = run_folder(tmp_path / "run")
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    assert compare.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
