"""Signs of life: nothing for what is quick, else a line a minute, or a bar in a terminal."""

from types import SimpleNamespace

import pytest
from conftest import TINY

from ieg.method import signs, train
from ieg.method.schedules import Plan
from ieg.run.config import parse
from ieg.run.report import print_start, step_line


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(signs.time, "monotonic", lambda: now.seconds)
    return now


def test_slow_batches_are_announced_about_once_a_minute(clock, capsys):
    for _ in signs.watched(range(10), "evaluation", 10):
        clock.seconds += 25
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"evaluation: {number} of 10 batches" for number in (3, 6, 9)]


def test_quick_ones_are_not(clock, capsys):
    assert list(signs.watched("abc", "evaluation", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar_that_goes_away(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(signs.watched(range(3), "FSR's queue", 3)) == [0, 1, 2]
    assert "FSR's queue: " in capsys.readouterr().err


@pytest.mark.training
def test_a_run_says_where_it_is_between_evaluations(main, monkeypatch, capsys):
    monkeypatch.setattr(signs, "EVERY", 0.0)
    monkeypatch.setattr(train, "READ_SECONDS", 0.0)  # every step is slow
    flags = [*TINY, "--method=fsr", "--max_iteration=4", "--eval_freq=9", "--output_dir=run"]
    assert main(*flags) == 0
    out = capsys.readouterr().out
    assert "epoch 0: step 2 of 10, iteration 2 of 4, loss " in out
    assert "evaluation: 1 of 1 batches" in out
    assert "FSR's queue: 1 of 1 batches" in out


def test_the_line_of_a_step_has_epoch_step_loss_and_speed():
    plan = Plan(391, 20_000, float, ())
    assert step_line(3 * 391 + 120, plan, 1.93, 412.3) == (
        "epoch 3: step 120 of 391, iteration 1293 of 20000, loss 1.9300, 412 images/s"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--method=fsr", "note: all steps come before epoch 20 (--meta_start_epoch), from which"),
        ("--method=fsr --nouse_mixup --meta_start_epoch=3", "count: this is cross-entropy alone"),
        ("--method=fsr --meta_start_epoch=2", None),  # one step is in epoch 2
        ("--method=supervised", None),
    ],
)
def test_a_run_of_fsr_that_ends_before_its_weights_count_says_so(capsys, flags, said):
    run = SimpleNamespace(
        config=parse(flags.split()),
        plan=Plan(10, 21, float, ()),
        task=SimpleNamespace(
            name="digits",
            num_classes=10,
            probe=None,
            evaluation=None,
            train=SimpleNamespace(image_shape=(32, 32, 3), labels=range(100), gold=None),
        ),
        strategy=SimpleNamespace(num_replicas_in_sync=1),
        jit_compile=False,
        folder="run",
    )
    print_start(run, 0)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert len(notes) == (said is not None)
    assert not notes or said in notes[0]
