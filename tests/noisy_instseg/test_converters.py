"""The converters of Cityscapes and VOC, on small made-up masks; the JSON files are read by
pycocotools.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from noisy_instseg.run import data_checks
from noisy_instseg.tools.convert_datasets import cityscapes, png_to_coco, voc
from shared.coco.classes import TABLES
from shared.errors import UserError

TOOLS = Path(png_to_coco.__file__).parent
CONFIGS = Path(data_checks.__file__).parents[1] / "configs"


def instance_ids(seed: int) -> np.ndarray:
    """(H, W) uint16 like a file of Cityscapes: stuff, a crowd of cars, objects, and a caravan,
    which is not evaluated.
    """
    ids = np.full((20, 30), 7, np.uint16)
    ids[0:4] = 26  # cars that could not be told apart
    ids[5:9, 2:10] = 24000 + seed
    ids[6:8, 4:6] = 26001  # in a hole of the person
    ids[10:14, 20:30] = 33002
    ids[15:18, 0:5] = 29000
    ids[0, 0] = 30  # a trailer's label
    return ids


def cityscapes_folder(root: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    for split in splits:
        for number, city in enumerate(("zurich", "aachen")):
            for base, suffix in (
                ("leftImg8bit", "_leftImg8bit.png"),
                ("gtFine", "_gtFine_instanceIds.png"),
            ):
                path = root / base / split / city / f"{city}_000000_00000{number}{suffix}"
                path.parent.mkdir(parents=True)
                if base == "leftImg8bit":
                    Image.new("RGB", (30, 20)).save(path)
                else:
                    values = (
                        np.zeros((20, 30), np.uint16) if split == "test" else instance_ids(number)
                    )
                    Image.fromarray(values).save(path)
    return root


def voc_folder(root: Path) -> Path:
    devkit = root / "VOCdevkit/VOC2012"
    for folder in (
        "ImageSets/Segmentation",
        "SegmentationObject",
        "SegmentationClass",
        "JPEGImages",
    ):
        (devkit / folder).mkdir(parents=True)
    for split, names in (("train", ("2007_000032", "2011_000001")), ("val", ("2007_000033",))):
        (devkit / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            save_voc(devkit, name, *voc_masks())
            size = voc_masks()[0].shape[::-1]
            Image.new("RGB", size).save(devkit / f"JPEGImages/{name}.jpg")
    return root


def voc_masks() -> tuple[np.ndarray, np.ndarray]:
    """Objects and classes, (H, W) uint8: an aeroplane with a border of void, and two persons that
    touch.
    """
    objects, classes = np.zeros((12, 16), np.uint8), np.zeros((12, 16), np.uint8)
    objects[1:6, 1:7] = classes[1:6, 1:7] = 255
    objects[2:5, 2:6], classes[2:5, 2:6] = 1, 1
    objects[7:10, 2:5], objects[7:10, 5:9], classes[7:10, 2:9] = 2, 3, 15
    return objects, classes


def save_voc(devkit: Path, name: str, objects: np.ndarray, classes: np.ndarray) -> None:
    for folder, values in (("SegmentationObject", objects), ("SegmentationClass", classes)):
        image = Image.fromarray(values, mode="L").convert("P")
        image.putdata(values.ravel().tolist())  # indices of a palette, as in VOC's files
        image.putpalette([(37 * i) % 256 for i in range(768)])
        image.save(devkit / folder / f"{name}.png")


def test_cityscapes_masks_survive_the_round_trip(tmp_path):
    root = cityscapes_folder(tmp_path)
    assert cityscapes.main([str(root), "--out-dir", str(tmp_path / "ann")]) == 0
    coco = COCO(tmp_path / "ann/instancesonly_filtered_gtFine_train.json")
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(
        TABLES["cityscapes"].values()
    )
    names = [coco.imgs[one]["file_name"] for one in sorted(coco.imgs)]
    assert names == [
        "aachen/aachen_000000_000001_leftImg8bit.png",
        "zurich/zurich_000000_000000_leftImg8bit.png",
    ]
    for image, number in ((0, 1), (1, 0)):
        ids = instance_ids(number)
        found = {one["category_id"] * 2 + one["iscrowd"]: one for one in coco.imgToAnns[image]}
        for key, value in {48: 24000 + number, 52: 26001, 53: 26, 66: 33002}.items():
            one = found.pop(key)
            np.testing.assert_array_equal(coco.annToMask(one).astype(bool), ids == value)
            rows, columns = np.nonzero(ids == value)
            left, top = columns.min(), rows.min()
            assert one["bbox"] == [left, top, columns.max() - left + 1, rows.max() - top + 1]
            assert one["area"] == (ids == value).sum()
        assert not found  # no stuff, caravan or trailer
    assert sorted(coco.anns) == list(range(1, 9))


def test_cityscapes_test_set_has_images_and_no_annotations(tmp_path):
    assert cityscapes.main([str(cityscapes_folder(tmp_path))]) == 0
    content = json.loads((tmp_path / "instancesonly_filtered_gtFine_test.json").read_text())
    assert len(content["images"]) == 2
    assert content["annotations"] == []


def test_voc_masks_survive_the_round_trip(tmp_path):
    assert voc.main([str(voc_folder(tmp_path))]) == 0
    coco = COCO(tmp_path / "annotations/instances_train2012.json")
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(TABLES["voc"].values())
    assert [coco.imgs[one]["file_name"] for one in sorted(coco.imgs)] == [
        "2007_000032.jpg",
        "2011_000001.jpg",
    ]
    objects, _ = voc_masks()
    for image in coco.imgs:
        found = coco.imgToAnns[image]
        assert [(one["category_id"], one["iscrowd"]) for one in found] == [(1, 0), (15, 0), (15, 0)]
        for value, one in enumerate(found, start=1):
            np.testing.assert_array_equal(coco.annToMask(one).astype(bool), objects == value)
    assert (
        json.loads((tmp_path / "annotations/instances_val2012.json").read_text())["images"][0][
            "width"
        ]
        == 16
    )


@pytest.mark.parametrize("family", ["cityscapes", "voc"])
def test_the_configs_take_what_the_command_in_the_error_makes(tmp_path, family):
    cfg = Config.fromfile(
        CONFIGS / family / f"mask_rcnn_r50_fpn_1x_{family}_nl_1.py", import_custom_modules=False
    )
    for part in data_checks.parts_of(cfg, ("train", "val", "test")):
        part.settings["data_root"] = str(tmp_path)
        part.settings["filter_cfg"] = None  # the made-up images are smaller than training asks for
    (cityscapes_folder if family == "cityscapes" else voc_folder)(tmp_path)
    with pytest.raises(UserError) as caught:
        data_checks.check(cfg)
    command = shlex.split(str(caught.value).split("make it with: ")[1])
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    data_checks.check(cfg)


@pytest.mark.parametrize("script", ["cityscapes", "voc"])
def test_bytes_do_not_depend_on_processes(tmp_path, script):
    root = (cityscapes_folder if script == "cityscapes" else voc_folder)(tmp_path)
    main = {"cityscapes": cityscapes.main, "voc": voc.main}[script]
    assert main([str(root), "--out-dir", str(tmp_path / "one")]) == 0
    command = [
        sys.executable,
        str(TOOLS / f"{script}.py"),
        root.name,
        "--nproc",
        "2",
        "--out-dir",
        str(tmp_path / "two"),
    ]
    subprocess.run(command, cwd=tmp_path.parent, check=True, capture_output=True)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == (3 if script == "cityscapes" else 2)
    assert [(tmp_path / "one" / name).read_bytes() for name in names] == [
        (tmp_path / "two" / name).read_bytes() for name in names
    ]


def test_existing_files_are_kept_unless_forced(tmp_path, capsys):
    root = cityscapes_folder(
        tmp_path, ("train", "val")
    )  # without the test set, which nothing here needs
    target = tmp_path / "instancesonly_filtered_gtFine_val.json"
    target.write_text("mine")
    assert cityscapes.main([str(root)]) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert not (tmp_path / "instancesonly_filtered_gtFine_train.json").exists()
    assert cityscapes.main([str(root), "--force"]) == 0
    assert len(json.loads(target.read_text())["annotations"]) == 8
    assert not (tmp_path / "instancesonly_filtered_gtFine_test.json").exists()


def break_cityscapes(root: Path, how: str) -> None:
    mask = next((root / "gtFine/val").rglob("*.png"))
    if how == "no masks":
        mask.unlink()
    elif how == "torn":
        mask.write_bytes(mask.read_bytes()[:60])
    elif how == "colour":
        Image.new("RGB", (30, 20)).save(mask)
    elif how == "no images":
        for image in (root / "leftImg8bit/train").rglob("*.png"):
            image.unlink()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("no masks", "1 of the 2 images"),
        ("torn", "cannot read"),
        ("colour", "3 dimensions"),
        ("no images", "leftImg8bit_trainvaltest.zip"),
    ],
)
def test_cityscapes_says_what_is_wrong_and_writes_nothing(tmp_path, capsys, how, expected):
    break_cityscapes(cityscapes_folder(tmp_path), how)
    assert cityscapes.main([str(tmp_path), "--out-dir", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert expected in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("no list", "train.txt"),
        ("shapes", "(12, 16)"),
        ("class", "class 21"),
        ("no class", "no class"),
    ],
)
def test_voc_says_what_is_wrong_and_writes_nothing(tmp_path, capsys, how, expected):
    devkit = voc_folder(tmp_path) / "VOCdevkit/VOC2012"
    objects, classes = voc_masks()
    if how == "no list":
        (devkit / "ImageSets/Segmentation/train.txt").unlink()
    elif how == "shapes":
        save_voc(devkit, "2007_000033", objects, classes)
        Image.fromarray(classes[:5]).save(devkit / "SegmentationClass/2007_000033.png")
    else:
        save_voc(
            devkit,
            "2007_000033",
            objects,
            np.where(classes == 1, 21 if how == "class" else 0, classes),
        )
    assert voc.main([str(tmp_path)]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "annotations").exists()


def test_a_worker_process_reports_like_the_script(tmp_path, capsys):
    break_cityscapes(cityscapes_folder(tmp_path), "torn")
    assert cityscapes.main([str(tmp_path), "--nproc", "2", "--out-dir", str(tmp_path / "out")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_borders_of_two_objects_do_not_decide_the_class():
    assert voc.class_of(np.array([255, 255, 255, 0, 15, 15, 3], np.uint8), "object 1") == 15
    with pytest.raises(UserError, match="no class"):
        voc.class_of(np.array([255, 0], np.uint8), "object 1")


@pytest.mark.parametrize("count", ["0", "-1", "two"])
def test_processes_are_counted_from_one(count, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        cityscapes.main([str(tmp_path), "--nproc", count])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "must be at least 1" in errors or "invalid int value" in errors
