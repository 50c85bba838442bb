"""What only evaluation reads of annotations, sizes of images, and the classes of a model."""

from pathlib import Path

import cv2
import pytest
from conftest import draw, edit, message, set_first, train_file
from PIL import Image

from noisy_instseg.run import class_names, data_checks, image_checks
from noisy_instseg.run.datasets import parts_of
from shared.errors import UserError


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (set_first("annotations", iscrowd="no"), "annotations[0] has iscrowd no: give 0"),
        (set_first("annotations", segmentation={"size": [40, 40]}), "run lengths without counts"),
        (
            set_first("annotations", segmentation={"size": [40, 40], "counts": "@@hello"}),
            "run lengths that cannot be read ('@@hello')",
        ),
        (
            set_first("annotations", segmentation={"size": [40, 40], "counts": [9, 4]}),
            "run lengths of 13 pixels, and the image has 1,600",
        ),
        (
            set_first("annotations", segmentation={"size": [40, 40], "counts": [1600, "a"]}),
            "run lengths that cannot be read",
        ),
        (
            lambda content: content["categories"].append({"id": 77, "name": "person"}),
            "2 categories named person",
        ),
        (
            lambda content: content["categories"].append({"id": 77, "name": "\ud800"}),
            r"the category \ud800 has a name that is no valid text: correct it",
        ),
        (set_first("images", id="zero"), "image ids of several kinds, or too large ones"),
        (set_first("images", id=True), "image ids of several kinds, or too large ones"),
        (set_first("images", id=2**63), "image ids of several kinds, or too large ones"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_what_evaluation_would_stumble_over_is_named(cityscapes, split, change, expected):
    cfg, root = cityscapes
    edit(root / f"annotations/instancesonly_filtered_gtFine_{split}.json", change)
    assert expected in message(cfg)


def test_what_can_be_read_in_another_way_is_noted(cityscapes, capsys):
    cfg, root = cityscapes
    path = train_file(root)
    edit(path, set_first("annotations", id=0))
    edit(path, lambda content: content["annotations"][1].pop("iscrowd"))
    before = b"\xef\xbb\xbf" + path.read_bytes()  # a byte order mark
    path.write_bytes(before)
    data_checks.check(cfg)
    said = capsys.readouterr().err
    assert f"note: {path}: annotation 0 counts as number 9" in said
    assert "1 annotations have no iscrowd" in said
    assert path.read_bytes() == before


def test_declared_sizes_are_those_of_the_files(cityscapes, monkeypatch):
    cfg, root = cityscapes
    image = root / "leftImg8bit/train/bonn/1.png"
    draw(image, (40, 30))
    assert f"{image} is 40 x 30, and declared as 40 x 40" in message(cfg)
    image.write_bytes(b"no image")
    assert "1 of the 2 images" in message(cfg)
    assert f"cannot be read, {image}" in message(cfg)
    monkeypatch.setenv("RANK", "1")  # the first process alone reads the headers
    data_checks.check(cfg)


@pytest.mark.parametrize("ending", ["jpg", "mpo", "png", "webp", "avif", "bmp"])
def test_an_image_that_is_turned_by_exif_has_the_size_it_is_read_with(tmp_path, ending):
    exif = Image.Exif()
    exif[0x112] = 6
    how = {"append_images": [Image.new("RGB", (40, 30))]} if ending == "mpo" else {}
    for name, more in (("turned", {"exif": exif}), ("plain", {})):
        path = tmp_path / f"{name}.{ending}"
        draw(path, (40, 30), **how, **more)
        height, width = cv2.imread(str(path)).shape[:2]
        assert image_checks.size_of(path) == (width, height)
    assert image_checks.size_of(tmp_path / f"plain.{ending}") == (40, 30)


def test_the_first_image_is_decoded(cityscapes):
    cfg, root = cityscapes
    image = root / "leftImg8bit/val/bonn/0.png"
    image.write_bytes(image.read_bytes()[:60])  # its header is whole
    assert f"{image} cannot be decoded" in message(cfg)


def test_the_first_mask_is_decoded(cityscapes, monkeypatch):
    def torn(runs):
        raise ValueError("torn")

    cfg, _ = cityscapes
    monkeypatch.setattr("pycocotools.mask.decode", torn)
    assert "the mask of annotations[0] cannot be decoded (torn): give polygons" in message(cfg)


def test_classes_given_as_a_text_are_no_letters(cityscapes):
    cfg, _ = cityscapes
    next(parts_of(cfg, ("val",))).settings["metainfo"] = {"classes": "circle"}
    assert (
        "val_dataloader.dataset.metainfo.classes is the text 'circle', and would be a class for "
        "each letter: give a list, such as --cfg-options "
        "'val_dataloader.dataset.metainfo.classes=[circle]'"
    ) in message(cfg)


# ---- a model and annotations


def test_categories_may_stand_in_any_order(cityscapes):
    cfg, root = cityscapes
    edit(train_file(root), lambda content: content["categories"].reverse())
    data_checks.check(cfg)  # mmdetection's reader numbers them by name, see test_annotations.py


def test_classes_are_numbered_as_the_model_was_trained(any_set, capsys):
    cfg, _ = any_set
    data_checks.adopt_classes(cfg, ["val"])
    trained, path = ("nut", "date", "fig"), Path("a.pth")
    class_names.number_as_trained(cfg, trained, path, ["val"])
    assert "matched by name: nut, date, fig" in capsys.readouterr().err
    assert {part.classes for part in parts_of(cfg, ("train", "val", "test"))} == {trained}
    class_names.number_as_trained(cfg, trained, path, ["val"])
    assert capsys.readouterr().err == ""
    class_names.number_as_trained(cfg, None, path, ["val"])
    assert "does not say what its classes are called" in capsys.readouterr().err
    for others in (("nut", "date", "grape"), ("nut", "date"), ("nut", "date", "fig", "fig")):
        with pytest.raises(UserError, match=r"a\.pth was trained on the \d classes nut, date"):
            class_names.number_as_trained(cfg, others, path, ["val"])
