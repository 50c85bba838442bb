"""COCO's figures by faster-coco-eval are those of pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from noisy_instseg.run import torchvision_ops

torchvision_ops.install()  # before mmdet is imported, for the tests that follow

SIDE, CLASSES = 64, 3


def ellipse(draw):
    x, y, a, b = *draw.uniform(0, SIDE, 2), *draw.uniform(3, 24, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 < 1
    return inside | ((rows == int(y)) & (columns == int(x)))  # never empty


def described(mask, **more):
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
        "bbox": coco_mask.toBbox(runs).tolist(),
        "area": float(coco_mask.area(runs)),
        **more,
    }


def random_set(seed):
    """An annotation file's content and detections, with crowds, empty images and equal scores."""
    draw = np.random.default_rng(seed)
    annotations, detections = [], []
    for image in range(1, 31):
        for _ in range(draw.integers(0, 6)):
            mask, category = ellipse(draw), int(draw.integers(1, CLASSES + 1))
            where = {"image_id": image, "category_id": category}
            crowd = int(draw.random() < 0.1)
            annotations.append(described(mask, id=len(annotations) + 1, iscrowd=crowd, **where))
            for _ in range(draw.integers(0, 4)):
                moved = np.roll(mask, draw.integers(-2, 3, 2), (0, 1))
                score = float(draw.integers(1, 20)) / 20
                detections.append({**described(moved, score=score), **where})
        for _ in range(draw.integers(0, 3)):
            score, category = float(draw.random()), int(draw.integers(1, CLASSES + 1))
            where = {"image_id": image, "category_id": category}
            detections.append({**described(ellipse(draw), score=score), **where})
    images = [{"id": k, "height": SIDE, "width": SIDE, "file_name": f"{k}"} for k in range(1, 31)]
    categories = [{"id": k, "name": str(k)} for k in range(1, CLASSES + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def evaluated(evaluation, content, detections, kind, use_categories):
    """As mmdetection's CocoMetric sets it up."""
    from noisy_instseg.run.coco_reader import ReadableCoco

    index = ReadableCoco()
    index.dataset = content
    index.createIndex()
    given = [dict(detection) for detection in detections]
    if kind == "segm":
        for detection in given:
            detection.pop("bbox")
    with contextlib.redirect_stdout(io.StringIO()):
        work = evaluation(index, index.loadRes(given), kind)
        work.params.catIds, work.params.imgIds = index.getCatIds(), index.getImgIds()
        work.params.maxDets, work.params.useCats = [100, 300, 1000], use_categories
        work.evaluate()
        work.accumulate()
        work.summarize()
    return work


@pytest.mark.parametrize("use_categories", [1, 0])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_of_pycocotools(seed, kind, use_categories):
    from mmdet.evaluation.metrics import coco_metric

    from noisy_instseg.run import coco_reader  # noqa: F401

    assert coco_metric.COCOeval is not COCOeval
    content, detections = random_set(seed)
    ours, theirs = (
        evaluated(evaluation, content, detections, kind, use_categories)
        for evaluation in (coco_metric.COCOeval, COCOeval)
    )
    assert theirs.stats[0] > 0.1
    np.testing.assert_allclose(ours.stats[:12], theirs.stats, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.eval["precision"], theirs.eval["precision"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.eval["recall"], theirs.eval["recall"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("first", ["image ", 2**60, -1000])
def test_ids_may_be_text_negative_or_too_large_for_floating_point_numbers(first):
    from mmdet.evaluation.metrics import coco_metric

    from noisy_instseg.run import coco_reader  # noqa: F401

    content, detections = random_set(0)
    numbers = {image["id"]: f"{first}{image['id']}" for image in content["images"]}
    if first != "image ":
        numbers = {number: first + number for number in numbers}
    for image in content["images"]:
        image["id"] = numbers[image["id"]]
    for each in (*content["annotations"], *detections):
        each["image_id"] = numbers[each["image_id"]]
    ours, theirs = (
        evaluated(evaluation, content, detections, "bbox", 1)
        for evaluation in (coco_metric.COCOeval, COCOeval)
    )
    assert theirs.stats[0] > 0.1
    np.testing.assert_array_equal(ours.stats, theirs.stats)
