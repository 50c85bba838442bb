"""Jobs one after the other: skipped, retried, interrupted, killed; with a stand-in for scripts."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import environment

from compare.run import (
    LOG,
    Outcome,
    counted,
    failures,
    is_finished,
    run_job,
    run_jobs,
    warnings,
)
from tests.interrupts import heed_ctrl_c

PARENT = """
import sys
from pathlib import Path
from compare.methods import METHODS
from compare.plan import Job
from compare.run import run_jobs
folder, *command = sys.argv[1:]
run_jobs([Job(METHODS["sln"], 1, (tuple(command),), Path(folder), None)])
"""


def rows(job):
    return [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def parent(job):
    """Another process that runs a slow job; with its job, once the first epoch is there."""
    slow = job("--epochs", 200, "--seconds", 0.1)
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, slow.folder, *slow.commands[0]],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    wait_for(lambda: (slow.folder / "metrics.jsonl").exists())
    yield process, slow
    process.kill()
    process.wait()


def has_ended(job):
    """Whether nobody trains any more: the lock of the run folder is free."""
    from shared.run_folder import is_locked

    return not is_locked(job.folder)


def test_jobs_run_in_order_and_finished_ones_are_skipped(job):
    jobs = [job(seed=1), job(seed=2)]
    lines = []
    assert [outcome.status for outcome in run_jobs(jobs, lines.append)] == [0, 0]
    assert all(is_finished(one) and len(rows(one)) == 3 for one in jobs)
    assert lines[0].startswith("[1/2] SLN+MO+LC, seed 1: about 12 s on two cores; ")
    assert "done in" in lines[1]
    assert [outcome.status for outcome in run_jobs(jobs, lines.append)] == [None, None]
    assert lines[-1].strip() == "finished before"
    assert (jobs[0].folder / "starts").read_text() == "x"
    assert "start 1, after 0 epochs" in (jobs[0].folder / LOG).read_text()


def test_a_run_without_its_verdict_on_the_labels_is_not_finished(job):
    done = job()
    run_job(done)
    (done.folder / "label_quality.csv").unlink()
    assert not is_finished(done)
    assert run_job(done).status == 0
    assert is_finished(done)


def test_a_failed_run_is_tried_once_more_from_where_it_was(job):
    once = job("--fail", 1, 1)
    assert run_job(once).status == 0
    assert [row["epoch"] for row in rows(once)] == [1, 2, 3]
    assert (once.folder / "starts").read_text() == "xx"


def test_the_others_go_on_when_one_fails_and_its_log_is_told(job):
    jobs = [job("--fail", 1, 9, seed=1), job(seed=2)]
    outcomes = run_jobs(jobs, lambda line: None)
    assert [outcome.status for outcome in outcomes] == [1, 0]
    assert (jobs[0].folder / "starts").read_text() == "xx"
    text = "\n".join(failures(outcomes))
    assert "SLN+MO+LC, seed 1 failed with exit status 1" in text
    assert "    a reason to fail" in text
    assert "seed 2" not in text


def test_flags_of_a_script_are_called_what_they_are_here(job):
    refused = job()
    refused.folder.mkdir()
    (refused.folder / LOG).write_text("error: pass its path (--data_path), or --skip_broken\n")
    *_, note = failures([Outcome(refused, 2, 1.0)])
    assert note == "    (its --data_path is --data (make: DATA) here)"


def test_other_words_of_a_script_are_no_flags_to_name(job):
    refused = job()
    refused.folder.mkdir()
    lines = "usage: a.py [--seed SEED] [--data_path DATA_PATH]\na.py: error: "
    for error in ("argument --lr: expected one argument", "unrecognized arguments: --dataset x"):
        (refused.folder / LOG).write_text(f"{lines}{error}\n")
        assert failures([Outcome(refused, 2, 1.0)])[-1].endswith(error)


def test_what_a_script_warns_of_is_told(job):
    warned = job()
    warned.folder.mkdir()
    (warned.folder / LOG).write_text("warning: ignored '3'\nepoch 1\nwarning: ignored '3'\n")
    assert warnings(Outcome(warned, 0, 1.0)) == ["warning: ignored '3'"]
    assert warnings(Outcome(warned, None, 0)) == []


@pytest.mark.parametrize("status", [2, 3])
def test_what_cannot_succeed_is_not_tried_again(job, status):
    hopeless = job("--fail", status, 9)
    assert run_job(hopeless).status == status
    assert (hopeless.folder / "starts").read_text() == "x"


def test_a_run_that_another_process_trains_is_left_to_it(parent, job):
    _, running = parent
    outcome = run_job(running)
    assert outcome.failed
    assert "in use by process" in "\n".join(failures([outcome]))
    done = len(rows(running))
    wait_for(lambda: len(rows(running)) > done)  # it goes on
    assert (running.folder / "starts").read_text() == "x"


def test_ctrl_c_ends_the_script_too(parent):
    process, running = parent
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert has_ended(running)
    assert "KeyboardInterrupt" in (running.folder / LOG).read_text()  # a script that saves could
    assert 0 < len(rows(running)) < 200


@pytest.mark.skipif(not os.path.exists("/usr/bin/setpriv"), reason="no setpriv on this system")
def test_kill_9_leaves_no_script_behind(parent, job):
    process, running = parent
    process.kill()
    process.wait()
    wait_for(lambda: has_ended(running), 10)
    done = len(rows(running))
    time.sleep(0.3)
    assert len(rows(running)) == done
    again = job("--epochs", done + 1)
    assert run_job(again).status == 0
    assert [row["epoch"] for row in rows(again)] == list(range(1, done + 2))


def test_one_is_not_many():
    assert [counted(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
