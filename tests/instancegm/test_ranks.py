"""Several processes that train one run: the same numbers, one set of files, an end for all."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import SCRIPT, TIMING, TINY, rows
from torch import distributed, multiprocessing, nn

from instancegm import instanceGM
from instancegm.method.images import DeviceImages
from instancegm.method.mixture import LossHistory, Split
from instancegm.method.peers import EvaluationSet, Peer, TrainingSet
from instancegm.method.ranks import ALONE, Ranks
from instancegm.method.settings import Settings
from instancegm.method.train import co_divide_epoch, train, warm_up_epoch
from instancegm.method.vae import Vae
from instancegm.run import checkpoint
from instancegm.run.config import parse
from instancegm.run.errors import UsageError
from instancegm.run.experiment import build
from instancegm.run.launch import check_same
from tests import ranks as launch

CPU = torch.device("cpu")
CLASSES, SAMPLES = 3, 30
SETTINGS = Settings(batch_size=8, seed=5, num_epochs=2, warm_up=1, confidence_penalty=True)

# ---- of smooth networks without batch normalisation, the numbers of one process


class Plain(nn.Sequential):
    """A classifier without batch normalisation."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(256, CLASSES)
        )


def smooth(module):
    """Without batch normalisation, and without kinks, which make much of a sum's last digit."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.Identity())
        elif isinstance(child, nn.ReLU | nn.LeakyReLU):
            setattr(module, name, nn.Tanh())
        smooth(child)
    return module


def peer(number, ranks):
    torch.manual_seed(number)
    net, vae = Plain(), smooth(Vae(CLASSES, 4))
    sgd = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    # Adam would make a whole step of the rounding of a gradient that is zero.
    also_sgd = torch.optim.SGD(vae.parameters(), lr=0.02)
    trained = ranks.parallel(net), ranks.parallel(vae)
    return Peer(number, net, sgd, vae, also_sgd, *trained, ranks=ranks)


def figures(ranks):
    """What training says and leaves: of a whole run, and of epochs that end with odd batches."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SAMPLES, 32, 32, 3), dtype=np.uint8)
    labels = torch.from_numpy(rng.integers(0, CLASSES, SAMPLES))
    served = DeviceImages(images, CPU)
    train_set = TrainingSet(served, labels, CLASSES, rng.random(SAMPLES) < 0.7)
    peers = [peer(number, ranks) for number in (1, 2)]
    tests = {"test": EvaluationSet(served, labels)}
    found = {
        f"{name}, epoch {row['epoch']}": value
        for row in train(peers, train_set, tests, SETTINGS, LossHistory(2))
        for name, value in row.items()
        if isinstance(value, int | float) and name not in TIMING
    }
    for labelled in (9, SAMPLES):  # the last batch is of one sample; nothing is unlabelled
        everything = np.arange(SAMPLES)
        split = Split(everything[:labelled], everything[labelled:], np.full(labelled, 0.8))
        terms = co_divide_epoch(*peers, split, everything, train_set, SETTINGS, 11)
        found |= {f"{name}, {labelled} labelled": value for name, value in terms.items()}
    terms = warm_up_epoch(peers[0], np.arange(17), train_set, SETTINGS, 12)
    found |= {f"{name}, 17 samples": value for name, value in terms.items()}
    state = {
        f"{part} {key} of {each.number}": value
        for each in peers
        for part, module in (("net", each.net), ("vae", each.vae))
        for key, value in module.state_dict().items()
    }
    return found, state


def save_figures(rank, size, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    torch.save(figures(Ranks(rank, size)), folder / f"{rank}.pt")
    os._exit(0)  # see errors.leave


@pytest.mark.training
def test_two_ranks_compute_what_one_process_does(tmp_path):
    multiprocessing.spawn(save_figures, (2, tmp_path), nprocs=2)
    (first, weights), (second, others) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first == second
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    expected, alone = figures(ALONE)
    assert first == pytest.approx(expected, rel=2e-4, abs=1e-6)
    for name, value in weights.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-6, msg=name)


# ---- the script under torchrun

FLAGS = [*TINY, "--limit_train", "48", "--num_epochs", "2", "--output_dir", "run"]
NOTING = f"""
import hashlib, sys
sys.path.insert(0, {str(SCRIPT.parents[1])!r})
from instancegm import instanceGM
from instancegm.run.errors import leave
from instancegm.run.folder import RunFolder

def noted(self, row, record=RunFolder.record):
    record(self, row)
    digest = hashlib.sha256()
    for peer in self._run.peers:
        for part in (peer.net, peer.vae):
            for value in part.state_dict().values():
                digest.update(value.numpy().tobytes())
    with open(f"weights_{{self._run.ranks.rank}}", "a") as file:
        file.write(f"{{row['epoch']}} {{digest.hexdigest()}}\\n")

RunFolder.record = noted
leave(instanceGM.main())
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder where two ranks ran from beginning to end, and what they printed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "noting.py").write_text(NOTING)
    done = launch.run(folder / "noting.py", FLAGS, folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.training
def test_two_ranks_have_the_same_weights_after_every_epoch(whole):
    folder, _ = whole
    first, second = ((folder / f"weights_{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert len(first.splitlines()) == 3


@pytest.mark.training
def test_two_ranks_leave_what_one_process_does(whole):
    folder, output = whole
    assert output.count("| Test Epoch #0") == output.count("test accuracy: best") == 1
    assert "2 processes, cpu" in output
    assert [path.name for path in folder.glob("*/digits_0.4*_acc.txt")] == [
        "digits_0.4_instance_acc.txt"
    ]
    assert {path.name for path in (folder / "run").iterdir()} == {
        *("config.yaml", "noise.npz", "metrics.jsonl", "tensorboard", "last.ckpt", "best.ckpt"),
        *("clean_prob.csv", "label_quality.csv", "corrected_labels.npz", "plots.png", ".lock"),
    }
    assert len(list((folder / "run" / "tensorboard").iterdir())) == 1
    assert [row["epoch"] for row in rows(folder / "run")] == [0, 1, 2]
    assert yaml.safe_load((folder / "run" / "config.yaml").read_text())["ranks"] == 2
    last = checkpoint.load(folder / "run" / "last.ckpt")
    assert last["ranks"] == 2
    assert "ranks" not in last["identity"]


@pytest.mark.training
def test_two_machines_come_to_what_two_processes_of_one_do(whole, tmp_path):
    """Without a disk that both have: the first rank's alone gets files."""
    machines = [tmp_path / "one", tmp_path / "other"]
    for machine in machines:
        machine.mkdir()
    ended = launch.run_on_machines(SCRIPT, FLAGS, machines)
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    [run] = tmp_path.glob("*/run")  # torchrun says which is the first
    other = next(machine for machine in machines if machine != run.parent)
    assert not [*other.iterdir()]
    folder, _ = whole
    assert rows(run) == rows(folder / "run")
    assert weights(run) == weights(folder / "run")


