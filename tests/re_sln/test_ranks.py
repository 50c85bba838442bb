"""Two processes train one run: they come to what one comes to, and survive each other."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import two_ranks
from conftest import SCRIPTS, TINY, rows
from PIL import Image

from re_sln import make_dependent_noise, plot, results, table, train_cifar, tune, viz
from re_sln.method.disk_images import DiskImages, plain_rgb
from re_sln.method.images import DeviceImages
from re_sln.method.ranks import Ranks
from re_sln.run import checkpoint, experiment, launch
from re_sln.run.config import parse
from re_sln.run.errors import PeerError, UsageError
from re_sln.run.launch import joined
from tests.ranks import environment, run, torchrun

CPU = torch.device("cpu")
WORKER = Path(two_ranks.__file__)
EPOCHS = 12
# 97 = 3 x 32 + 1: the last batch is smaller than the number of ranks.
FLAGS = [
    *(*TINY, "--limit_train", "97", "--limit_test", "41", "--device", "cpu", "--amp", "off"),
    *("--method", "sln_mo_lc", "--lc_n_epoch", "2", "--ema_decay", "0.9"),
]
LONG = [*FLAGS, "--n_epochs", str(EPOCHS)]


def meeting_of(count):
    """What torchrun sets for each of `count` processes but its number."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def started(count, flags, folders):
    """The script `count` times, as torchrun starts it, but nobody ends what is left of them."""
    known = meeting_of(count)
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPTS / "train_cifar.py"), *flags],
            cwd=folder,
            env={**environment(), **known, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, folder in zip(range(count), folders)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two ranks, its output, and what each of them came to."""
    folder = tmp_path_factory.mktemp("ranks")
    done = run(WORKER, ["bn", *LONG, "--output_dir", "whole"], folder)
    assert done.returncode == 0, done.stderr
    states = [checkpoint.load(folder / f"whole-rank{rank}.pt") for rank in (0, 1)]
    return folder / "whole", done, states


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of the same run, of which one rank was killed, and what the other one said."""
    folder = tmp_path_factory.mktemp("killed")
    first, second = started(2, [*LONG, "--output_dir", "run"], [folder, folder])
    metrics = folder / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    os.kill(second.pid, signal.SIGKILL)
    second.communicate()
    _, said = first.communicate(timeout=60)
    return folder / "run", first.returncode, said


def assert_same(one, other):
    for part in ("net", "average"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    assert torch.equal(one["targets"], other["targets"])


@pytest.mark.training
def test_two_ranks_come_to_what_one_comes_to_without_batch_normalisation(tmp_path, monkeypatch):
    done = run(WORKER, ["no_bn", *FLAGS, "--output_dir", "two"], tmp_path)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "WideResNet", two_ranks.without_bn)
    alone = train_cifar.train(parse("train_cifar", [*FLAGS, "--output_dir", "one"]))
    two = checkpoint.load(tmp_path / "two" / checkpoint.LAST)
    torch.testing.assert_close(two["targets"], alone.learner.targets, atol=1e-4, rtol=1e-4)
    for name, weight in alone.learner.ema.net.state_dict().items():
        torch.testing.assert_close(two["average"][name], weight, atol=1e-4, rtol=1e-4)
    expected = rows(tmp_path / "one")
    assert [row["sigma"] for row in expected] == [0.5, 0, 0]
    assert rows(tmp_path / "two") == [pytest.approx(row, rel=1e-4) for row in expected]


@pytest.mark.training
def test_both_ranks_hold_the_same_after_training_bit_for_bit(whole):
    _, _, (first, second) = whole
    assert_same(first, second)
    assert first["buffers"].keys() == second["buffers"].keys()
    assert any("running_mean" in name for name in first["buffers"])
    assert len(first["rows"]) == len(second["rows"]) == EPOCHS


@pytest.mark.training
def test_one_rank_writes_and_prints(whole):
    folder, done, _ = whole
    assert done.stdout.count("all models saved") == 1
    assert "2 processes, cpu, float32" in done.stdout
    assert done.stdout.count("epoch=12/12") == 1
    assert [row["epoch"] for row in rows(folder)] == list(range(1, EPOCHS + 1))
    assert len(list(folder.glob("events*"))) == len(list(folder.glob("*/events*"))) / 3 == 1
    assert (folder / "label_quality.csv").read_text().count("\n") == 98
    assert "ranks: 2\n" in (folder / "config.yaml").read_text()


@pytest.mark.training
def test_a_killed_rank_ends_the_other_one_with_a_message(killed):
    _, status, said = killed
    assert status == 2
    assert f"rank 0 of 2 on {socket.gethostname()}: error: another process of this run" in said
    assert "Traceback" not in said


@pytest.mark.training
def test_two_ranks_resume_to_the_same_run(killed, whole, tmp_path):
    shutil.copytree(killed[0], tmp_path / "run")
    script = SCRIPTS / "train_cifar.py"
    done = run(script, [*LONG, "--output_dir", "run", "--resume"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed: epoch" in done.stdout
    assert "note: trained by" not in done.stdout
    assert rows(tmp_path / "run") == rows(whole[0])
    assert_same(*(checkpoint.load(each / checkpoint.LAST) for each in (tmp_path / "run", whole[0])))


def test_a_rank_ends_where_the_interpreter_would_be_aborted_as_it_ends():
    code = (
        "import atexit, os; from re_sln.run.errors import leave; "
        "atexit.register(os.abort); print('last words'); leave(3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WORLD_SIZE": "2"},
        cwd=SCRIPTS.parent,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (3, "last words\n")


@pytest.mark.training
def test_one_process_resumes_the_run_of_two(killed, tmp_path, main, capsys):
    shutil.copytree(killed[0], tmp_path / "run")
    assert main(*LONG, "--output_dir", "run", "--resume") == 0
    assert "trained by 2 ranks so far, by 1 from here on" in capsys.readouterr().out
    assert [row["epoch"] for row in rows(tmp_path / "run")] == list(range(1, EPOCHS + 1))
    assert checkpoint.load(tmp_path / "run" / checkpoint.LAST)["ranks"] == 1


@pytest.mark.training
def test_a_rank_that_cannot_start_names_itself(whole, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    shutil.copy(whole[0] / "noise.npz", folders[0])
    flags = ["--dataset_name", "digits", "--noise_file", "noise.npz", "--method", "ce"]
    first, second = started(2, flags, folders)
    _, said = second.communicate(timeout=300)
    assert second.returncode == 2
    assert "rank 1 of 2 on" in said
    assert "noise.npz" in said
    _, said = first.communicate(timeout=60)
    assert "rank 0 of 2 on" in said
    assert "another process of this run has ended" in said


# ---- without starting any


@pytest.mark.parametrize("count", [1, 5, 8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_rows_of_all_ranks_are_the_batch(count, size):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    on_device = DeviceImages(pixels, ((0.5,) * 3, (0.2,) * 3), CPU)
    batches = list(torch.randperm(8, generator=torch.Generator().manual_seed(1)).split(count))
    for show in (on_device.plain, partial(on_device.views, seed=4)):
        whole = list(show(batches))
        parts = [list(show(batches, ranks=Ranks(rank, size))) for rank in range(size)]
        for number, batch in enumerate(whole):
            own = [
                part[number][: Ranks(rank, size).own(len(batch))] for rank, part in enumerate(parts)
            ]
            assert torch.equal(torch.cat(own), batch)


def test_a_rank_decodes_its_own_rows_alone(tmp_path):
    opened = []

    def note(path):
        opened.append(path.name)
        return plain_rgb(path)

    for number in range(4):
        Image.new("RGB", (300, 256), (number, 0, 0)).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    images = DiskImages(paths, CPU, 0, note, ((0.5,) * 3, (0.2,) * 3))
    batches = [torch.tensor([3, 1, 0, 2])]
    whole = next(images.views(batches, 7))
    opened.clear()
    assert torch.equal(next(images.views(batches, 7, Ranks(1, 2))), whole[2:])
    assert opened == ["0.png", "2.png"]


def test_sync_bn_of_several_processes_needs_a_gpu():
    config = parse("train_cifar", [*FLAGS, "--sync_bn"])
    with pytest.raises(UsageError, match="--sync_bn works on GPUs, and this is cpu"):
        experiment.check_sync_bn(config, Ranks(0, 2), CPU)
    experiment.check_sync_bn(config, Ranks(), CPU)
    assert experiment.prepare(config).identity["sync_bn"]
    assert "sync_bn" not in experiment.prepare(parse("train_cifar", FLAGS)).identity


@pytest.mark.parametrize(("local_rank", "makes"), [("0", True), ("1", False)])
def test_one_process_of_a_machine_makes_custom_noise(local_rank, makes, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    flags = ["--dataset_name", "cifar10", "--noise_mode", "sym", "--method", "ce"]
    custom = ["--custom_noise", "--make_new_custom_noise"]
    given = parse("train_cifar", [*flags, *custom])
    assert experiment._of_this_process(given).make_new_custom_noise == makes
    assert experiment._of_this_process(given).custom_noise


@pytest.mark.parametrize("name", ["data_sha256", "n_epochs", "save_probs", "sync_bn"])
def test_a_rank_with_other_data_or_flags_is_refused(name):
    """Of the last one this rank knows nothing."""

    class Other(Ranks):
        def each(self, value):
            return [{**value, name: "another"}]

    with pytest.raises(UsageError, match=f"{name} is .* and another in the first process"):
        experiment.prepare(parse("train_cifar", FLAGS), ranks=Other())


def test_a_gpu_that_is_not_there_is_passed_over(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    flags = [*TINY, "--method", "ce", "--device", "cuda", "--gpu_devices", "1", "0"]
    assert experiment._device(parse("train_cifar", flags)) == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (tune, ["--dataset_name", "digits", "--noise_mode", "sym"]),
        (table, []),
        (results, []),
        (viz, ["digits", "--noise_mode", "sym"]),
        (plot, ["--exp_id", "run", "--plot_type", "curves"]),
        (make_dependent_noise, ["--dataset_name", "digits", "--out", "noise.npz"]),
    ],
)
def test_what_is_of_one_process_refuses_torchrun(script, flags, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert script.main(flags) == 2
    assert "start it without torchrun" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_gpu_devices_start_torchrun_on_those_gpus(main, monkeypatch):
    def execv(path, command):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,3"
        raise SystemExit(command[1:])

    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(launch.os, "execv", execv)
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):  # which `start_on` sets
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    script, flags = str(SCRIPTS / "train_cifar.py"), [*TINY, "--method", "ce"]
    flags += ["--gpu_devices", "1", "3"]
    monkeypatch.setattr(sys, "argv", [script, *flags])
    with pytest.raises(SystemExit) as stopped:
        main(*flags)
    assert stopped.value.code == torchrun(Path(script), flags)[1:]


@pytest.mark.training
def test_gpu_devices_that_are_not_there_leave_one_process(main, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    flags = [*TINY, "--n_epochs", 1, "--method", "ce", "--output_dir", "run"]
    assert main(*flags, "--gpu_devices", 0, 1) == 0
    assert "note: --gpu_devices 0 1: this machine has 0 GPUs" in capsys.readouterr().out
    assert "ranks: 1\n" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.parametrize("numbers", [(0, 0), (-1,), (0, -1)])
def test_gpus_have_different_numbers_from_0_on(main, numbers, capsys):
    assert main(*TINY, "--method", "ce", "--gpu_devices", *numbers) == 2
    asked = " ".join(map(str, numbers))
    assert f"--gpu_devices {asked}: different numbers from 0 on" in capsys.readouterr().err


def test_gpus_that_contradict_the_device_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(
            "train_cifar", [*TINY, "--method", "ce", "--gpu_devices", "0", "1", "--device", "cpu"]
        )
    assert "drop one of them" in capsys.readouterr().err


def test_several_processes_train_on_cuda_or_cpus(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="not on mps: --device cpu"), joined(torch.device("mps")):
        pass


def test_a_process_that_does_not_start_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(launch, "JOIN_BY_HAND", timedelta(seconds=1))
    for name, value in {**meeting_of(2), "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    message = "not all processes of this run started within 0:00:01"
    with pytest.raises(PeerError, match=message), joined(CPU):
        pass


def test_a_process_that_torchrun_did_not_start_is_named(monkeypatch):
    monkeypatch.setattr(launch, "JOIN", timedelta(seconds=1))
    meeting = meeting_of(2)
    of_torchrun = torch.distributed.TCPStore(  # torchrun's own, which its processes only visit
        meeting["MASTER_ADDR"], int(meeting["MASTER_PORT"]), is_master=True, wait_for_workers=False
    )
    agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "none"}
    for name, value in {**meeting, **agent, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PeerError, match="rank 1 of 2 is missing, see its message"), joined(CPU):
        pass
    assert of_torchrun.num_keys() > 0


def test_torchruns_processes_are_refused_one_and_the_same_gpu(main, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(*TINY, "--method", "ce", "--device", "cuda:1") == 2
    assert "--device cuda:1: torchrun's processes each take their own" in capsys.readouterr().err
