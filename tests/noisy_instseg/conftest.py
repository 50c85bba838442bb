"""How the tests run the real scripts: in this process, or in a subprocess as a user does."""

import copy
import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.config import utils as config_utils
from PIL import Image

from noisy_instseg.run import data_checks
from noisy_instseg.run.datasets import parts_of
from shared.coco.classes import TABLES
from shared.datasets import shapes
from shared.errors import UserError

# networks this small gain nothing from more, and lose much when other processes compute
torch.set_num_threads(1)


def _in_no_list(*_: str) -> None:
    """mmengine looks through mmdetection's 300 lists of models for every base of a config, in vain:
    nine tenths of the time of reading it.
    """
    raise ValueError


config_utils._get_cfg_metainfo = _in_no_list

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "noisy_instseg" / "tools"
SHAPES = ROOT / "noisy_instseg" / "configs" / "shapes"
IMPORTS_TORCHVISION = {"test_torchvision_ops.py"}
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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m "not training"` does not even import what takes as long as training to import."""
    fast = config.getoption("markexpr") == "not training"
    return True if fast and collection_path.name in IMPORTS_TORCHVISION else None


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


# ---- made-up data


def annotations(categories: dict[int, str], prefix: str = "") -> dict:
    """Two images, and one object of each category."""
    images = [
        {"id": i, "file_name": f"{prefix}{i}.png", "width": 40, "height": 40} for i in range(2)
    ]
    objects = [
        {
            "id": number,
            "image_id": number % 2,
            "category_id": category,
            "bbox": [1, 1, 8, 8],
            "area": 64,
            "iscrowd": 0,
            "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]],
        }
        for number, category in enumerate(categories, start=1)
    ]
    listed = [{"id": category, "name": name} for category, name in categories.items()]
    return {"images": images, "annotations": objects, "categories": listed}


def draw(path: Path, size: tuple[int, int] = (40, 40), **how: object) -> None:
    Image.new("RGB", size, (9, 90, 200)).save(path, **how)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def cityscapes(tmp_path):
    """(config of Cityscapes, its folder with both sets)."""
    for split in ("train", "val"):
        name = f"instancesonly_filtered_gtFine_{split}.json"
        write(tmp_path / "annotations" / name, annotations(dict(TABLES["cityscapes"]), "bonn/"))
        for number in range(2):
            image = tmp_path / "leftImg8bit" / split / "bonn" / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            draw(image)
    return load_at("cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_nl_2.py", tmp_path), tmp_path


@pytest.fixture
def any_set(tmp_path):
    """(config of any COCO-format set, its folder with both sets), with three fruits."""
    for split in ("train", "val"):
        write(
            tmp_path / "annotations" / f"instances_{split}.json",
            annotations({5: "fig", 2: "date", 9: "nut"}, f"{split}/"),
        )
        for number in range(2):
            image = tmp_path / "images" / split / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            draw(image)
    return load_at("coco_format/mask_rcnn_r50_fpn_coco_format_nl_2.py", tmp_path), tmp_path


@functools.cache
def read_config(name: str) -> Config:
    return Config.fromfile(SHAPES.parent / name, import_custom_modules=False)


def load_at(name: str, data_root: Path) -> Config:
    cfg = copy.deepcopy(read_config(name))
    for part in parts_of(cfg, ("train", "val", "test")):
        part.settings["data_root"] = f"{data_root}/"
    return cfg


def message(cfg: Config, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        data_checks.check(cfg, parts or ("train", "val", "test"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def train_file(root: Path) -> Path:
    return next((root / "annotations").glob("*train.json"))


def set_first(kind: str, **values):
    return lambda content: content[kind][0].update(values)


def set_all(kind: str, **values):
    return lambda content: [entry.update(values) for entry in content[kind]]


# ---- trained runs


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


@pytest.fixture(scope="session")
def models():
    """mmdet's registry of models with the losses in it; the import takes seconds."""
    from noisy_instseg import plugins  # noqa: F401, I001 - first: mmdet.models needs what it puts in place
    import mmdet.models  # noqa: F401
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    return MODELS


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The main function of train.py, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    return functools.partial(main, "train")
