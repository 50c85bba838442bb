"""How the tests run the real scripts: in this process, or in a subprocess as a user does."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch

from shared.datasets import shapes

# networks this small gain nothing from more, and lose much when other processes compute
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "noisy_instseg" / "tools"
SHAPES = ROOT / "noisy_instseg" / "configs" / "shapes"
TIMING = ("seconds", "images_per_s")
STAGE = """_base_ = {base!r}
train_cfg = dict(max_epochs={epochs})
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=4, milestones=[3], gamma=0.1),
]
train_dataloader = dict(dataset=dict(times=1, dataset=dict(data_root={data!r})))
val_dataloader = dict(dataset=dict(data_root={data!r}))
"""


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the two trained stages trains; what needs mmdet's models is as slow to start."""
    for item in items:
        if {"stages", "models"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.training)


def main(name: str, *flags: object) -> int:
    """tools/<name>.py in this process, where mmdetection is imported once.

    mmengine reads checkpoints its own way again afterwards.
    """
    from mmengine.runner import CheckpointLoader

    schemes = dict(CheckpointLoader._schemes)
    try:
        return tool(name).main([str(flag) for flag in flags])
    finally:
        CheckpointLoader._schemes = schemes


def tool(name: str) -> ModuleType:
    """tools/<name>.py as a module."""
    spec = importlib.util.spec_from_file_location(f"noisy_instseg_{name}", TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHON": sys.executable,
    }


def run_script(name: str, *flags: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script of tools/ as a user would, in `folder`."""
    program = [sys.executable] if name.endswith(".py") else []
    command = [*program, str(TOOLS / name), *map(str, flags)]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )


def rows(folder: Path) -> list[dict[str, object]]:
    """The metrics of a run, less what the clock decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def weights(checkpoint: Path) -> str:
    """A hash of all weights, and of the optimizer's averages, in a checkpoint."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    digest = hashlib.sha256()
    tensors = [*state["state_dict"].values()]
    tensors += [value for part in state["optimizer"]["state"].values() for value in part.values()]
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 8 + 4 pictures."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    shapes.write(folder, train=8, val=4, size=64, seed=1)
    return folder


@pytest.fixture(scope="session")
def stage_configs(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Path]:
    """The configs of shapes with 2 + 2 epochs, as configs of a user's own that inherit them."""
    folder = tmp_path_factory.mktemp("configs")
    for stage, epochs in ((1, 2), (2, 4)):
        base = SHAPES / f"mask_rcnn_tiny_shapes_nl_{stage}.py"
        (folder / f"tiny_nl_{stage}.py").write_text(
            STAGE.format(base=str(base), epochs=epochs, data=str(data))
        )
    return folder / "tiny_nl_1.py", folder / "tiny_nl_2.py"


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory, stage_configs: tuple[Path, Path]) -> Path:
    """Both stages, trained by train_stages.py without interruption; holds tiny_nl_1 and tiny_nl_2.

    Not to be written to.
    """
    folder = tmp_path_factory.mktemp("stages")
    status = main("train_stages", *stage_configs, "--work-dir", folder)
    assert status == 0
    return folder


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The main function of train.py, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    return partial(main, "train")
