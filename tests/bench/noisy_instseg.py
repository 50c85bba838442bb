"""What losses, training steps, COCO's figures and the loading of an image cost.

    make bench-noisy_instseg
    make bench-noisy_instseg ARGS="--device cuda"  # losses and training alone
    make bench-noisy_instseg ARGS="--json bench.json --steps 500"

Losses forward and backward, called as mmdetection's box head calls them, on the 512 regions of an
image, against mmdetection's cross-entropy; faster-coco-eval against pycocotools; the transforms of
Cityscapes on an image of 2,048 x 1,024 with 20 objects. What is compared takes turns, so that a
machine whose speed drifts slows all of it; trust the ratio.
"""

import argparse
import contextlib
import io
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from noisy_instseg import plugins  # noqa: F401 - mmcv's operators, before mmdet.models
from noisy_instseg.analysis import trained_model
from noisy_instseg.loss_modules import (
    GeneralizedCrossEntropyLoss,
    NewCombinationLoss,
    SymmetricCrossEntropyLoss,
)
from noisy_instseg.run.config import Settings
from shared.datasets import shapes
from tests.bench.shares import shares_of, show

CONFIGS = Path(__file__).resolve().parents[2] / "noisy_instseg/configs/shapes"
STAGES = {"stage 1 (CE)": "nl_1", "stage 2 (NCL)": "nl_2"}
REGIONS = 512
COLUMNS = {9: "Cityscapes", 81: "COCO"}


def loss_modules() -> dict[str, nn.Module]:
    from mmdet.models.losses import CrossEntropyLoss

    return {
        "CE": CrossEntropyLoss(use_sigmoid=False, loss_weight=1.0),
        "NCL": NewCombinationLoss(),
        "NCL, sets logged": NewCombinationLoss(log_partition=True),
        "SCE": SymmetricCrossEntropyLoss(),
        "GCE": GeneralizedCrossEntropyLoss(),
    }


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def differentiate(module: nn.Module, logits: Tensor, labels: Tensor, weight: Tensor) -> None:
    loss = module(logits, labels, weight, avg_factor=float(REGIONS), reduction_override=None)
    (loss["loss_cls"] if isinstance(loss, dict) else loss).backward()


def microseconds(columns: int, steps: int, device: torch.device) -> dict[str, float]:
    """Median of each loss on random logits (REGIONS, columns), without the first tenth."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(REGIONS, columns, generator=generator).to(device).requires_grad_()
    labels = torch.randint(0, columns, (REGIONS,), generator=generator).to(device)
    weight = torch.ones(REGIONS, device=device)
    modules = {name: module.to(device) for name, module in loss_modules().items()}
    times: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(steps):
        for name, module in modules.items():
            logits.grad = None
            work = partial(differentiate, module, logits, labels, weight)
            times[name].append(seconds(work, device))
    return {name: 1e6 * median(row[steps // 10 :]) for name, row in times.items()}


def report_losses(steps: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Prints one line per loss; {shape: {loss: microseconds}}."""
    found = {f"({REGIONS}, {columns})": microseconds(columns, steps, device) for columns in COLUMNS}
    print(
        f"{'loss, forward + backward':<26}"
        + "".join(f"{shape + ', us':>18}{'to CE':>8}" for shape in found)
    )
    for name in next(iter(found.values())):
        print(
            f"{name:<26}"
            + "".join(f"{row[name]:18.1f}{row[name] / row['CE']:8.2f}" for row in found.values())
        )
    return found


def trainers(device: torch.device) -> dict[str, Callable[[], Any]]:
    """One step of training for each stage: the tiny Mask R-CNN, 4 pictures, no data loading."""
    from mmdet.registry import MODELS
    from mmengine.optim import build_optim_wrapper
    from mmengine.runner import Runner

    made = {}
    with tempfile.TemporaryDirectory() as folder:
        shapes.write(Path(folder, "shapes"), train=16, val=4)
        for name, stage in STAGES.items():
            settings = Settings(data_root=Path(folder, "shapes"))
            config = CONFIGS / f"mask_rcnn_tiny_shapes_{stage}.py"
            cfg = trained_model.load_config(config, settings, "train")
            torch.manual_seed(0)
            model = MODELS.build(cfg.model).train().to(device)
            optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of its index
                batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
            made[name] = partial(model.train_step, batch, optim_wrapper=optimizer)
    return made


def report_training(steps: int, device: torch.device) -> dict[str, float]:
    """Prints and returns training steps a second by stage; medians, the stages in turns."""
    steps_of = trainers(device)
    times: dict[str, list[float]] = {name: [] for name in steps_of}
    for _ in range(steps):
        for name, step in steps_of.items():
            times[name].append(seconds(step, device))
    found = {name: 1 / median(row[steps // 10 :]) for name, row in times.items()}
    for name, rate in found.items():
        print(f"tiny Mask R-CNN, {name:<22}{rate:6.2f} steps/s of 4 images of 128 x 128")
    return found


def some_boxes(draw: np.random.Generator, count: int, height: int, width: int) -> Any:
    """(count, 4) x, y, width, height inside the image."""
    corners = np.sort(draw.uniform(0, 1, (count, 2, 2)), axis=1)
    corners = (corners * [width - 2, height - 2]).astype(int)
    return np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0] + 1], axis=1)


def run_lengths(box: Any, height: int, width: int) -> Any:
    return coco_mask.frPyObjects(np.array([box], float), height, width)[0]


