"""Annotated objects: crops with box and mask, and where a run's files are."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from compare.report import __main__ as report
from compare.report import masks, objects, thumbnails
from compare.report.collect import Samples
from compare.report.thumbnails import Source
from shared.errors import UserError
from shared.formats import label_quality

SIZE = 100
CORNERS = [20, 20, 60, 20, 60, 60, 20, 60]  # a square of 40 pixels
BOX = [20, 20, 40, 40]
PLAIN = {"size": [SIZE, SIZE], "counts": [20 * SIZE + 20, *[40, 60] * 39, 40, 40 + 40 * SIZE]}
# columns of a mask that pycocotools 2.0 encoded: its run lengths rise and fall
STRIPES = {"size": [40, 9], "counts": "`2X1e2iN9f0WN"}
STRIPES_LENGTHS = [80, 40, 85, 1, 94, 23, 37]
DISC = {
    "size": [50, 70],
    "counts": "SY1;U14M2M4M2O0O2N2O0O2O00000000000000000001N101N2N101N3L3N3LQg0",
}


def written(folder, segmentation):
    """A blue picture with one object; the annotation file."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (SIZE, SIZE), "blue").save(folder / "images/1.png")
    entry = {"id": 7, "image_id": 1, "category_id": 1, "bbox": BOX, "segmentation": segmentation}
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": SIZE, "height": SIZE}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [entry],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def sample(name="1.png"):
    nothing = np.array([-1])
    boxes, ids = np.array([BOX], float), np.array([7])
    return Samples(np.array([0]), (name,), nothing, nothing, ("a",), None, boxes, ids)


def shown(folder, annotations):
    """(H, W, 3) the picture of the object."""
    found = thumbnails.of_samples(sample(), [0], Source(None, None, annotations, folder / "images"))
    assert found.problem is None
    data = base64.b64decode(found.uris[0].removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)), int)


def test_without_annotations_there_is_the_box(tmp_path):
    written(tmp_path, [CORNERS])
    picture = shown(tmp_path, None)
    assert picture.shape == (96, 96, 3)  # the box, a quarter of it around, enlarged
    assert picture[48, 48, 2] > 200 > 60 > picture[48, 48, 0]  # blue
    assert picture[48, 14:20].min(axis=1).max() > 120  # the box's white line


@pytest.mark.parametrize("shape", [[CORNERS], PLAIN], ids=["polygon", "run lengths"])
def test_a_mask_lies_on_its_object_alone(tmp_path, shape):
    annotations = written(tmp_path, shape)
    more_red = (shown(tmp_path, annotations) - shown(tmp_path, None))[..., 0]
    assert more_red[48, 48] > 40  # yellow on it
    assert more_red[24:72, 24:72].min() > 20
    assert np.abs(more_red[:10]).max() < 20
    assert np.abs(more_red[:, -10:]).max() < 20


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"size": [SIZE, 10**9], "counts": [10**11]}, "its mask is of size"),
        ({"size": [SIZE, SIZE], "counts": [5, 5]}, "do not fill the image"),
        ({"size": [SIZE, SIZE], "counts": [-5, SIZE * SIZE + 5]}, "do not fill the image"),
        ({"size": [SIZE, SIZE], "counts": "o" * 50}, "are no numbers"),
        ({"size": [SIZE, SIZE], "counts": "é"}, "do not fill the image"),
        ({"size": [SIZE, SIZE]}, "do not fill the image"),
        ([5, 6, 7], "no list of polygons"),
        ([[1, 2, 3, 4, 5]], "no list of polygons"),
        ([["a", "b"]], "no list of polygons"),
    ],
)
def test_a_mask_that_is_none_is_named(tmp_path, shape, message):
    source = Source(None, None, written(tmp_path, shape), tmp_path / "images")
    found = thumbnails.of_samples(sample(), [0], source)
    assert found.uris == (None,)
    assert "such as 1.png" in found.problem
    assert message in found.problem


