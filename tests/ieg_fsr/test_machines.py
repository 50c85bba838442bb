"""Several machines, made of processes that TF_CONFIG joins: equal to one, and what ends them."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tensorflow as tf
from conftest import PROJECT, TINY, environment, rows, run_main, variables

from ieg.run import machines
from ieg.run.errors import CheckpointError, UsageError

pytestmark = pytest.mark.training

STEPS = 12
FLAGS = [*TINY, "--meta_start_epoch=0", "--eval_freq=4", f"--max_iteration={STEPS}"]
EACH = "--batch_size=10"  # of two devices, a step of 20 images
KILLS = {"fsr": (0, 3), "ieg": (1, 2)}  # method -> which machine, after how many rows
MINUTE = 60
LOST = (
    r"error: another machine of TF_CONFIG has ended or cannot be reached .*the same command resumes"
)
# The program, which at the end also says a hash of the state that this machine has.
PROGRAM = """
import hashlib, sys
from ieg.main import main
from ieg.run import recording

def finish_and_tell(self):
    finish(self)
    state = self._run.trainer.state()
    digest = hashlib.sha256()
    for part in ("weights", "moving", "accumulators", "averages"):
        for variable in state[part]:
            digest.update(variable.read_value().numpy().tobytes())
    for variable in state["queue"].variables if "queue" in state else ():
        digest.update(variable.numpy().tobytes())
    print("state", digest.hexdigest(), flush=True)

finish, recording.Recording.finish = recording.Recording.finish, finish_and_tell
sys.exit(main(sys.argv[1:]))
"""


def started(folder, *flags, count=2, of_last=()):
    """The machines, as processes; of_last: further flags of the last one."""
    ports = [free_port() for _ in range(count)]
    found = []
    for index in range(count):
        cluster = {
            "cluster": {"worker": [f"localhost:{port}" for port in ports]},
            "task": {"type": "worker", "index": index},
        }
        more = of_last if index == count - 1 else ()
        found.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *flags, f"--output_dir={folder}", *more],
                env={
                    **environment(),
                    "PYTHONPATH": str(PROJECT),
                    "TF_CONFIG": json.dumps(cluster),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return found


def lines_in(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def ended(processes, timeout=600):
    """Exit status, output and errors of each."""
    try:
        said = [process.communicate(timeout=timeout) for process in processes]
        return [(process.returncode, *texts) for process, texts in zip(processes, said)]
    finally:
        for process in processes:
            process.kill()


def done_by(processes):
    """What the processes print, if they end well."""
    found = ended(processes)
    assert [status for status, _, _ in found] == [0] * len(found), found
    return [output for _, output, _ in found]


def states(outputs):
    return [re.search(r"(?m)^state (\w+)$", output)[1] for output in outputs]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, request):
    """The folder of a run of some method on two machines, and what both printed."""
    folder = tmp_path_factory.mktemp("machines") / "run"
    return folder, done_by(started(folder, *FLAGS, EACH, f"--method={request.param}"))


def of(*methods):
    """Whose runs `whole` is to be."""
    return pytest.mark.parametrize("whole", methods, indirect=True)


@of("fsr")
def test_two_machines_train_as_two_devices_do_and_have_the_same_state(whole, tmp_path):
    folder, outputs = whole
    first, second = states(outputs)
    assert first == second  # bit for bit
    devices = run_main(
        *FLAGS, EACH, "--method=fsr", "--cpu_replicas=2", "--output_dir=run", cwd=tmp_path
    )
    assert devices.returncode == 0, devices.stderr
    expected = rows(tmp_path / "run")
    assert [row["iteration"] for row in rows(folder)] == [1, 4, 8, 10, STEPS]
    for row, other in zip(rows(folder), expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)


@of("fsr")
def test_the_first_machine_alone_writes(whole):
    folder, (first, second) = whole
    assert f"{folder}/label_quality.csv: " in first
    assert str(folder / "label_quality.csv") not in second
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["iteration"] == STEPS


@of(*KILLS)
def test_a_killed_machine_ends_the_other_and_both_resume_to_the_same_bits(whole, tmp_path, request):
    method, folder = request.node.callspec.params["whole"], tmp_path / "run"
    flags = [*FLAGS, EACH, f"--method={method}"]
    victim, evaluated = KILLS[method]
    pair = started(folder, *flags)
    while lines_in(folder) < evaluated and not any(process.poll() for process in pair):
        time.sleep(0.002)
    pair[victim].kill()
    [(status, _, errors)] = ended([pair[1 - victim]], timeout=MINUTE)
    ended(pair)
    assert pair[victim].returncode == -signal.SIGKILL
    assert status == 2, errors
    assert re.search(LOST, errors), errors
    outputs = done_by(started(folder, *flags))
    assert all(re.search(r"(?m)^resumed: iteration [48] of 12 is done", out) for out in outputs)
    assert states(outputs) == states(whole[1])
    assert len({*states(outputs)}) == 1
    assert rows(folder) == rows(whole[0])
    assert variables(folder, STEPS) == variables(whole[0], STEPS)


def test_a_machine_with_another_command_is_named_by_all(tmp_path):
    pair = started(tmp_path, *FLAGS, EACH, "--method=supervised", of_last=["--seed=5"])
    for status, _, errors in ended(pair):
        assert status == 2
        assert re.search(r"error: localhost:\d+ has other flags or data than localhost:", errors)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_machines_that_differ_are_named(tmp_path):
    machines.compare(tmp_path, {"a:1": (7, 5), "b:1": (7, 5), "c:1": (7, 5)})
    with pytest.raises(CheckpointError, match=f"c:1 finds 0 .* in {tmp_path}, a:1 7: the run"):
        machines.compare(tmp_path, {"a:1": (7, 5), "b:1": (7, 5), "c:1": (0, 5)})
    with pytest.raises(UsageError, match="b:1 has other flags or data than a:1"):
        machines.compare(tmp_path, {"a:1": (7, 5), "b:1": (0, 4)})


def test_the_first_machine_is_the_chief_or_else_worker_0(monkeypatch):
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster}))
    assert machines.addresses() == ["a:1", "b:1", "c:1"]
    for jobs, kind, index, writes in (
        (cluster, "chief", 0, True),
        (cluster, "worker", 0, False),
        ({"worker": ["b:1", "c:1"]}, "worker", 0, True),
        ({"worker": ["b:1", "c:1"]}, "worker", 1, False),
    ):
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(jobs), task_type=kind, task_id=index
        )
        strategy = SimpleNamespace(cluster_resolver=resolver)
        assert machines.is_chief(strategy) == writes
    assert machines.is_chief(tf.distribute.get_strategy())
    monkeypatch.setenv("TF_CONFIG", "not json")
    with pytest.raises(UsageError, match="unset it for one machine"):
        machines.addresses()