def detections_of_coco(images: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations and detections in COCO's numbers: 80 classes, 7 objects, 100 detections."""
    draw = np.random.default_rng(0)
    made: dict[int, list[dict[str, Any]]] = {7: [], 100: []}
    for image in range(1, images + 1):
        for count, rows in made.items():
            for box in some_boxes(draw, count, 480, 640):
                rows.append(
                    {
                        "id": len(rows) + 1,
                        "image_id": image,
                        "category_id": int(draw.integers(1, 81)),
                        "bbox": box.tolist(),
                        "segmentation": run_lengths(box, 480, 640),
                        "area": float(box[2] * box[3]),
                        "iscrowd": 0,
                        "score": float(draw.random()),
                    }
                )
    sizes = [{"id": k, "height": 480, "width": 640} for k in range(1, images + 1)]
    categories = [{"id": k, "name": str(k)} for k in range(1, 81)]
    return {"images": sizes, "annotations": made[7], "categories": categories}, made[100]


def report_evaluation(turns: int, images: int = 300) -> dict[str, float]:
    """Prints and returns milliseconds an image of COCO's figures, in turns."""
    from mmdet.evaluation.metrics import coco_metric

    from noisy_instseg.run.coco_reader import ReadableCoco

    content, detections = detections_of_coco(images)
    times: dict[str, list[float]] = {}
    for _ in range(turns):
        for kind in ("bbox", "segm"):
            for evaluation in (COCOeval, coco_metric.COCOeval):
                with contextlib.redirect_stdout(io.StringIO()):
                    index = ReadableCoco()
                    index.dataset = content
                    index.createIndex()
                    found = index.loadRes([dict(row) for row in detections])
                    start = time.perf_counter()
                    work = evaluation(index, found, kind)
                    work.evaluate()
                    work.accumulate()
                    work.summarize()
                name = f"{kind}, {evaluation.__name__}"
                times.setdefault(name, []).append(time.perf_counter() - start)
    milliseconds = {name: 1000 * median(row) / images for name, row in times.items()}
    for name, value in milliseconds.items():
        print(f"COCO's figures, {name:<23}{value:6.2f} ms an image of 100 detections")
    return milliseconds


def report_loading(turns: int) -> dict[str, float]:
    """Prints and returns milliseconds of each transform on an image in Cityscapes' size."""
    from mmdet.registry import TRANSFORMS
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    DefaultScope.get_instance("bench", scope_name="mmdet")
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (128, 256, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (2048, 1024), interpolation=cv2.INTER_CUBIC).astype(float)
    image += draw.normal(0, 3, image.shape)  # compresses no better than a photograph
    boxes = some_boxes(draw, 20, 1024, 2048).astype(float)
    config = CONFIGS.parent / "cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_ce.py"
    pipeline = Config.fromfile(config, import_custom_modules=False).train_dataloader.dataset
    steps = [TRANSFORMS.build(step) for step in pipeline.dataset.pipeline]
    times: dict[str, list[float]] = {type(step).__name__: [] for step in steps}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "image.png"))
        cv2.imwrite(path, image.clip(0, 255).astype(np.uint8))
        for _ in range(turns):
            masks = [run_lengths(box, 1024, 2048) for box in boxes]
            objects = [
                {"bbox": [x, y, x + w, y + h], "bbox_label": 0, "mask": mask, "ignore_flag": 0}
                for (x, y, w, h), mask in zip(boxes, masks)
            ]
            sample = {"img_path": path, "img_id": 0, "height": 1024, "width": 2048}
            sample["instances"] = objects
            for step in steps:
                start = time.perf_counter()
                sample = step(sample)
                times[type(step).__name__].append(time.perf_counter() - start)
    milliseconds = {name: 1000 * median(row) for name, row in times.items()}
    for name, value in milliseconds.items():
        print(f"2,048 x 1,024, 20 objects: {name:<22}{value:6.1f} ms")
    return milliseconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Benchmark of the losses of noisy_instseg, and of training."
    )
    parser.add_argument(
        "--training_steps", type=int, default=60, help="timed training steps of each stage (60)"
    )
    parser.add_argument(
        "--steps", type=int, default=2000, help="timed repetitions of each figure (2000)"
    )
    parser.add_argument(
        "--device", default="cpu", type=torch.device, help="of losses and training (cpu)"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", help="numbers of CPU threads to try (1 2; on a GPU 1)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    on_gpu = args.device.type == "cuda"
    where = torch.cuda.get_device_name(args.device) if on_gpu else platform.machine()
    report: dict[str, Any] = {}
    for threads in args.threads or ([1] if on_gpu else [1, 2]):
        torch.set_num_threads(threads)
        print(f"\n{where}, {threads} threads, torch {torch.__version__}")
        report[f"losses, {threads} threads, us"] = report_losses(args.steps, args.device)
        trained = report_training(args.training_steps, args.device)
        report[f"training, {threads} threads, steps/s"] = trained
    if on_gpu:
        report["peak GPU memory, GiB"] = torch.cuda.max_memory_allocated(args.device) / 2**30
    else:
        report["a training step, %"] = shares_of(next(iter(trainers(args.device).values())), 10)
        show("a training step, %", report["a training step, %"])
        report["COCO's figures, ms an image"] = report_evaluation(max(1, args.steps // 500))
        report["loading of an image, ms"] = report_loading(max(1, args.steps // 100))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
