"""Several processes train one run: the figures of one, the files of one, and what a kill does."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from conftest import ROOT, SCRIPTS, environment, rows, verdicts
from test_script import flat, lines_in
from torch import distributed as dist
from torch import nn

from lra_diffusion import KNN_test, make_pmd, plot, train_CIFAR, train_SimCLR
from lra_diffusion.encoders.embeddings import Parts, cached, embed
from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.method import classifier
from lra_diffusion.method.evaluate import predict
from lra_diffusion.method.images import IMAGENET_NORMALISATION
from lra_diffusion.method.ranks import ALONE, Ranks
from lra_diffusion.method.train import train
from lra_diffusion.run import checkpoint
from lra_diffusion.run.config import parse
from lra_diffusion.run.device import autocast
from lra_diffusion.run.errors import UsageError
from lra_diffusion.run.experiment import check_sync_bn, prepare
from lra_diffusion.run.image_files import DiskImages
from lra_diffusion.run.launch import check_same
from lra_diffusion.run.report import TIMING
from tests import ranks as launched

CPU = torch.device("cpu")
LOST = "another process of this run has ended"


# ---- the figures of two processes are those of one


def figures(folder: Path, data: list[str], ranks: Ranks) -> dict[str, object]:
    """Of both trainings without batch normalisation; the last batches leave a rank without rows."""
    flags = [*data, *tiny.SMALL, "--amp", "off", "--nepoch", "2", "--lr", "1e-4"]
    run = prepare(parse("train_CIFAR", flags), CPU, ranks)
    table = list(train(run.learner, run.train_set, run.test_sets, run.config))
    model, test_set = run.learner.model("raw"), run.test_sets["test"]
    [probabilities] = predict([model], test_set, run.config, nullcontext, ranks)

    baseline = classifier.build("resnet18", 4, 2, CPU, 1, ranks=ranks)
    settings = classifier.Settings(26, 2, classifier.cosine(0.01, 2), 1, autocast("off", CPU))
    parts = {"train": run.data.train, **run.data.tests}
    labelled = {k: classifier.LabelledImages(part.images, part.labels) for k, part in parts.items()}
    train_set = labelled.pop("train")
    curve = list(classifier.epochs(baseline, train_set, labelled, settings))

    paths = [folder / "pictures" / f"{number}.png" for number in range(7)]
    return {
        "rows": [numbers(row) for row in [*table, *curve]],
        "neighbours": run.train_set.guide.candidates,
        "probabilities": probabilities,
        "networks": [net.state_dict() for net in (*model, baseline.net)],
        "features": [features(folder, paths, ranks, views) for views in (None, 3)],
    }


def numbers(row: dict[str, object]) -> dict[str, object]:
    numeric = {name: value for name, value in row.items() if isinstance(value, int | float)}
    return {name: value for name, value in numeric.items() if name not in TIMING}


def features(folder: Path, paths: list[Path], ranks: Ranks, views: int | None) -> object:
    """Of pictures of which the last two cannot be read, and what is known of these."""
    key = {"split": "train", "dataset": "mine", "views": views}
    parts = Parts(folder / f"cache{ranks.size}", key, str, True, ranks)
    images = DiskImages(paths, IMAGENET_NORMALISATION, CPU, 0, bicubic=True, own=True)
    images.on_broken = parts.broken.__setitem__
    net = nn.Sequential(nn.AvgPool2d(56), nn.Flatten())
    encoder = Encoder("means", net, 48, "means", largest_batch=3)
    found = cached(
        parts.folder.parent,
        key,
        len(paths),
        lambda: embed(encoder, images, nullcontext, views, parts, ranks),
        parts,
        ranks,
    )
    return found, parts.broken


def one_of_two(rank: int, folder: Path, data: list[str]) -> None:
    """Without batch normalisation, whose statistics are of each rank's rows."""
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    nn.BatchNorm1d = nn.BatchNorm2d = nn.Identity
    ranks = Ranks(rank, 2)
    torch.save(figures(folder, data, ranks), folder / f"{rank}.pt")
    try:
        check_same({"train_sha256": "ab"[rank]}, ranks)
    except UsageError as error:
        (folder / f"refused_by_{rank}").write_text(str(error))
    os._exit(0)  # see errors.leave


