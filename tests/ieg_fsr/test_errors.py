"""What a command says when it cannot go on: words of TensorFlow's, flags that exist, Ctrl-C."""

import errno
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from conftest import PROJECT, environment

from ieg import compare
from ieg.run import checkpoint, config, experiment
from ieg.run.checkpoint import Record
from ieg.run.devices import plain_errors
from ieg.run.errors import UsageError, exit_status
from shared.runs import reader
from tests.interrupts import heed_ctrl_c

NODE = "{{function_node __wrapped__SaveV2_dtypes_3_device_/job:localhost/task:0/device:CPU:0}} "
FULL = tf.errors.ResourceExhaustedError(
    None, None, f"{NODE}/runs/a/.checkpoint.ckpt-1.tmp; No space left on device [Op:SaveV2]"
)


def said(work, capsys):
    """Exit status and message of what `work` raises."""

    def plain():
        with plain_errors():
            work()

    status = exit_status(plain)
    return status, capsys.readouterr().err


def raising(error):
    def work():
        raise error

    return work


def test_a_full_disk_is_not_lack_of_memory(capsys):
    status, error = said(raising(FULL), capsys)
    assert (status, error) == (
        2,
        "error: no space left to write /runs/a/.checkpoint.ckpt-1.tmp: free some space, then run "
        "the same command again\n",
    )


def test_a_foreign_folder_is_explained_and_what_is_kept_is_said(capsys):
    error = tf.errors.PermissionDeniedError(None, None, f"{NODE}/runs/a/x; Permission denied")
    error.add_note("The checkpoint of iteration 3 is kept in /runs/a")
    status, text = said(raising(error), capsys)
    assert status == 2
    assert f"/runs/a/x is not accessible to user {os.getuid()}" in text
    assert text.endswith(". The checkpoint of iteration 3 is kept in /runs/a\n")
    assert "{{" not in text


def test_lack_of_memory_and_other_errors_leave_out_the_graph(capsys):
    error = tf.errors.ResourceExhaustedError(
        None, None, NODE + "OOM when allocating tensor with shape[9,9] [Op:Conv2D]"
    )
    _, text = said(raising(error), capsys)
    assert text.startswith("error: out of memory (OOM when allocating tensor with shape[9,9]): ")
    _, text = said(
        raising(tf.errors.InvalidArgumentError(None, None, NODE + "a.png is odd")), capsys
    )
    assert text == "error: a.png is odd\n"


def test_a_checkpoint_on_a_full_disk_names_its_file_and_leaves_no_parts(tmp_path, monkeypatch):
    def write(self, path):
        (tmp_path / ".checkpoint.ckpt-4.tmp.data").write_bytes(b"a part")
        raise FULL

    monkeypatch.setattr(tf.train.Checkpoint, "write", write)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoint.save(tmp_path, 4, {}, Record({}, []), keep=3)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "checkpoint.ckpt-4")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_may_not_be_read_is_not_a_torn_one(tmp_path, monkeypatch):
    state = {"x": tf.Variable(1.0)}
    checkpoint.save(tmp_path, 4, state, Record({}, []), keep=3)

    def read(prefix):
        raise tf.errors.PermissionDeniedError(None, None, f"{prefix}.index; Permission denied")

    monkeypatch.setattr(tf.train, "load_checkpoint", read)
    with pytest.raises(PermissionError, match="Permission denied"):
        checkpoint.restore(tmp_path, state, Record({}, []))


def test_every_flag_that_a_message_names_is_one_of_the_command():
    known = {
        word for action in config.build_parser()._actions for word in action.option_strings
    } | {"--help"}
    known |= {f"--no{word[2:]}" for word in known}
    # Spellings in general; of ieg.compare; what load_task replaces.
    others = {"--flag", "--noflag", "--plot", "--data_path"}
    for path in (PROJECT / "ieg").rglob("*.py"):
        named = set(re.findall(r"(?<![-\w{])--[a-z]\w*", path.read_text()))
        assert named <= known | others, path


def test_messages_of_shared_name_the_flag_for_the_data_that_this_command_has(tmp_path):
    base = ["--method=supervised", "--network_name=wrn10-1"]
    for dataset, missing in (("folder", "not there"), ("cifar10", "."), ("webvisionmini", ".")):
        given = config.parse([*base, f"--dataset={dataset}", f"--dataset_dir={tmp_path / missing}"])
        with pytest.raises(ValueError, match="--dataset_dir") as caught:
            experiment.load_task(given)
        assert "--data_path" not in str(caught.value)


def test_a_recommended_command_of_shared_keeps_its_own_flags():
    said = "not there (--data_path; of ieg_fsr --dataset_dir), or pass --data_path; "
    command = "`python -m shared noise convert F O` (with --data_path) writes one"
    assert experiment.with_own_flag(said + command) == (
        f"not there (--dataset_dir), or pass --dataset_dir; {command}"
    )


def test_usage_errors_keep_their_words(capsys):
    assert said(raising(UsageError("give 20 or 30")), capsys) == (2, "error: give 20 or 30\n")


def test_ctrl_c_in_compare_is_one_line(monkeypatch, capsys):
    def interrupted(places):
        raise KeyboardInterrupt

    monkeypatch.setattr(reader, "find_runs", interrupted)
    assert compare.main(["a"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.training
@pytest.mark.parametrize("delay", [0, 0.3, 1])
def test_ctrl_c_while_tensorflow_is_imported_is_one_line(tmp_path, delay):
    flags = ["--dataset=digits", "--network_name=wrn10-1", "--max_iteration=1"]
    process = subprocess.Popen(
        [sys.executable, PROJECT / "ieg" / "main.py", *flags],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    maps = f"/proc/{process.pid}/maps"
    while process.poll() is None:
        with open(maps) as file:
            if "tensorflow" in file.read():
                break
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "interrupted"
    assert "Traceback" not in error
