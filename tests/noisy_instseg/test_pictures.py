"""pictures.py: what is painted where, and a page of real predictions."""

import io
import itertools

import numpy as np
import pytest
from conftest import SHAPES, tool
from PIL import Image

from noisy_instseg.analysis import prediction_page
from noisy_instseg.analysis.prediction_page import Instances

METAINFO = {"classes": ("square", "circle"), "palette": [(255, 0, 0), (0, 0, 255)]}


def squares(scores: list[float] | None) -> Instances:
    """Two overlapping squares of 8 pixels in an image of 20 x 20."""
    boxes = np.array([[2, 2, 10, 10], [4, 4, 12, 12]], np.float32)
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 2:10, 2:10] = masks[1, 4:12, 4:12] = True
    return Instances(
        boxes, np.array([0, 1]), masks, None if scores is None else np.array(scores, np.float32)
    )


def test_a_checkpoint_may_hold_more_than_the_network(models, data, tmp_path):
    """Of several processes, or of a larger model: test.py takes them, and so do the pictures."""
    import torch

    from noisy_instseg.analysis import trained_model
    from noisy_instseg.run.config import Settings

    config = SHAPES / "mask_rcnn_tiny_shapes_ce.py"
    cfg = trained_model.load_config(config, Settings(data_root=data), "val")
    weights = models.build(cfg.model).state_dict()
    state = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"state_dict": {**state, "extra": torch.zeros(1)}}, tmp_path / "a.pth")
    model, _ = trained_model.load_model(cfg, tmp_path / "a.pth", torch.device("cpu"))
    found = model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [(10, 4, [0, 3, 6, 9]), (2, 5, [0, 1]), (7, 1, [0]), (1, 1, [0])],
)
def test_images_are_evenly_spread(count, wanted, expected):
    assert prediction_page.spread(count, wanted) == expected


def test_polygons_and_both_kinds_of_run_lengths_are_the_same_mask():
    from pycocotools import mask

    square = np.zeros((6, 8), np.uint8)
    square[1:4, 2:7] = 1
    compressed = mask.encode(np.asfortranarray(square))
    flat = square.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    polygon = [[2, 1, 7, 1, 7, 4, 2, 4]]
    for segmentation in (compressed, {"size": [6, 8], "counts": counts}, polygon):
        np.testing.assert_array_equal(
            prediction_page.decode(segmentation, 6, 8), square.astype(bool)
        )


def test_crowds_are_not_ground_truth():
    item = {
        "bbox": [1, 1, 4, 4],
        "bbox_label": 1,
        "ignore_flag": 0,
        "mask": [[1, 1, 4, 1, 4, 4, 1, 4]],
    }
    truth = prediction_page.ground_truth(
        {"height": 9, "width": 7, "instances": [item, {**item, "ignore_flag": 1}]}
    )
    assert truth.labels.tolist() == [1]
    assert truth.masks.shape == (1, 9, 7)
    assert truth.masks.sum() == 9
    empty = prediction_page.ground_truth({"height": 9, "width": 7, "instances": []})
    assert empty.masks.shape == (0, 9, 7)


def test_a_palette_of_other_classes_is_not_used():
    assert prediction_page.colours_of(METAINFO) == METAINFO["palette"]
    assert prediction_page.colours_of({**METAINFO, "classes": ("a", "b", "c")}) == list(
        prediction_page.PALETTE[:3]
    )
    many = prediction_page.colours_of({"classes": tuple("abcdefghijkl")})
    assert len(many) == 12


@pytest.mark.training  # the import takes as long
@pytest.mark.parametrize(("scores", "winner"), [([0.9, 0.4], 0), ([0.4, 0.9], 1)])
def test_where_masks_overlap_the_higher_score_is_seen(scores, winner):
    from noisy_instseg import plugins  # noqa: F401 - mmcv's operators, before mmdetection is imported

    from mmdet.visualization import DetLocalVisualizer  # isort: skip

    grey = np.full((20, 20, 3), 128, np.uint8)
    image = prediction_page.paint(DetLocalVisualizer(), grey, squares(scores), METAINFO["palette"])
    assert max(image.shape[:2]) == pytest.approx(prediction_page.SIDE, abs=2)
    middle = image[image.shape[0] * 7 // 20, image.shape[1] * 7 // 20].astype(int)
    strongest = int(middle.argmax())
    assert strongest == (0 if winner == 0 else 2)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_labels_do_not_hide_each_other(count):
    boxes = np.tile(np.array([[5, 5, 50, 50]], np.float32), (count, 1))
    one = Instances(
        boxes, np.zeros(count, int), np.zeros((count, 60, 60), bool), np.linspace(0.3, 0.9, count)
    )
    places = prediction_page.label_places(one, 2.0, ("square",), 3.0)
    assert [i for i, *_ in places] == list(range(count))[::-1]
    heights = sorted(y for *_, y in places)
    assert all(
        after - before >= 1.48 * prediction_page.FONT * 3.0
        for before, after in itertools.pairwise(heights)
    )
    assert places[0][1].startswith("square 0.")


@pytest.mark.parametrize("seed", range(20))
def test_labels_find_a_place_wherever_the_boxes_are(seed):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 128, (40, 4)).astype(np.float32)
    one = Instances(boxes, rng.integers(0, 2, 40), np.zeros((40, 1, 1), bool), rng.random(40))
    places = prediction_page.label_places(one, 5.0, METAINFO["classes"], 3.419)
    assert sorted(i for i, *_ in places) == list(range(40))


@pytest.mark.parametrize(
    ("rows", "columns", "shape"),
    [(1, 2, (64, 64)), (6, 3, (60, 80)), (4, 5, (102, 204)), (8, 3, (100, 50))],
)
def test_a_page_is_a_page(rows, columns, shape):
    image = np.full((*shape, 3), 90, np.uint8)
    png = prediction_page.page(
        [[image] * columns] * rows,
        [[squares(None)] * columns] * rows,
        ["a.png"] * rows,
        [1.0] * rows,
        ["title"] * columns,
        METAINFO,
    )
    width, height = (pixels / 150 for pixels in Image.open(io.BytesIO(png)).size)
    assert width <= 8.5
    assert height <= 11.7


def test_the_script_draws_both_stages_side_by_side(stages, stage_configs, tmp_path, capsys):
    out = tmp_path / "deep/page.png"
    checkpoints = [str(stages / "tiny_nl_1/epoch_2.pth"), str(stages / "tiny_nl_2/epoch_4.pth")]
    flags = ["--images", "2", "--score_thr", "0.2", "--device", "cpu", "--out", str(out)]
    assert tool("pictures").main([str(stage_configs[1]), *checkpoints, *flags]) == 0
    assert "2 images, 2 models" in capsys.readouterr().out
    width, height = Image.open(out).size
    assert width > height > 300


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out", "page.jpg"], "must end in .png"),
        (["--data_root", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_said_and_writes_nothing(
    stages, stage_configs, tmp_path, monkeypatch, capsys, flags, said
):
    monkeypatch.chdir(tmp_path)
    command = [
        str(stage_configs[1]),
        str(stages / "tiny_nl_1/epoch_2.pth"),
        "--out",
        "page.png",
        *flags,
    ]
    assert tool("pictures").main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert list(tmp_path.iterdir()) == []
