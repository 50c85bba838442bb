"""Signs of life: what a loop says while it runs, and that it says little."""

import io
import re
import sys

import pytest
import torch
from tqdm import tqdm

from instancegm.method.signs import SILENT, SignsOfLife


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Loss(torch.Tensor):
    """Counts how often somebody waits for its value."""

    looks = 0

    def item(self):
        Loss.looks += 1
        return super().item()


@pytest.fixture
def clock(monkeypatch):
    """Seconds since some moment, as often as a batch is done."""
    now = [100.0]
    monkeypatch.setattr("instancegm.method.signs.time.perf_counter", lambda: now[0])
    return now


def loop(signs, clock, steps, seconds, title="epoch 3, network 1", losses=None):
    losses = [] if losses is None else losses
    seen = []
    for batch in signs.over(range(steps), steps, title, 64, losses):
        losses.append(torch.tensor([1.9 + batch, 5.0]).as_subclass(Loss))
        clock[0] += seconds
        seen.append(batch)
    assert seen == list(range(steps))


def test_without_a_terminal_there_is_a_line_at_the_start_and_then_every_minute(clock, capsys):
    Loss.looks = 0
    loop(SignsOfLife(), clock, steps=10, seconds=16.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "epoch 3, network 1: step 1 of 10, loss 1.90, 4 images/s",
        "epoch 3, network 1: step 5 of 10, loss 5.90, 4 images/s",
        "epoch 3, network 1: step 9 of 10, loss 9.90, 4 images/s",
    ]
    assert Loss.looks == len(lines)


def test_short_loops_share_the_minute(clock, capsys):
    signs = SignsOfLife()
    for _ in range(20):
        loop(signs, clock, steps=5, seconds=1.0)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_loop_without_losses_tells_its_speed(clock, capsys):
    for _ in SignsOfLife().over(range(3), 3, "test set", 128):
        clock[0] += 2.0
    assert capsys.readouterr().out == "test set: step 1 of 3, 64 images/s\n"


def test_on_a_terminal_a_bar_that_disappears(clock, capsys, monkeypatch):
    Loss.looks = 0
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("instancegm.method.signs.tqdm", lambda **key: tqdm(file=terminal, **key))
    loop(SignsOfLife(), clock, steps=10, seconds=16.0)
    shown = terminal.getvalue()
    assert re.search(r"epoch 3, network 1: +\d+%.*loss 5.90", shown)
    assert shown.endswith("\r")
    assert Loss.looks == 3
    assert capsys.readouterr().out == ""


def test_silence(clock, capsys):
    Loss.looks = 0
    loop(SILENT, clock, steps=10, seconds=99.0)
    assert capsys.readouterr() == ("", "")
    assert Loss.looks == 0
