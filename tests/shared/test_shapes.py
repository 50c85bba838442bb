"""The generated `shapes`: annotations agree with the pixels, and classes are balanced."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from shared import datasets
from shared.__main__ import main
from shared.coco import file as coco_file
from shared.datasets import shapes
from shared.datasets.image_data import DatasetError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shapes.write(tmp_path_factory.mktemp("shapes"), train=40, val=12, seed=5)


def read(root, split):
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("split", "count"), [("train", 40), ("val", 12)])
def test_files_and_ids(made, split, count):
    content = read(made, split)
    assert [image["id"] for image in content["images"]] == list(range(1, count + 1))
    for image in content["images"]:
        with Image.open(made / split / image["file_name"]) as picture:
            assert (picture.size, picture.mode) == ((image["width"], image["height"]), "RGB")
    assert len(list((made / split).iterdir())) == count
    assert [entry["id"] for entry in content["annotations"]] == list(
        range(1, len(content["annotations"]) + 1)
    )
    assert [category["name"] for category in content["categories"]] == list(shapes.CLASSES)
    assert set(Counter(entry["image_id"] for entry in content["annotations"]).values()) == {
        1,
        2,
        3,
        4,
    }
    assert set(Counter(entry["image_id"] for entry in content["annotations"])) == set(
        range(1, count + 1)
    )
    counts = Counter(entry["category_id"] for entry in content["annotations"])
    assert set(counts) == set(range(1, 9))
    assert max(counts.values()) - min(counts.values()) <= 1
    coco_file.read(made / "annotations" / f"instances_{split}.json")


def slow_area(points):
    """Sum of signed trapezia below the edges."""
    edges = zip(points, points[1:] + points[:1])
    return abs(sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in edges))


def covered(points, size):
    """Pixels whose middle is inside the polygon, by counting crossings of a ray."""
    mask = np.zeros((size, size), bool)
    for row in range(size):
        for column in range(size):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
                if (y0 > y) != (y1 > y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x:
                    inside = not inside
            mask[row, column] = inside
    return mask


def test_boxes_areas_and_extents(made):
    boxes = {}
    for entry in read(made, "train")["annotations"]:
        (flat,) = entry["segmentation"]
        points = list(zip(flat[::2], flat[1::2]))
        xs, ys = flat[::2], flat[1::2]
        x, y, width, height = entry["bbox"]
        assert (x, y) == (min(xs), min(ys))
        assert (x + width, y + height) == pytest.approx((max(xs), max(ys)), abs=0.011)
        assert entry["area"] == pytest.approx(slow_area(points), abs=0.011)
        assert entry["iscrowd"] == 0
        assert 19.9 <= max(width, height) <= 52.1
        assert min(x, y) >= 0.99
        assert max(x + width, y + height) <= 127.01
        for left, top, wide, high in boxes.setdefault(entry["image_id"], []):
            assert x >= left + wide or left >= x + width or y >= top + high or top >= y + height, (
                "boxes overlap"
            )
        boxes[entry["image_id"]].append(entry["bbox"])


def test_what_is_painted_is_the_polygon():
    for name in shapes.CLASSES:
        outline = shapes.outline(name)
        polygon = 3.3 + (outline - outline.min(axis=0)) * 30 / np.ptp(outline, axis=0).max()
        points = [tuple(point) for point in polygon.tolist()]
        painted = shapes._coverage(polygon, 40)
        inside = covered(points, 40)
        assert painted.sum() == pytest.approx(slow_area(points), rel=0.04), name
        assert ((painted > 0.5) != inside).sum() <= 0.06 * inside.sum(), name
        assert (painted[inside] > 0.2).all(), name


def test_instances_stand_out(made):
    """The mean colour inside differs from that of a frame around the box, in some channel."""
    content = read(made, "val")
    far = []
    for entry in content["annotations"][::3]:
        with Image.open(made / "val" / f"{entry['image_id']:06}.png") as picture:
            pixels = np.asarray(picture, float)
        x, y, width, height = (int(value) for value in entry["bbox"])
        points = list(zip(entry["segmentation"][0][::2], entry["segmentation"][0][1::2]))
        frame = pixels[max(0, y - 3) : y + height + 4, max(0, x - 3) : x + width + 4].reshape(-1, 3)
        inside = pixels[covered(points, 128)]
        far.append(np.abs(inside.mean(axis=0) - frame.mean(axis=0)).max())
    assert np.median(far) > 25


def test_colour_says_nothing_about_the_class(made):
    """Between-class variance of mean colours is what chance gives: F of 8 groups is small."""
    content = read(made, "train")
    groups = {}
    for entry in content["annotations"]:
        with Image.open(made / "train" / f"{entry['image_id']:06}.png") as picture:
            x, y, width, height = entry["bbox"]
            groups.setdefault(entry["category_id"], []).append(
                picture.getpixel((int(x + width / 2), int(y + 0.7 * height)))
            )
    values = [np.array(group, float) for group in groups.values()]
    everything = np.concatenate(values)
    between = sum(len(group) * (group.mean(0) - everything.mean(0)) ** 2 for group in values) / (
        len(values) - 1
    )
    within = sum(((group - group.mean(0)) ** 2).sum(0) for group in values) / (
        len(everything) - len(values)
    )
    assert (between / within < 4.1).all()


def test_the_same_arguments_give_the_same_files(made, tmp_path):
    again = shapes.write(tmp_path / "again", train=40, val=12, seed=5)
    assert digest(again) == digest(made)
    other = shapes.write(tmp_path / "other", train=40, val=12, seed=6)
    assert all(one != two for one, two in zip(digest(other).values(), digest(made).values()))


def test_what_is_there_is_kept(tmp_path):
    shapes.write(tmp_path, train=2, val=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert shapes.write(tmp_path, train=2, val=1) == tmp_path
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(DatasetError, match=r"holds other shapes.*delete that folder"):
        shapes.write(tmp_path, train=3, val=1)
    (tmp_path / "shapes.json").unlink()  # as if the first run had been killed
    (tmp_path / "train" / "000001.png").write_bytes(b"")
    shapes.write(tmp_path, train=2, val=1)
    with Image.open(tmp_path / "train" / "000001.png") as picture:
        picture.load()


def test_other_sizes(tmp_path):
    shapes.write(tmp_path, train=4, val=1, size=64)
    content = read(tmp_path, "train")
    assert {(image["width"], image["height"]) for image in content["images"]} == {(64, 64)}
    assert all(9.9 <= max(entry["bbox"][2:]) <= 26.1 for entry in content["annotations"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"train": 0}, "at least 1"),
        ({"size": 63}, "at least 64"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_senseless_arguments_are_refused(tmp_path, arguments, words):
    with pytest.raises(DatasetError, match=words):
        shapes.write(tmp_path / "shapes", **arguments)
    assert not (tmp_path / "shapes").exists()


def test_the_data_command_generates_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shapes, "write", lambda root: root)
    assert main(["data", "shapes", "--path", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"shapes is in {tmp_path / 'shapes'}\n"
    assert main(["data", "list"]) == 0
    assert "shapes" in capsys.readouterr().out
    with pytest.raises(DatasetError, match="instances, not one label per image"):
        datasets.load("shapes")
