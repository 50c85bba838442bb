"""A run resumes: after kill -9 at any moment, from a torn or an older checkpoint, for longer.

And never as another run.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import PROJECT, STEPS, TINY, environment, rows, run_main, variables

from ieg.run import checkpoint
from shared import run_folder
from shared.formats import noise_file
from tests.interrupts import heed_ctrl_c

pytestmark = pytest.mark.training


def lines_in(path):
    return path.read_text().count("\n") if path.exists() else 0


def kill_after(rows_written, delay, flags, folder):
    """Starts the program and kills it `delay` seconds after so many evaluations."""
    env = {**environment(), "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "ieg.main", *flags, f"--output_dir={folder}"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while lines_in(folder / "metrics.jsonl") < rows_written and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()  # SIGKILL
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors  # else it was done before


def start(*flags):
    """The program, from outside of any project."""
    return subprocess.Popen(
        [sys.executable, PROJECT / "ieg" / "main.py", *map(str, flags)],
        env=environment(),
        preexec_fn=heed_ctrl_c,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_equal_commands_at_once_do_not_share_a_folder(tmp_path):
    folder = tmp_path / "run"
    flags = [*TINY, "--method=supervised", f"--max_iteration={STEPS}", f"--output_dir={folder}"]
    with run_folder.locked(folder):
        done = start(*flags)
        error = done.communicate()[1]
    assert done.returncode == 2
    assert f"{folder} is in use by process {os.getpid()} on {socket.gethostname()}" in error
    assert not (folder / "metrics.jsonl").exists()

    first = start(*flags, "--max_iteration=3000")
    while not (folder / ".holder").exists() and first.poll() is None:
        time.sleep(0.01)
    unfinished = folder / ".being_written.tmp"
    unfinished.write_bytes(b"by the first")
    second = start(*flags)
    error = second.communicate()[1]
    assert (first.poll(), second.returncode) == (None, 2)
    assert f"in use by process {first.pid} on {socket.gethostname()}" in error
    first.kill()
    first.communicate()
    before = lines_in(folder / "metrics.jsonl")
    third = start(*flags, "--max_iteration=3000")  # a kill leaves no lock behind
    while lines_in(folder / "metrics.jsonl") < before + 2 and third.poll() is None:
        time.sleep(0.01)
    assert third.poll() is None
    third.send_signal(signal.SIGINT)
    error = third.communicate()[1]
    assert third.returncode == 130
    assert re.search(r"(?m)^interrupted\. The checkpoint of iteration \d+ is kept in ", error)
    iterations = [row["iteration"] for row in rows(folder)]
    assert iterations == sorted(set(iterations))


def test_a_full_disk_is_named_with_what_is_kept(tmp_path):
    """A limit on the size of files stands for it."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
        "from ieg.main import main; sys.exit(main(sys.argv[2:]))"
    )
    flags = [*TINY, "--method=fsr", "--max_iteration=3", f"--output_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-c", limited, "200000", *flags],
        env={**environment(), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "checkpoint.ckpt-1" in last
    assert "File too large" in last
    assert "{{" not in done.stderr
    assert "is kept" not in last
    assert not list((tmp_path / "run").glob(".*.tmp*"))


def assert_same_run(one, other, iteration):
    assert rows(one) == rows(other)
    assert sorted(checkpoint.iterations(one)) == sorted(checkpoint.iterations(other))
    first, second = variables(one, iteration), variables(other, iteration)
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []
    for name in ("label_quality.csv", "corrected_labels.npz"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    if (one / "queue_info.npz").exists():
        with (
            np.load(one / "queue_info.npz") as queue,
            np.load(other / "queue_info.npz") as expected,
        ):
            assert all((queue[name] == expected[name]).all() for name in expected)


@pytest.mark.parametrize(("method", "steps", "kills"), [("fsr", 45, (1, 6)), ("ieg", 24, (3,))])
def test_kill_9_at_any_moment_and_the_same_command_gives_the_same_bits(
    main, tmp_path, method, steps, kills
):
    flags = [*TINY, f"--method={method}", f"--max_iteration={steps}", "--eval_freq=3"]
    delays = random.Random(11)
    for rows_written in kills:
        kill_after(rows_written, delays.uniform(0, 0.15), flags, tmp_path / "killed")
    assert main(*flags, "--output_dir=killed") == 0
    assert main(*flags, "--output_dir=whole") == 0
    assert_same_run(tmp_path / "killed", tmp_path / "whole", steps)
    hidden = {path.name for path in (tmp_path / "killed").glob(".*")}
    assert hidden <= {".lock"}  # not what the kill left unfinished
    tensors = variables(tmp_path / "whole", steps)
    assert {name.partition("/")[0] for name in tensors} >= {
        "weights",
        "moving",
        "accumulators",
        "averages",
    } | ({"queue", "pseudo_logits"} if method == "fsr" else {"weight_counts"})


def test_a_torn_checkpoint_is_skipped_and_an_older_one_can_be_chosen(
    trained, copy_of, main, capsys
):
    folder = copy_of("fsr")
    flags = [*TINY, "--method=fsr", f"--max_iteration={STEPS}", f"--output_dir={folder}"]
    torn = folder / f"checkpoint.ckpt-{STEPS}.data-00000-of-00001"
    torn.write_bytes(torn.read_bytes()[:1000])
    # Where TensorFlow was writing when it was killed.
    unfinished = folder / f".checkpoint.ckpt-{STEPS}.tmp_temp"
    unfinished.mkdir()
    (unfinished / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"x")
    (folder / f".checkpoint.ckpt-{STEPS}.tmp.index").write_bytes(b"x")
    assert main(*flags) == 0
    printed = capsys.readouterr().out
    assert f"warning: skipped {folder}/checkpoint.ckpt-{STEPS}, which is torn" in printed
    assert f"resumed: iteration 20 of {STEPS} is done" in printed
    assert_same_run(folder, trained["fsr"][0], STEPS)
    assert {path.name for path in folder.glob(".*")} <= {".lock"}
    assert main(*flags, "--restore_step=10") == 0
    assert f"resumed: iteration 10 of {STEPS} is done" in capsys.readouterr().out
    assert_same_run(folder, trained["fsr"][0], STEPS)
    assert main(*flags, "--restore_step=11") == 2
    assert "has no checkpoint of iteration 11: there are 10, 20, 23" in capsys.readouterr().err


def test_a_finished_run_is_reported_again_and_can_be_prolonged_to_the_ends_of_cycles(
    trained, copy_of, main, capsys
):
    folder = copy_of("supervised")
    flags = [*TINY, "--method=supervised"]
    assert main(*flags, f"--max_iteration={STEPS}", f"--output_dir={folder}") == 0
    assert (
        capsys.readouterr().out.splitlines()[-1] == trained["supervised"][1].stdout.splitlines()[-1]
    )
    assert rows(folder) == rows(trained["supervised"][0])

    longer = [*flags, "--max_iteration=28", "--eval_freq=1000"]
    assert main(*longer, f"--output_dir={folder}") == 0
    # 25 steps: cycles of 10 and 15.
    assert [row["iteration"] for row in rows(folder)] == [
        1,
        10,
        20,
        STEPS,
        25,
        28,
    ]
    assert main(*longer, "--output_dir=whole") == 0
    assert [row["iteration"] for row in rows(folder.parents[1] / "whole")] == [1, 10, 25, 28]
    first, second = variables(folder, 28), variables(folder.parents[1] / "whole", 28)
    assert first == second

    assert main(*flags, "--max_iteration=27", f"--output_dir={folder}") == 2
    assert "--max_iteration=27 cannot shorten it" in capsys.readouterr().err


def test_another_run_is_refused_naming_the_difference(trained, copy_of, main, capsys):
    folder = copy_of("supervised")
    before = (folder / "metrics.jsonl").read_bytes(), sorted(checkpoint.iterations(folder))
    for flags, message in (
        (["--method=l2r"], "method: supervised then, l2r now"),
        (["--method=supervised", "--seed=5"], "seed: 12345 then, 5 now; train_images_sha256:"),
        (["--method=supervised", "--batch_size=10"], "batch_size: 20 then, 10 now"),
    ):
        assert main(*TINY, f"--max_iteration={STEPS}", *flags, f"--output_dir={folder}") == 2
        error = capsys.readouterr().err
        assert message in error
        assert "choose another --output_dir or --checkpoint_path" in error
    assert (
        (folder / "metrics.jsonl").read_bytes(),
        sorted(checkpoint.iterations(folder)),
    ) == before


def test_two_devices_go_on_with_the_run_of_one(copy_of, tmp_path):
    folder = copy_of("l2r")
    flags = [*TINY, "--method=l2r", "--cpu_replicas=2", f"--output_dir={folder}"]
    refused = run_main(*flags, "--max_iteration=26", cwd=tmp_path)
    assert refused.returncode == 2
    assert "replicas: 1 then, 2 now" in refused.stderr
    advice = "With --batch_size=10 for each of the devices there are now, 2, a step has the "
    assert advice in refused.stderr
    flags += ["--batch_size=10"]
    done = run_main(*flags, "--max_iteration=26", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "devices x images of each were 1 x 20, now 2 x 10" in done.stdout
    assert f"resumed: iteration {STEPS} of 26 is done" in done.stdout
    assert [row["iteration"] for row in rows(folder)] == [1, 10, 20, STEPS, 25, 26]
    again = run_main(*flags, "--max_iteration=27", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "devices x images" not in again.stdout


def test_other_labels_under_the_same_name_are_refused(trained, main, tmp_path, capsys):
    shutil.copy(trained["fsr"][0] / "noise.npz", tmp_path / "noise.npz")
    flags = [
        *TINY[1:],
        "--dataset=file",
        "--noise_file=noise.npz",
        "--probe_dataset_hold_ratio=0",
        "--method=supervised",
        "--max_iteration=1",
        "--output_dir=run",
    ]
    assert main(*flags) == 0
    found = noise_file.read(tmp_path / "noise.npz")
    noisy = found.noisy_labels.copy()
    noisy[0] = (noisy[0] + 1) % 10
    made = noise_file.make(
        noisy,
        clean_labels=found.clean_labels,
        indices=found.indices,
        dataset="digits",
        split="train",
        num_classes=10,
        kind="none",
    )
    noise_file.write(tmp_path / "noise.npz", made)
    assert main(*flags) == 2
    error = capsys.readouterr().err
    assert "(train_labels_sha256: " in error
    assert "; " not in error


def test_a_loss_that_is_not_finite_stops_with_status_3_and_keeps_the_last_checkpoint(
    main, tmp_path, capsys
):
    flags = [
        *TINY,
        "--method=supervised",
        "--max_iteration=20",
        "--eval_freq=3",
        "--output_dir=run",
    ]
    # The rate of iteration 5 is 1e30.
    explosion = [
        "--lr_schedule=custom_step",
        "--decay_steps=5",
        "--decay_rate=1e31",
    ]
    assert main(*flags, *explosion) == 3
    error = capsys.readouterr().err
    assert "stopped: the loss is not finite (iteration 6: loss/net " in error
    assert "The checkpoint of iteration 3 is kept in run. Start again in another" in error
    assert main(*flags, *explosion[:2], "--decay_rate=1") == 2  # a rate makes it another run
    assert "--output_dir" in capsys.readouterr().err
    assert sorted(checkpoint.iterations(tmp_path / "run")) == [1, 3]
    assert [row["iteration"] for row in rows(tmp_path / "run")] == [1, 3]
    finite = [
        np.isfinite(np.frombuffer(value, np.float32)).all()
        for value in variables(tmp_path / "run", 3).values()
    ]
    assert all(finite)


def test_weights_that_the_first_step_ruins_are_not_saved(main, tmp_path, capsys):
    assert (
        main(
            *TINY,
            "--method=supervised",
            "--max_iteration=2",
            "--learning_rate=1e30",
            "--output_dir=run",
        )
        == 3
    )
    error = capsys.readouterr().err
    assert "(iteration 1" in error
    assert "is kept" not in error
    assert checkpoint.iterations(tmp_path / "run") == []