@pytest.mark.parametrize("counts", [STRIPES["counts"], STRIPES_LENGTHS])
def test_run_lengths_go_down_the_columns(counts):
    expected = np.zeros((40, 9), bool)
    expected[:, 2] = expected[5, 5] = True
    expected[20:, 7] = expected[:3, 8] = True
    found = masks.decoded({"size": [40, 9], "counts": counts}, (9, 40))
    np.testing.assert_array_equal(found, expected)


def test_run_lengths_of_a_disc():
    rows, columns = np.mgrid[:50, :70]
    expected = (rows - 20) ** 2 + (columns - 40) ** 2 < 15**2
    np.testing.assert_array_equal(masks.decoded(DISC, (70, 50)), expected)


# ---- where the files are


def config(folder, data_root, file="annotations/train.json", images="train/"):
    folder.mkdir(parents=True)
    (folder / "tiny.py").write_text(
        "train_cfg = dict(max_epochs=4)\n"
        "train_dataloader = dict(batch_size=4, dataset=dict(type='SeededDataset', dataset=dict("
        f"type='RepeatDataset', times=2, dataset=dict(ann_file={file!r}, data_root={data_root!r}, "
        f"data_prefix=dict(img={images!r})))))\n"
    )
    return folder


def test_a_run_says_where_its_files_are(tmp_path):
    run = config(tmp_path / "runs/one", str(tmp_path / "data"))
    assert objects.recorded(run) == (
        tmp_path / "data/annotations/train.json",
        tmp_path / "data/train",
    )
    noisy = config(tmp_path / "runs/two", str(tmp_path / "data"), str(tmp_path / "sn40.json"))
    assert objects.recorded(noisy)[0] == tmp_path / "sn40.json"
    assert objects.recorded(tmp_path) is None


def test_a_run_or_its_table_needs_no_flags(tmp_path, capsys):
    annotations = written(tmp_path / "data/set", PLAIN)
    run = config(tmp_path / "work_dirs/one", "data/set", annotations.name, "images")
    (run / "metrics.jsonl").write_text('{"epoch": 1, "segm_mAP": 0.5, "seconds": 1}\n')
    columns = (*label_quality.COLUMNS, "annotation_id", "image", "bbox")
    cells = (0, "1.png", 0, "a", 1, "b", 0.1, 0.1, True, 7, "1.png", "20 20 40 40")
    lines = [",".join(map(str, line)) for line in (columns, cells)]
    (run / label_quality.TABLE).write_text("\n".join(lines) + "\n")
    for place in (run, run / label_quality.TABLE):
        assert report.main([str(place), "--out", str(tmp_path / "report.html")]) == 0
        page = (tmp_path / "report.html").read_text()
        assert "data:image/webp;base64," in page
        assert "the pictures are not there" not in page
        assert "names the annotations by their ids" in page
        assert "--onto" not in page
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize("above", ["project/work_dirs/one", "one"])
def test_a_relative_place_is_found_from_the_run(tmp_path, above):
    (tmp_path / "data/shapes/train").mkdir(parents=True)
    _, images = objects.recorded(config(tmp_path / above, "data/shapes"))
    assert images == tmp_path / "data/shapes/train"


def test_the_config_may_be_anything(tmp_path):
    (tmp_path / "a.py").write_text("train_dataloader = dict(dataset=dict(dataset=[1]))\n")
    assert objects.recorded(tmp_path) is None
    other = config(tmp_path / "other", 5)
    assert objects.recorded(other) is None


@pytest.mark.parametrize(
    ("images", "message"), [(None, "give --images"), ("nowhere", "nowhere is no folder")]
)
def test_missing_images_are_no_error(tmp_path, images, message):
    source = Source(images=None if images is None else tmp_path / images)
    found = thumbnails.of_samples(sample(), [0], source)
    assert found.uris == (None,)
    assert message in found.problem


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png"])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path, name):
    draw = objects.drawer(sample(name), tmp_path, None, 96)
    with pytest.raises(UserError, match="out of the folder"):
        draw(0)