def weights(folder):
    """A hash of parameters, running statistics and optimizers in the last checkpoint."""
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            digest.update(value.numpy().tobytes())
        elif isinstance(value, dict):
            [add(value[key]) for key in value]
        elif isinstance(value, list):
            [add(each) for each in value]

    add(checkpoint.load(folder / "last.ckpt")["peers"])
    return digest.hexdigest()


@pytest.fixture
def pair(tmp_path):
    """Two ranks started one by one, without torchrun, which would end both."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = str(found.getsockname()[1])
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-u", str(SCRIPT), *FLAGS],
            cwd=tmp_path,
            env={**launch.environment(), **place, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.training
def test_a_killed_rank_ends_the_other_and_the_run_goes_on(
    pair, whole, tmp_path, monkeypatch, capsys
):
    first, second = pair
    for line in first.stdout:
        if line.startswith("| Test Epoch #1"):
            break
    os.kill(second.pid, signal.SIGKILL)
    _, message = first.communicate(timeout=60)
    assert first.returncode == 2
    assert f"rank 0 of 2 on {socket.gethostname()}: error: another process of this run" in message
    assert len(message.splitlines()) == 1
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [0, 1]
    shutil.copytree(tmp_path / "run", tmp_path / "alone" / "run")

    done = launch.run(SCRIPT, [*FLAGS, "--resume"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note: the checkpoint is of" not in done.stdout
    folder, _ = whole
    assert rows(tmp_path / "run") == rows(folder / "run")
    assert weights(tmp_path / "run") == weights(folder / "run")

    monkeypatch.chdir(tmp_path / "alone")
    assert instanceGM.main([*FLAGS, "--resume"]) == 0
    assert "note: the checkpoint is of 2 processes, and this run has 1" in capsys.readouterr().out
    assert [row["epoch"] for row in rows(tmp_path / "alone" / "run")] == [0, 1, 2]


# ---- which processes there are


def test_gpus_that_are_not_there_leave_one_process(main, tmp_path, capsys):
    assert main("--gpu_devices 0 1 --dataset digits --noise_file nothing.npz") == 2
    output = capsys.readouterr()
    assert "note: --gpu_devices 0 1: this machine has 0 GPUs" in output.out
    assert "nothing.npz" in output.err


def test_several_gpus_become_torchrun(main, monkeypatch):
    started = []

    def become(program, words):
        started.append(words)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr(sys, "argv", ["instanceGM.py", "--gpu_devices", "1", "3"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(*sys.argv[1:]) == 130
    (words,) = started
    assert words[1:] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("--", "instanceGM.py", "--gpu_devices", "1", "3"),
    ]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,7"


def test_evaluating_is_for_one_process(main, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main("--evaluate run") == 2
    assert "rank 1 of 2" in (error := capsys.readouterr().err)
    assert "start it without torchrun" in error


def test_batch_norm_over_all_ranks_needs_gpus(monkeypatch):
    with pytest.raises(UsageError, match="--sync_bn is for GPUs"):
        build(parse(["--dataset", "digits", "--device", "cpu", "--sync_bn"]), ranks=Ranks(0, 2))
    config = parse(["--dataset", "digits", "--sync_bn", "--limit_train", "20", "--width", "1"])
    assert build(config).identity["sync_bn"]


def test_other_data_on_another_machine_are_refused():
    first = {"seed": 1, "data_sha256": "a"}

    class Second(Ranks):
        def each(self, value):
            return [first, value]

    ranks = Second(1, 2)
    check_same(first, ranks)
    with pytest.raises(UsageError, match="data_sha256 is b here and a in the first process"):
        check_same({**first, "data_sha256": "b"}, ranks)
    with pytest.raises(UsageError, match="sync_bn is True here and None in the first process"):
        check_same({**first, "sync_bn": True}, ranks)
    with pytest.raises(UsageError, match="seed is None here and 1 in the first process"):
        check_same({"data_sha256": "a"}, ranks)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--gpu_devices 0 1 --gpuid 1", "drop one"),
        ("--gpu_devices 0 1 --device cpu", "leave out --device cpu"),
        ("--gpu_devices 0 1 --evaluate run", "leave out --gpu_devices"),
    ],
)
def test_gpus_are_named_once(line, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(line.split())
    assert message in capsys.readouterr().err
