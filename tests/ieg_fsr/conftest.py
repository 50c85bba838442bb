"""The package `ieg` on the path, TensorFlow on one thread, and the program run as a user does."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as main.py does
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Networks this small gain nothing from more; subprocesses read it too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ieg_fsr"))

import tensorflow as tf  # after the settings that it reads once

from ieg.main import main as ieg_main
from ieg.run.log import TIMING
from shared import datasets
from shared.datasets.image_data import ImageData

CPU = tf.config.list_physical_devices("CPU")[0]
# For two replicas.
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
PROJECT = Path(__file__).resolve().parents[2] / "ieg_fsr"
METHODS = ("supervised", "l2r", "ieg", "fsr")
DATASET, NETWORK = "digits_uniform_0.4", "wrn10-1"
SIZES = [
    "--limit_train=200",
    "--limit_test=50",
    "--batch_size=20",
    "--queue_capacity=40",
    "--queue_bs=20",
]
# 10 steps an epoch.
TINY = [
    f"--dataset={DATASET}",
    f"--network_name={NETWORK}",
    "--meta_start_epoch=1",
    *SIZES,
]
STEPS = 23  # of the runs that tests share; evaluated after 1, 10, 20 and 23


def environment() -> dict[str, str]:
    return dict(os.environ)


def run_main(
    *flags: object, cwd: Path, script: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m ieg.main` in folder `cwd`, or a script by its path."""
    start = ["-m", "ieg.main"] if script is None else [str(script)]
    path = {"PYTHONPATH": str(PROJECT)} if script is None else {}
    return subprocess.run(
        [sys.executable, *start, *map(str, flags)],
        cwd=cwd,
        env={**environment(), **path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def rows(folder: Path) -> list[dict[str, object]]:
    """The metrics of a run, less what the clock decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def variables(folder: Path, iteration: int) -> dict[str, bytes]:
    """Every tensor of a checkpoint but the log, as bytes."""
    reader = tf.train.load_checkpoint(str(folder / f"checkpoint.ckpt-{iteration}"))
    names = [
        name
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    ]
    return {
        name: reader.get_tensor(name).tobytes() for name in names if not name.startswith("record")
    }


def tiny_cifar(monkeypatch, per_class=40):
    """`cifar10` and `cifar100` of few small images, so that nothing has to be there."""

    def read(name, path=None, **_):
        if name not in datasets.CIFAR:
            return real(name, path)
        names = datasets.CIFAR[name].class_names
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(names)), per_class))
        images = np.random.default_rng(1).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
        return ImageData(name, images, labels, images[:50].copy(), labels[:50], names, None)

    real = datasets.load
    monkeypatch.setattr(datasets, "load", read)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at the runs of `trained` has to train them."""
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker("training")


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The main function of ieg.main in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    return lambda *flags: ieg_main([str(flag) for flag in flags])


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Path, subprocess.CompletedProcess[str]]]:
    """A short run of every method by the real command: its run folder and what it printed."""
    root, found = tmp_path_factory.mktemp("trained"), {}
    for method in METHODS:
        flags = [*TINY, f"--max_iteration={STEPS}", "--checkpoint_path=runs", f"--method={method}"]
        done = run_main(
            *flags, cwd=root, script=PROJECT / "ieg" / "main.py" if method == "supervised" else None
        )
        assert done.returncode == 0, done.stderr
        found[method] = (root / "runs" / DATASET / NETWORK / method, done)
    return found


@pytest.fixture
def copy_of(trained: dict, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a method's run folder, to change."""

    def copied(method: str) -> Path:
        return Path(shutil.copytree(trained[method][0], tmp_path / "copy" / method))

    return copied
