"""The table and the picture of several runs."""

import json

import pytest
import yaml
from conftest import METHODS, rows
from PIL import Image

from ieg import compare
from ieg.analysis.picture import drawn, picture
from ieg.analysis.runs import labels_of, table
from shared.formats import noise_file
from shared.runs.reader import read_run


def run_folder(folder, method="fsr", labels=(0, 1), weights=(1.5, 0.5), use_ema=True):
    folder.mkdir()
    config = {
        "method": method,
        "use_ema": use_ema,
        "dataset": "digits",
        "network_name": "wrn10-1",
        "seed": 1,
        "max_iteration": 20,
    }
    noise_file.write(folder / "noise.npz", noise_file.make(labels))
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
    assert lines[3].split() == ["Supervised", "(raw)", "21.00", "31.00", "-", "-"]
    assert "weight: 1 is uniform" in lines[4]


def changed(folder, **figures):
    """Writes these figures into the first rows of a run."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()[:3]
    for number, values in enumerate(zip(*figures.values())):
        row = json.loads(lines[number]) | dict(zip(figures, values))
        lines[number] = json.dumps(row)
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_accuracies_may_be_null_or_nan_at_first_and_at_last(tmp_path):
    a = changed(run_folder(tmp_path / "a"), accuracy_ema=[None, float("nan")])
    b = changed(run_folder(tmp_path / "b", "l2r"), accuracy_ema=[None, 30.0, None])
    c = changed(run_folder(tmp_path / "c", "ieg"), accuracy_ema=[None] * 3)
    runs = [read_run(folder) for folder in (a, b, c)]
    lines = table(runs).splitlines()
    assert lines[2].split()[:3] == ["FSR", "20.00", "20.00"]
    assert lines[3].split()[:3] == ["L2R", "30.00", "30.00"]
    assert lines[4].split()[:3] == ["IEG", "-", "-"]
    picture(runs)


def test_runs_of_one_method_are_told_apart(tmp_path):
    runs = [read_run(run_folder(tmp_path / f"seed{seed}")) for seed in (1, 2)]
    assert labels_of(runs) == ["FSR seed1", "FSR seed2"]


def test_a_log_of_two_runs_is_refused(tmp_path, capsys):
    folder = run_folder(tmp_path / "a")
    log = folder / "metrics.jsonl"
    lines = log.read_text().splitlines()[:3]
    log.write_text("\n".join(sorted(lines * 2)) + "\n")
    assert compare.main([str(folder)]) == 2
    assert "two runs wrote into one folder" in capsys.readouterr().err


EXTREMES = {
    "one evaluation": ([55.0], 1.0),
    "all equal": ([10.0] * 5, 1.0),
    "full range": ([0.0, 100.0, 100.0], 50_000.0),
    "tiny weights": ([99.9, 99.9, 99.9], 1e-9),
    "missing at first": ([None, float("nan"), 30.0], 1.0),
    "many": ([float(i % 100) for i in range(500)], 1.0),
}


@pytest.mark.parametrize("case", EXTREMES)
def test_pictures_of_extreme_runs_show_everything(tmp_path, case):
    accuracies, weight = EXTREMES[case]
    rows = [
        {"iteration": i, "epoch": i / 10, "accuracy_ema": value}
        | {"weight_clean": weight, "weight_noisy": 0.0}
        for i, value in enumerate(accuracies, 1)
    ]
    runs = []
    for n, method in enumerate(["ieg", "fsr", "fsr", "fsr", "supervised"]):
        folder = run_folder(tmp_path / f"a_long_name_of_a_folder_{n}", method)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        runs.append(read_run(folder))
    figure = drawn(runs)
    figure.draw_without_rendering()
    curves, bars = figure.axes
    low, high = curves.get_ylim()
    assert low <= 0
    assert 100 <= high <= 110
    assert curves.get_xlim()[1] >= rows[-1]["epoch"]
    assert all(tick == round(tick) for tick in curves.get_xticks())
    few = len(rows) <= 40
    assert all((line.get_marker() != "None") == few for line in curves.lines)
    assert weight <= bars.get_ylim()[1] <= 1.5 * max(weight, 1.0)
    [legend] = figure.legends
    box = legend.get_window_extent()
    for axes in figure.axes:  # with their ticks and labels
        assert not box.overlaps(axes.get_tightbbox())
    inside = figure.bbox
    assert inside.x0 <= box.x0 < box.x1 <= inside.x1
    assert inside.y0 <= box.y0 < box.y1 <= inside.y1


def test_runs_without_weights_have_no_empty_half(tmp_path):
    runs = [read_run(run_folder(tmp_path / "a", "supervised", weights=None, use_ema=False))]
    [axes] = drawn(runs).axes
    assert axes.get_title() == "Accuracy (raw)"


def test_real_runs_become_a_table_and_a_picture(trained, tmp_path, capsys):
    folders = [str(trained[method][0]) for method in METHODS]
    assert compare.main([*folders, "--plot", str(tmp_path / "out" / "runs.png")]) == 0
    printed = capsys.readouterr()
    # FSR holds nothing out, so the noise of such a name falls on other images.
    assert printed.err == "warning: the runs differ in noisy labels or seed\n"
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["Supervised", "L2R", "IEG", "FSR"]
    for line, method in zip(lines[2:6], METHODS):
        assert line.split()[1] == f"{rows(trained[method][0])[-1]['accuracy_ema']:.2f}"
    with Image.open(tmp_path / "out" / "runs.png") as image:
        assert image.format == "PNG"
        assert image.size == (1500, 690)


def test_one_method_alone_and_no_warning_for_the_same_labels(tmp_path, capsys):
    folders = [run_folder(tmp_path / "a", "l2r"), run_folder(tmp_path / "b", "ieg")]
    assert compare.main([*map(str, folders), "--plot", str(tmp_path / "x.png")]) == 0
    assert capsys.readouterr().err == ""
    assert compare.main([str(folders[0])]) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", None, "no config.yaml"),
        ("config.yaml", "method: sln\n", "not those of a training script"),
        ("config.yaml", "- a\n", "does not hold settings by name"),
        ("config.yaml", "!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("metrics.jsonl", "", "no epoch is finished yet"),
        ("metrics.jsonl", "nonsense\n", "holds a line that is no row"),
        ("metrics.jsonl", None, "no epoch is finished yet"),
    ],
)
def test_what_is_no_run_is_one_message(tmp_path, capsys, name, content, message):
    folder = run_folder(tmp_path / "run")
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    assert compare.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_runs_of_other_projects_and_folders_of_runs_are_read(tmp_path, capsys):
    run_folder(tmp_path / "a")
    run_folder(tmp_path / "b", "l2r", labels=(1, 1))
    other = tmp_path / "sln"
    other.mkdir()
    config = {"dataset_name": "digits", "sigma": 1.0, "mo": True, "lc_n_epoch": -1, "seed": 1}
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    (other / "metrics.jsonl").write_text('{"epoch": 1, "accuracy": 40.0}\n')
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("method: fsr\nnetwork_name: wrn10-1\n")
    assert compare.main([str(tmp_path), "--plot", str(tmp_path / "x.png")]) == 0
    out, err = capsys.readouterr()
    lines = [line.split()[:3] for line in out.splitlines()[2:5]]
    assert lines == [
        ["FSR", "20.00", "30.00"],
        ["L2R", "20.00", "30.00"],
        ["SLN+MO", *["40.00"] * 2],
    ]
    assert "of other projects, as each reports it: SLN+MO" in out
    assert "left out" in err
    assert "begun: no epoch is finished yet" in err
    assert "warning: the runs differ in noisy labels or seed" in err
