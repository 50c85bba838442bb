"""compare.py: the table, the curves with their stages, and folders that hold no run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TOOLS, tool

from noisy_instseg.analysis import figures, past_runs, run_table
from noisy_instseg.run.errors import check_output, exit_status
from shared.errors import UserError
from shared.runs.reader import read_run

SCRIPT = TOOLS / "compare.py"
script = tool("compare")
CONFIG = """\
model = dict(
    _scope_='mmdet',
    roi_head=dict(bbox_head=dict(loss_cls=dict(loss_weight=1.0, type='{loss}'))))
train_cfg = dict(max_epochs={epochs}, type='EpochBasedTrainLoop')
train_dataloader = dict(
    dataset=dict(
        dataset=dict(ann_file='{ann}', data_root='data'), seed=0, type='SeededDataset'))
custom_hooks = [dict(identity=dict({{'batch (images of a step)': 4}}), type='RunRecordHook')]
made_by = print('never run')
"""


def make_run(
    folder: Path,
    aps: dict[int, float],
    loss: str = "CrossEntropyLoss",
    epochs: int = 12,
    ann: str = "a.json",
):
    """A run folder as training leaves it, less the checkpoints. aps: epoch -> mask AP."""
    folder.mkdir(parents=True)
    rows = [
        {"epoch": epoch, "segm_mAP": ap, "bbox_mAP": ap + 0.01, "seconds": 2.5}
        for epoch, ap in aps.items()
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{folder.name}.py").write_text(CONFIG.format(loss=loss, epochs=epochs, ann=ann))
    return folder


def epochs_of(run):
    return [one.epoch for one in run.evaluations]


@pytest.fixture
def two_stages(tmp_path: Path) -> Path:
    make_run(tmp_path / "tiny_nl_1", {epoch: epoch / 100 for epoch in range(1, 7)}, epochs=6)
    aps = {7: 0.2, 8: 0.35, 9: 0.3, 10: 0.3, 11: 0.3, 12: 0.31}
    return make_run(tmp_path / "tiny_nl_2", aps, "NewCombinationLoss")


def test_a_second_stage_begins_with_the_epochs_of_the_first(two_stages):
    run = read_run(two_stages)
    assert epochs_of(run) == list(range(1, 13))
    assert past_runs.switch(run) == 6.5
    assert run.title == "CE, then NewCombinationLoss"
    assert run.seconds == pytest.approx(12 * 2.5)
    assert run.is_finished
    assert past_runs.noise_rate(run) is None


def test_a_second_stage_from_the_first_epoch_on_is_named_so(two_stages):
    run = read_run(
        make_run(two_stages.with_name("alone_nl_2"), {1: 0.1, 2: 0.2}, "NewCombinationLoss")
    )
    assert run.title == "NewCombinationLoss alone"
    assert past_runs.switch(run) is None


def test_plain_cross_entropy_from_the_first_stage_has_no_switch(two_stages):
    run = read_run(
        make_run(two_stages.with_name("tiny_ce"), {epoch: 0.1 for epoch in range(7, 11)})
    )
    assert [row["epoch"] for row in run.rows] == list(range(1, 11))
    assert past_runs.switch(run) is None
    assert not run.is_finished


def test_a_torn_last_line_and_a_missing_config_do_no_harm(tmp_path):
    folder = make_run(tmp_path / "torn", {1: 0.1, 2: 0.2})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "se')
    (folder / "torn.py").unlink()
    run = read_run(folder)
    assert [row["epoch"] for row in run.rows] == [1, 2]
    assert run.epochs_planned is None
    assert (run.method, run.title) == ("unknown", "unknown loss")


def test_the_table_names_the_last_and_the_best_epoch(two_stages, capsys):
    other = make_run(two_stages.with_name("tiny_sce"), {12: 0.25}, "SymmetricCrossEntropyLoss")
    plot = two_stages.with_name("picture.png")
    assert script.main([str(two_stages), str(other), "--plot", str(plot)]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = lines[1].split(), lines[2].split()
    assert first[0] == "tiny_nl_2"
    assert "12/12" in first
    assert first[first.index("12/12") + 1 : first.index("12/12") + 5] == [
        "31.0",
        "35.0",
        "(8)",
        "32.0",
    ]
    assert second[:2] == ["tiny_sce", "SCE"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_noise_rate_comes_from_the_manifest(tmp_path):
    from shared.cli import coco as coco_noise_cli

    clean = tmp_path / "clean.json"
    annotations = [{"id": i, "image_id": 1, "category_id": 1 + i % 3} for i in range(40)]
    categories = [{"id": i, "name": name} for i, name in ((1, "a"), (2, "b"), (3, "c"))]
    clean.write_text(
        json.dumps({"images": [{"id": 1}], "annotations": annotations, "categories": categories})
    )
    noisy = tmp_path / "noisy.json"
    flags = ["--ann", str(clean), "--out", str(noisy), "--rate", "0.5"]
    assert coco_noise_cli.script_main("symmetric", "coco_format", flags) == 0
    changed = sum(
        a["category_id"] != b["category_id"]
        for a, b in zip(annotations, json.loads(noisy.read_text())["annotations"])
    )
    run = read_run(make_run(tmp_path / "run", {1: 0.1}, ann=str(noisy)))
    assert past_runs.noise_rate(run) == pytest.approx(changed / 40)


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [read_run(make_run(tmp_path / name / "tiny_ce", {1: 0.1})) for name in ("a", "b")]
    assert list(run_table.named(runs)) == ["a/tiny_ce", "b/tiny_ce"]


@pytest.mark.parametrize("case", ["missing", "empty", "not evaluated", "no png"])
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, case):
    run = make_run(tmp_path / "run", {1: 0.1})
    flags = {
        "missing": [str(tmp_path / "none")],
        "empty": [str(tmp_path / "empty")],
        "not evaluated": [str(run)],
        "no png": [str(run), "--plot", str(tmp_path / "a.jpg")],
    }[case]
    (tmp_path / "empty").mkdir()
    if case == "not evaluated":
        (run / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2.0}\n')
    before = sorted(tmp_path.rglob("*"))
    assert script.main(flags) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_of_other_projects_have_their_accuracy_and_what_is_no_run_is_named(two_stages, capsys):
    config = {"dataset_name": "digits", "sigma": 1.0, "mo": True, "lc_n_epoch": -1, "n_epochs": 2}
    other, begun = two_stages.with_name("sln"), two_stages.with_name("begun")
    for folder in (other, begun):
        folder.mkdir()
        more = {"measured_noise_rate": 0.375}
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, **more}))
    (other / "metrics.jsonl").write_text('{"epoch": 1, "accuracy": 81.25, "seconds": 2}\n')
    plot = two_stages.with_name("a.png")
    assert script.main([str(two_stages), str(two_stages.parent), "--plot", str(plot)]) == 0
    out, error = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines[1:4]] == ["tiny_nl_2", "sln", "tiny_nl_1"]  # each once
    assert lines[2] == ["sln", "SLN+MO", "1/2", "81.2", "81.2", "(1)", "-", "37.5", "%", "2"]
    assert "test accuracy (%) instead of mask AP: sln" in out
    assert error.splitlines() == [
        f"note: left out: {begun}: no epoch is finished yet (there is no metrics.jsonl): wait for "
        "the first one, or give the folder of a run"
    ]


def test_the_script_runs_from_any_folder(two_stages):
    command = [sys.executable, str(SCRIPT), two_stages.name]
    done = subprocess.run(
        command, cwd=two_stages.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "tiny_nl_2" in done.stdout


def test_curves_with_and_without_a_switch_are_drawn():
    curves = {"a": {epoch: 0.01 * epoch for epoch in range(1, 60)}, "b": {1: 0.0}}
    assert figures.png(figures.draw_epochs("title", curves, {"a": 6.5})).startswith(b"\x89PNG")


# ---- what all tools beside training share


@pytest.mark.parametrize(
    "place", ["/proc/x.csv", "/proc/deep/x.csv", "{file}/x.csv", "{file}/deep/x.csv"]
)
def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, place):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(
        UserError, match=r"--out .*x\.csv: nothing can be written there .*choose a name in a folder"
    ):
        check_output("--out", Path(place.format(file=file)), ".csv")
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_takes_no_file_is_not_left_behind(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(UserError, match="Read-only file system"):
        check_output("--out", tmp_path / "new/deep/x.csv", ".csv")
    assert list(tmp_path.iterdir()) == []


def test_looking_at_an_output_leaves_nothing_behind(tmp_path):
    check_output("--out", tmp_path / "new/deep/x.csv", ".csv")
    check_output("--out", tmp_path / "x.csv", ".csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            OSError(28, "No space left on device", "a.csv"),
            2,
            "error: no space left to write a.csv: free some space, then run the same command again",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_ends_a_tool_is_one_line(capsys, error, status, said):
    def work():
        raise error

    assert exit_status(work) == status
    printed = capsys.readouterr().err
    assert printed.startswith(said)
    assert printed.count("\n") == 1


# ---- where stage 1 is


def test_folders_named_after_the_stage_alone_belong_together(tmp_path):
    make_run(tmp_path / "nl_1", {epoch: epoch / 100 for epoch in range(1, 5)}, epochs=4)
    second = make_run(tmp_path / "nl_2", {5: 0.2, 6: 0.3}, "NewCombinationLoss", epochs=6)
    run = read_run(second)
    assert epochs_of(run) == [1, 2, 3, 4, 5, 6]
    assert past_runs.is_whole(run)
    assert past_runs.is_whole(read_run(make_run(tmp_path / "ce", {5: 0.2})))


def test_the_config_says_where_stage_1_was(tmp_path):
    make_run(tmp_path / "elsewhere/first", {1: 0.1, 2: 0.2}, epochs=2)
    second = make_run(tmp_path / "second", {3: 0.3}, "NewCombinationLoss", epochs=3)
    with (second / "second.py").open("a") as file:
        file.write(f"load_from = {str(tmp_path / 'elsewhere/first/epoch_2.pth')!r}\n")
    assert epochs_of(read_run(second)) == [1, 2, 3]
    moved = (tmp_path / "elsewhere/first").rename(tmp_path / "first")  # beside it, as it is called
    assert epochs_of(read_run(second)) == [1, 2, 3]
    moved.rename(tmp_path / "lost")
    assert epochs_of(read_run(second)) == [3]


def test_a_stage_1_of_other_epochs_is_none(two_stages):
    late = make_run(two_stages.with_name("tiny_gce"), {9: 0.3})
    assert epochs_of(read_run(late)) == [9]


def test_a_curve_that_begins_late_is_told(tmp_path, capsys):
    run = make_run(tmp_path / "nl_2", {5: 0.2}, "NewCombinationLoss")
    assert script.main([str(run)]) == 0
    assert "nl_2: begins with epoch 5, as the folder of the epochs before was not found" in (
        capsys.readouterr().out
    )


def test_a_log_of_two_runs_is_refused(tmp_path, capsys):
    run = make_run(tmp_path / "run", {1: 0.1, 2: 0.2})
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(lines + lines)
    assert script.main([str(run)]) == 2
    assert "epoch 1 follows epoch 2: two runs wrote into one folder" in capsys.readouterr().err


# ---- pictures of extreme input


@pytest.mark.parametrize(
    ("curves", "switches"),
    [
        ({"one": {1: 0.3}}, {}),
        ({"zero": {1: 0.0, 2: 0.0}}, {}),
        ({"late": {7: 0.3}, "long": {epoch: 0.5 for epoch in range(1, 300)}}, {"late": 6.5}),
        ({"/".join(["a long name"] * 30): {1: 1.0, 2: 1e-9}}, {}),
        ({f"run {number}": {1: number / 20, 2: 1.0} for number in range(20)}, {}),
    ],
)
def test_curves_are_seen_and_nothing_covers_them(curves, switches):
    figure = figures.draw_epochs("title", curves, switches)
    axes = assert_legend_is_outside(figure)
    low, high = axes.get_ylim()
    assert -0.03 * high < low < 0
    values = [100 * value for run in curves.values() for value in run.values()]
    assert max(1, max(values)) <= high <= 108
    epochs = [epoch for run in curves.values() for epoch in run]
    left, right = axes.get_xlim()
    assert left < min(epochs)
    assert right > max(epochs)
    ticks = [tick for tick in axes.get_xticks() if left <= tick <= right]
    assert ticks
    assert all(tick == int(tick) for tick in ticks)
    for line in axes.lines[: len(curves)]:
        assert len(line.get_xdata()) > 1 or line.get_marker() not in (None, "None")


@pytest.mark.parametrize(
    "points",
    [{"CE": [(0.0, [0.0])]}, {"CE": [(0.0, [0.5, 0.6]), (1.0, [1e-6])], "nl": [(0.2, [1.0])]}],
)
def test_rates_have_room_around_them(points):
    axes = assert_legend_is_outside(figures.draw_rates("title", points))
    low, high = axes.get_ylim()
    assert -0.03 * high < low < 0
    assert high >= 1
    left, right = axes.get_xlim()
    rates = [100 * rate for found in points.values() for rate, _ in found]
    assert (left, right) == (min(rates) - 2, max(rates) + 2)


@pytest.mark.parametrize(
    ("losses", "changed"),
    [
        ([0.0, 0.0, 0.0], [False, True, False]),
        ([2.0], None),
        ([1e-9, 1e4, 3.0, 0.1], [False, True, True, False]),
        ([float("nan"), float("inf"), 1.0], [False, True, False]),
        ([0.5, 0.7], [False, False]),
    ],
)
def test_losses_are_drawn_as_shares_without_a_logarithm(losses, changed):
    figure = figures.draw_losses(
        "title", np.array(losses), None if changed is None else np.array(changed)
    )
    axes = assert_legend_is_outside(figure)
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_ylim()) == ("linear", "linear", (0, 102))
    end = max(loss for loss in losses if np.isfinite(loss))
    assert max(1, end) <= axes.get_xlim()[1] <= max(1, 1.05 * end)


def test_the_share_is_of_annotations_with_a_larger_loss():
    figure = figures.draw_losses("title", np.array([3.0, 1.0, 2.0, 4.0]), None)
    (line,) = figure.axes[0].lines
    heights = dict(zip(line.get_xdata().tolist(), line.get_ydata().tolist()))
    assert heights == {0: 100, 1: 75, 2: 50, 3: 25, 4: 0, 4.2: 0}


def assert_legend_is_outside(figure):
    """The only axes, beside which the legend stands, in the picture."""
    figures.png(figure)
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_legend() is None
    box, picture = legend.get_window_extent(), figure.bbox
    assert not box.overlaps(axes.get_window_extent())
    assert box.x0 >= 0
    assert box.x1 <= picture.width
    assert box.y0 >= 0
    return axes