@pytest.mark.training
def test_two_ranks_have_the_figures_of_one(tmp_path, monkeypatch):
    for number in range(5):
        tiny.picture(tmp_path / "pictures" / f"{number}.png", 40 * number)
    for number in (5, 6):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"no picture")
    data = tiny.augmented(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=one_of_two, args=(rank, tmp_path, data)) for rank in (0, 1)]
    for process in processes:
        process.start()
    with monkeypatch.context() as patch:
        patch.setattr(nn, "BatchNorm1d", nn.Identity)
        patch.setattr(nn, "BatchNorm2d", nn.Identity)
        alone = figures(tmp_path, data, ALONE)
    for process in processes:
        process.join(timeout=300)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    for name, value in flat(first).items():
        assert torch.equal(value, flat(second)[name]), name
    assert first["rows"] == second["rows"]
    for ours, theirs in zip(alone["rows"], first["rows"], strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4)
    assert torch.equal(alone["neighbours"], first["neighbours"])
    for name, value in flat(alone).items():
        torch.testing.assert_close(flat(first)[name], value, rtol=1e-3, atol=1e-4, msg=name)
    for ours, theirs, others in zip(alone["features"], first["features"], second["features"]):
        assert ours[0].equal(theirs[0])
        assert ours[1].keys() == theirs[1].keys() == others[1].keys() == {5, 6}
    assert (tmp_path / "refused_by_1").read_text().startswith("train_sha256 is b here and a in the")
    assert not (tmp_path / "refused_by_0").exists()


def test_a_flag_that_one_rank_alone_has_is_refused():
    class Second(Ranks):
        def each(self, value):
            return [{"seed": 1}, value]

    ranks = Second(1, 2)
    check_same({"seed": 1}, ranks)
    with pytest.raises(UsageError, match="sync_bn is True here and None in the first process"):
        check_same({"seed": 1, "sync_bn": True}, ranks)
    with pytest.raises(UsageError, match="seed is None here and 1 in the first process"):
        check_same({}, ranks)


# ---- the scripts


CHECKED = f"""
import hashlib, sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
from test_script import flat
from lra_diffusion import train_CIFAR
from lra_diffusion.run.errors import leave
from lra_diffusion.run.experiment import Experiment

record = Experiment.record

def checked(self, row):
    state = flat(self.learner.state_dict())
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values()))
    assert len({{*self.folder.ranks.each(digest.hexdigest())}}) == 1, "the ranks differ"
    record(self, row)

Experiment.record = checked
leave(train_CIFAR.main())
"""


