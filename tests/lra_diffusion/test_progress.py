"""Signs of life: a bar on a terminal, a line a minute elsewhere."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
import torch
from conftest import ROOT, environment

from lra_diffusion.method import progress
from lra_diffusion.method.progress import watched
from lra_diffusion.method.retrieval import Bank


@pytest.fixture
def clock(monkeypatch):
    """A clock that the loop sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class Loss:
    """A loss that counts how often the device is waited for."""

    looked = 0

    def item(self):
        type(self).looked += 1
        return 1.93


def test_a_line_a_minute_with_the_loss_looked_at_as_often(clock, capsys):
    batches, losses = [range(100)] * 10, []
    Loss.looked = 0
    for _ in watched(batches, "epoch 3", losses=losses):
        losses.append(Loss())
        clock[0] += 25
    assert capsys.readouterr().out.splitlines() == [
        "epoch 3: step 3 of 10, loss 1.93, 4 images/s",
        "epoch 3: step 6 of 10, loss 1.93, 4 images/s",
        "epoch 3: step 9 of 10, loss 1.93, 4 images/s",
    ]
    assert Loss.looked == 3


def test_a_pass_says_what_it_is_about_to_do_and_a_short_epoch_nothing(clock, capsys):
    assert list(watched([range(3)] * 2, "features", announced=True)) == [range(3)] * 2
    assert capsys.readouterr().out == "features: 6 images in 2 steps\n"
    assert list(watched([range(3)] * 2, "epoch 1")) == [range(3)] * 2
    assert capsys.readouterr() == ("", "")


def test_retrieval_says_so(capsys):
    features = torch.randn(20, 3)
    Bank(features).nearest(features, 2, progress=True)
    assert capsys.readouterr().out == "neighbours: 20 images in 1 steps\n"
    Bank(features).nearest(features, 2)
    assert capsys.readouterr().out == ""


@pytest.mark.training  # a process of its own
def test_a_bar_on_a_terminal():
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from lra_diffusion.method.progress import watched\n"
        "for _ in watched([range(9)] * 4, 'epoch 7'): time.sleep(0.15)\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run([sys.executable, "-c", code], env=environment(), stderr=theirs, check=True)
    os.set_blocking(ours, False)
    assert re.search(r"epoch 7:\s+\d+%.*\| [123]/4", os.read(ours, 65536).decode())
