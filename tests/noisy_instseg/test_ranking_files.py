"""What find_noisy.py writes: the table, better annotations, probabilities, a picture."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import main, run_script, tool

from noisy_instseg.analysis import noise_ranking, ranking_files
from shared.cli import coco as coco_noise_cli
from shared.coco import file as coco_file
from shared.formats.label_quality import COLUMNS

FILES = ("label_quality.csv", "better.json", "probs.npz", "losses.png")


@dataclass(frozen=True)
class Found:
    """What find_noisy.py left of the noisy annotations, in its folder."""

    folder: Path
    flags: list[object]
    said: str

    @property
    def noisy(self) -> Path:
        return self.folder / "noisy.json"

    def table(self) -> list[dict[str, str]]:
        with (self.folder / "label_quality.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def found(stages, stage_configs, data, tmp_path_factory) -> Found:
    """The tool on the training annotations of `data` with noise, as a user runs it."""
    folder = tmp_path_factory.mktemp("found")
    clean, noisy = data / "annotations/instances_train.json", folder / "noisy.json"
    noise = ["--ann", str(clean), "--out", str(noisy), "--rate", "0.5"]
    assert coco_noise_cli.script_main("symmetric", "coco_format", noise) == 0
    named = zip(("--out", "--corrected", "--save_probs", "--plot"), FILES)
    flags = [stage_configs[1], stages / "tiny_nl_2/epoch_4.pth", "--device", "cpu"]
    flags += ["--noise_file", noisy]
    flags += [word for flag, name in named for word in (flag, folder / name)]
    ended = run_script("find_noisy.py", *flags, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return Found(folder, flags, ended.stdout)


def annotations(path: Path) -> list[dict]:
    return json.loads(path.read_text())["annotations"]


def test_the_table_has_cleanlabs_columns_and_those_of_annotations(found):
    rows = found.table()
    own = ["annotation_id", "image", "bbox", "image_id", "predicted_prob", "loss", "rank"]
    assert list(rows[0]) == [*COLUMNS, "clean_label", *own]
    assert [int(row["index"]) for row in rows] == list(range(len(annotations(found.noisy))))


def test_every_row_is_its_annotations(found, data):
    content = json.loads(found.noisy.read_text())
    files = {image["id"]: image["file_name"] for image in content["images"]}
    names = [category["name"] for category in content["categories"]]
    ids = [category["id"] for category in content["categories"]]
    clean = annotations(data / "annotations/instances_train.json")
    for row, entry, true in zip(found.table(), content["annotations"], clean, strict=True):
        given, predicted = int(row["given_label"]), int(row["predicted_label"])
        assert int(row["annotation_id"]) == entry["id"] == true["id"]
        assert row["file"] == row["image"] == files[entry["image_id"]]
        assert row["image_id"] == str(entry["image_id"])
        assert [float(value) for value in row["bbox"].split()] == entry["bbox"]
        assert (ids[given], row["given_name"]) == (entry["category_id"], names[given])
        assert row["predicted_name"] == names[predicted]
        assert row["is_label_issue"] == str(given != predicted)
        assert ids[int(row["clean_label"])] == true["category_id"]


def test_quality_is_the_probability_of_the_given_label(found):
    rows = found.table()
    losses = np.array([float(row["loss"]) for row in rows])
    quality = np.array([float(row["label_quality"]) for row in rows])
    np.testing.assert_allclose(quality, np.exp(-losses), atol=2e-6)
    assert [row["self_confidence"] for row in rows] == [row["label_quality"] for row in rows]
    assert all(float(row["predicted_prob"]) >= float(row["self_confidence"]) for row in rows)
    worst = sorted(rows, key=lambda row: int(row["rank"]))
    assert [int(row["rank"]) for row in worst] == list(range(1, len(rows) + 1))
    assert [row["loss"] for row in worst] == sorted((row["loss"] for row in rows), key=float)[::-1]
    assert "AUC of the loss" in found.said


def test_probabilities_are_those_of_the_table(found):
    rows = found.table()
    with np.load(found.folder / "probs.npz", allow_pickle=False) as saved:
        probs, given = saved["pred_probs"], saved["given_labels"]
        assert saved["index"].tolist() == [int(row["index"]) for row in rows]
        assert saved["annotation_ids"].tolist() == [int(row["annotation_id"]) for row in rows]
        assert [saved["class_names"][label] for label in given] == [
            row["given_name"] for row in rows
        ]
        assert not saved["out_of_sample"]
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    assert probs.argmax(axis=1).tolist() == [int(row["predicted_label"]) for row in rows]
    of_given = probs[np.arange(len(rows)), given].tolist()
    assert of_given == pytest.approx([float(row["self_confidence"]) for row in rows], abs=2e-6)


def test_a_correction_changes_the_category_of_issues_alone(found):
    before, after = (
        json.loads((found.folder / name).read_text()) for name in ("noisy.json", "better.json")
    )
    assert list(before) == list(after)
    assert {**before, "annotations": 0} == {**after, "annotations": 0}
    ids = {category["name"]: category["id"] for category in before["categories"]}
    replaced = 0
    for row, old, new in zip(found.table(), before["annotations"], after["annotations"]):
        is_issue = row["is_label_issue"] == "True"
        expected = ids[row["predicted_name"]] if is_issue else old["category_id"]
        assert new == {**old, "category_id": expected}
        assert list(new) == list(old)
        replaced += is_issue
    assert f"{replaced} of {len(before['annotations'])} labels replaced" in found.said


def test_what_is_not_ranked_stays_as_it_is():
    categories = {"categories": [{"id": 7, "name": "x"}, {"id": 5, "name": "y"}]}
    image = {"id": 1, "file_name": "a.png", "width": 50, "height": 40}
    base = {"image_id": 1, "category_id": 7, "bbox": [1, 1, 5, 6]}
    entries = [{**base, "id": 3, "iscrowd": 1}, {**base, "id": 4}, {**base, "id": 9}]
    source = coco_file.checked({"images": [image], "annotations": entries, **categories}, b"")
    ranked = noise_ranking.read_annotations(source, {7: 1, 5: 0}, [1])
    ranking = noise_ranking.rank(ranked, np.array([[2.0, 0.0], [0.0, 2.0]]), ["y", "x"])
    better = json.loads(ranking_files.corrected(source, ranking))["annotations"]
    assert [entry["category_id"] for entry in better] == [7, 5, 7]
    rows = list(csv.reader(ranking_files.table(source, ranking).decode().splitlines()))
    assert [row[0] for row in rows[1:]] == ["1", "2"]


def test_corrected_annotations_are_trained_on_and_compared(
    found, stage_configs, train, tmp_path, capsys
):
    better = found.folder / "better.json"
    assert "annotations" in coco_noise_cli.info(better, [])
    assert "another category" in coco_noise_cli.compare(str(found.noisy), str(better), [])
    options = ["--cfg-options", "train_cfg.max_epochs=1"]
    flags = [stage_configs[0], "--noise_file", better, "--work-dir", tmp_path / "run", *options]
    assert train(*flags, "--device", "cpu") == 0
    assert (tmp_path / "run/epoch_1.pth").is_file()


def test_the_picture_and_the_same_bytes_again(found, capsys):
    first = [(found.folder / name).read_bytes() for name in FILES]
    assert first[3].startswith(b"\x89PNG")
    assert main("find_noisy", *found.flags) == 2
    assert "better.json exists: choose another name, or overwrite it" in capsys.readouterr().err
    assert main("find_noisy", *found.flags, "--force") == 0
    assert [(found.folder / name).read_bytes() for name in FILES] == first


@pytest.mark.parametrize("name", ["noisy.json", "noisy.manifest.json"])
def test_what_is_read_is_never_overwritten(found, name, capsys):
    before = (found.folder / name).read_bytes()
    flags = [str(flag) for flag in found.flags]
    flags[flags.index("--corrected") + 1] = str(found.folder / name)
    assert tool("find_noisy").main([*flags, "--force"]) == 2
    assert f"--corrected {found.folder / name} is the input file" in capsys.readouterr().err
    assert (found.folder / name).read_bytes() == before