@pytest.fixture(scope="module")
def flags(tmp_path_factory) -> list[str]:
    """Of a run with queries in every step, whose last batches have three images."""
    folder = tmp_path_factory.mktemp("inputs")
    noise, weights = tiny.noisy_digits(folder), tiny.simclr_weights(folder)
    words = ["--dataset", "digits", "--noise_file", str(noise), "--fp_weights", str(weights)]
    cache = ["--cache_dir", str(folder / "cache")]
    return [*words, *tiny.SMALL, *cache, "--limit_train", "103", "--nepoch", "8", "--resume"]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory) -> Path:
    """The folder in which two processes ran, from start to end."""
    folder = tmp_path_factory.mktemp("whole")
    script = folder / "checked.py"
    script.write_text(CHECKED)
    done = launched.run(script, [*flags, "--output_dir", "run"], folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


@pytest.mark.training
def test_two_processes_leave_the_files_of_one_and_are_equal_after_each_epoch(whole):
    """The latter is checked by the script."""
    assert {path.name for path in whole.iterdir()} == {"checked.py", "stdout", "run"}
    run, name = whole / "run", "LRA-diffusion_SimCLR_digits_noise.pt"
    assert {path.name for path in run.iterdir() if not path.name.startswith(("events", "."))} == {
        "config.yaml",
        "metrics.jsonl",
        "last.ckpt",
        "best.ckpt",
        "noise.npz",
        "label_quality.csv",
        "corrected_labels.npz",
        name,
    }
    assert len([*run.glob("events*")]) == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["ranks"] == 2
    assert [row["epoch"] for row in rows(run)] == [*range(1, 9)]
    assert len(verdicts(run)) == 103
    shown = (whole / "stdout").read_text()
    assert shown.count("2 processes, cpu, encoders in") == shown.count("epoch: 8, loss:") == 1


def pair(flags: list[str], *folders: Path) -> list["subprocess.Popen[str]"]:
    """Processes of train_CIFAR.py as torchrun starts them, without what ends both."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPTS / "train_CIFAR.py"), *flags],
            cwd=folder,
            env={**environment(), **address, "RANK": str(rank), "LOCAL_RANK": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, folder in enumerate(folders)
    ]


@pytest.fixture(scope="module")
def killed(flags, tmp_path_factory) -> Path:
    """A run of two processes of which one was killed after some epochs, and ended the other."""
    folder = tmp_path_factory.mktemp("killed")
    first, second = pair([*flags, "--output_dir", "run"], folder, folder)
    while lines_in(folder / "run" / "metrics.jsonl") < 2 and first.poll() is None:
        time.sleep(0.005)
    os.kill(second.pid, signal.SIGKILL)
    _, message = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode == 2, message
    assert f"rank 0 of 2 on {socket.gethostname()}: error: {LOST}" in message
    assert 2 <= lines_in(folder / "run" / "metrics.jsonl") < 8
    return folder


@pytest.mark.training
def test_a_rank_that_cannot_start_says_so_and_ends_the_others(flags, tmp_path):
    """Its machine lacks the labels."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    shutil.copy(flags[3], tmp_path / "one" / "labels.npz")
    words = [*flags[:3], "labels.npz", *flags[4:]]
    first, second = pair(words, tmp_path / "one", tmp_path / "other")
    messages = [process.communicate(timeout=300)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (2, 2)
    assert f"rank 1 of 2 on {socket.gethostname()}: error: noise file labels.npz" in messages[1]
    assert LOST in messages[0]
    assert not [*(tmp_path / "one").glob("run*")]


@pytest.mark.training
def test_a_killed_rank_ends_the_others_and_two_go_on_to_the_same_result(killed, whole, flags):
    again = shutil.copytree(killed, killed.with_name("two"))
    done = launched.run(SCRIPTS / "train_CIFAR.py", [*flags, "--output_dir", "run"], again)
    assert done.returncode == 0, done.stderr
    assert "resumed: epoch " in done.stdout
    assert "note: the checkpoint is of" not in done.stdout
    assert rows(again / "run") == rows(whole / "run")
    for name in (checkpoint.LAST, checkpoint.BEST):
        ours, theirs = (flat(checkpoint.load(f / "run" / name)) for f in (again, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    [model] = whole.glob("run/LRA-diffusion_*.pt")
    assert model.read_bytes() == (again / "run" / model.name).read_bytes()
    assert verdicts(again / "run") == verdicts(whole / "run")


@pytest.mark.training
def test_one_process_goes_on_and_says_what_changes(killed, flags, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(killed, killed.with_name("one")))
    assert train_CIFAR.main([*flags, "--output_dir", "run"]) == 0
    shown = capsys.readouterr().out
    assert "note: the checkpoint is of 2 processes, now there are 1: batch normalisation" in shown
    assert len(rows(Path("run"))) == 8
    assert yaml.safe_load(Path("run/config.yaml").read_text())["ranks"] == 1


@pytest.mark.training
def test_two_processes_test_a_model_and_train_by_cross_entropy(whole, flags, tmp_path):
    [model] = whole.glob("run/LRA-diffusion_*.pt")
    command = [*flags[: flags.index("--resume")], "--eval_only", str(model)]
    done = launched.run(SCRIPTS / "train_CIFAR.py", command, tmp_path)
    assert done.returncode == 0, done.stderr
    best = checkpoint.load(whole / "run" / checkpoint.BEST)["rows"][-1]
    assert f"test accuracy: {best['accuracy']:.2f}% (30 images)" in done.stdout
    few = ["--limit_train", "103", "--limit_test", "30", "--nepoch", "2", "--batch_size", "25"]
    command = [*flags[:4], *few, "--width", "4", "--device", "cpu", "--output_dir", "run"]
    done = launched.run(SCRIPTS / "train_CE.py", command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1, 2]
    assert len(verdicts(tmp_path / "run")) == 103


# ---- how they are started


def test_several_gpus_start_torchrun_and_without_them_one_process_runs(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    flags = ["--noise_file", "no.npz", "--dataset", "digits", "--gpu_devices", "0", "1"]
    assert train_CIFAR.main(flags) == 2
    shown = capsys.readouterr()
    assert "note: --gpu_devices 0 1: this machine has 0 GPUs" in shown.out
    assert "noise file no.npz does not exist" in shown.err

    class Started(Exception):
        pass

    def execv(program, command):
        raise Started(command)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(sys, "argv", ["train_CIFAR.py", *flags])
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    with pytest.raises(Started) as started:
        train_CIFAR.main()
    [command] = started.value.args
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    assert command == [*torchrun, "--nproc_per_node=2", "--", "train_CIFAR.py", *flags]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (train_SimCLR.main, ["--dataset", "digits"]),
        (make_pmd.main, ["--dataset", "digits"]),
        (KNN_test.main, ["--data", "digits"]),
        (plot.main, ["run"]),
    ],
)
def test_what_does_not_train_by_ranks_refuses(main, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(flags) == 2
    assert "runs in one process (" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_flags_that_several_processes_cannot_have(monkeypatch, capsys):
    config = parse("train_CIFAR", ["--sync_bn"])
    check_sync_bn(config, CPU, ALONE)
    with pytest.raises(UsageError, match="--sync_bn works on GPUs only, this is cpu"):
        check_sync_bn(config, CPU, Ranks(1, 2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train_CIFAR.main(["--noise_type", "digits-1-0.35", "--device", "cuda:0"]) == 2
    assert "--device cuda:0: torchrun's processes each take their own" in capsys.readouterr().err


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 25])
def test_rows_are_dealt_once_in_order_and_two_or_more_at_a_time(size, count):
    dealt, batch = [], np.arange(count)
    for ranks in (Ranks(rank, size) for rank in range(size)):
        mine = batch[ranks.rows(count)]
        assert len(mine) >= min(2, count)
        assert ranks.own(count) in (0, len(mine))
        dealt += mine[: ranks.own(count)].tolist()
    assert dealt == batch.tolist()
