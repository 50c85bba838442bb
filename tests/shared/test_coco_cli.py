"""`python -m shared noise make --format coco`, and info and compare of what it writes."""

import hashlib
import json
import os

import numpy as np
import pytest
from cli_results import assert_refused

from shared.cli import coco as coco_noise_cli
from shared.coco import noise as coco_noise
from shared.coco.classes import TABLES
from shared.coco.noise import Recipe, read_manifest


def annotations(table, each=20):
    ids = np.random.default_rng(0).permutation(np.tile(list(table), each)).tolist()
    return {
        "info": {"year": 2020},
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
        "annotations": [
            {
                "id": 3 * row + 1,
                "image_id": 1,
                "category_id": category,
                "bbox": [0, 0.5, 2, 2.0],
                "iscrowd": row % 2,
            }
            for row, category in enumerate(ids)
        ],
        "categories": [{"id": category, "name": name} for category, name in table.items()],
    }


@pytest.fixture
def clean(tmp_path):
    path = tmp_path / "clean.json"
    path.write_text(json.dumps(annotations(TABLES["cityscapes"])))
    return path


@pytest.fixture
def make(run, clean):
    def call(out, *more, dataset="cityscapes", kind="symmetric", rate=0.4):
        arguments = ("--dataset", dataset, "--kind", kind, "--rate", rate, "--out", out, *more)
        return run("noise", "make", "--format", "coco", "--ann", clean, *arguments)

    return call


# ---- make


@pytest.mark.parametrize("mode", coco_noise.MODES)
@pytest.mark.parametrize("kind", coco_noise.KINDS)
def test_make_writes_what_the_rules_give(make, clean, tmp_path, kind, mode):
    out = tmp_path / "noisy.json"
    code, printed, err = make(out, "--mode", mode, "--seed", 5, kind=kind)
    assert (code, err) == (0, "")
    before, after = json.loads(clean.read_text()), json.loads(out.read_text())
    ids = [entry["category_id"] for entry in before["annotations"]]
    expected = coco_noise.make(ids, TABLES["cityscapes"], Recipe("cityscapes", kind, 0.4, 5, mode))
    for entry, category in zip(before["annotations"], expected.category_ids.tolist()):
        entry["category_id"] = category
    assert json.dumps(before) == json.dumps(after), "nothing but the categories, key order included"
    first = printed.splitlines()[0]
    assert (first == str(expected.selected.sum())) == (mode == "original"), (
        "the scripts print the number of selected"
    )
    changed = int((expected.category_ids != ids).sum())
    assert f"rate {changed / len(ids):.5f} of all" in printed
    assert f"wrote {out}" in printed


def test_the_manifest_tells_it_all(make, clean, tmp_path):
    out = tmp_path / "noisy.json"
    make(out, "--mode", "original", "--seed", 5, kind="asymmetric", rate=0.5)
    manifest = read_manifest(tmp_path / "noisy.manifest.json")
    before, after = (
        {entry["id"]: entry["category_id"] for entry in json.loads(path.read_text())["annotations"]}
        for path in (clean, out)
    )
    wrong = {number: category for number, category in before.items() if after[number] != category}
    assert dict(zip(manifest.changed_annotation_ids, manifest.clean_category_ids)) == wrong
    assert manifest.changed_annotation_ids == list(wrong), "in the order of the file"
    assert (manifest.dataset, manifest.kind, manifest.mode, manifest.seed) == (
        "cityscapes",
        "asymmetric",
        "original",
        5,
    )
    assert (manifest.requested_rate, manifest.annotations, manifest.changed) == (
        0.5,
        160,
        len(wrong),
    )
    assert manifest.flippable == 120, "car and train have no other class"
    assert manifest.selected > manifest.changed
    assert manifest.realised_rate == len(wrong) / 160
    assert manifest.realised_rate_flippable == len(wrong) / 120
    assert manifest.input_sha256 == hashlib.sha256(clean.read_bytes()).hexdigest()
    assert manifest.output_sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    for row, old in enumerate(manifest.category_ids):
        for column, new in enumerate(manifest.category_ids):
            pairs = [number for number in before if (before[number], after[number]) == (old, new)]
            assert manifest.transitions[row][column] == len(pairs)
    assert manifest.category_names == list(TABLES["cityscapes"].values())


def test_the_same_arguments_give_the_same_bytes(make, tmp_path):
    for name in ("a", "b"):
        make(tmp_path / f"{name}.json", "--manifest", tmp_path / f"{name}_m.json")
    for first, second in (("a.json", "b.json"), ("a_m.json", "b_m.json")):
        assert (tmp_path / first).read_bytes() == (tmp_path / second).read_bytes()
    code, printed, _ = make(tmp_path / "a.json", "--manifest", tmp_path / "a_m.json")
    assert code == 0
    assert printed.count("unchanged: ") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.json",
        "a_m.json",
        "b.json",
        "b_m.json",
        "clean.json",
    ]


@pytest.mark.parametrize("flag", ["--out", "--manifest"])
def test_a_place_that_takes_no_file_is_named_with_its_flag(make, tmp_path, flag):
    place = "/proc/s.json"
    result = make(place) if flag == "--out" else make(tmp_path / "a.json", "--manifest", place)
    assert_refused(result, f"cannot write {flag} {place} (", "or choose another folder")
    assert ".tmp" not in result[2]


def test_why_the_rate_is_not_the_requested_one(make, tmp_path):
    _, original, _ = make(tmp_path / "a.json", "--mode", "original")
    assert "drew the class they had already" in original
    assert "can never draw 33 bicycle" in original
    _, original, _ = make(tmp_path / "b.json", "--mode", "original", kind="asymmetric")
    assert (
        "40 annotations of car, train have no class to go to and are selected without effect"
        in original
    )
    _, exact, _ = make(tmp_path / "c.json", kind="asymmetric")
    assert "40 annotations of car, train have no class to go to and are never selected" in exact
    assert "up to chance" in exact


def test_other_files_are_never_overwritten_silently(make, tmp_path):
    out, manifest = tmp_path / "a.json", tmp_path / "a.manifest.json"
    make(out)
    before = out.read_bytes(), manifest.read_bytes()
    assert_refused(make(out, rate=0.5), "exists with other content", "--force")
    out.unlink()
    assert_refused(make(out, rate=0.5), "a.manifest.json exists with other content")
    assert not out.exists(), "nothing is written when one of the two cannot be"
    assert make(out, "--force", rate=0.5)[0] == 0
    assert out.read_bytes() != before[0]
    assert manifest.read_bytes() != before[1]


def test_the_clean_file_is_safe(make, clean, tmp_path):
    before = clean.read_bytes()
    (tmp_path / "link.json").symlink_to(clean)
    for name in (clean, tmp_path / "link.json", os.path.relpath(clean)):
        assert_refused(make(name, "--force"), "is the input file", "--out")
    assert_refused(
        make(tmp_path / "b.json", "--manifest", clean, "--force"), "is the input file", "--manifest"
    )
    assert_refused(
        make(tmp_path / "b.json", "--manifest", tmp_path / "b.json"), "two different names"
    )
    assert clean.read_bytes() == before
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--rate", "1.5"], ["outside [0, 1]"]),
        (["--out", "noisy.npz"], ["--out noisy.npz", ".json"]),
        (["--out", "."], ["--out ."]),
        (["--seed", "-1"], ["seed -1"]),
        (["--mode", "exakt"], ["--mode"]),
        (["--dataset", "cifar10"], ["--dataset cifar10 is a set of labels", "cityscapes"]),
        (["--dataset", "coco"], ["25 rider", "coco_format"]),
        (["--dataset", "coco_format", "--mode", "original"], ["no original script"]),
        (["--kind", "pdn"], ["--kind pdn is for labels", "symmetric"]),
        (["--ann", "none.json"], ["none.json", "do not exist", "check the path"]),
        (["--map", "cifar10"], ["--map is for noise files of labels"]),
        (["--exclude_true_class"], ["--exclude_true_class is for noise files of labels"]),
        (["--independent"], ["--independent is for"]),
        (["--pmd_type", "1"], ["--pmd_type is for"]),
        (["--image_size", "32"], ["--image_size is for"]),
        (["--data_path", "x"], ["--data_path is for"]),
        (["--probe_ratio", "0"], ["--probe_ratio is for"]),
    ],
)
def test_what_cannot_work_is_refused(make, tmp_path, more, words):
    assert_refused(make(tmp_path / "noisy.json", *more), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["clean.json"]


def test_the_two_formats_do_not_mix(run, tmp_path):
    labels = ("noise", "make", "--kind", "symmetric", "--out", tmp_path / "a.npz")
    for more in (["--ann", "a.json"], ["--mode", "exact"], ["--manifest", "m.json"]):
        assert_refused(
            run(*labels, "--dataset", "digits", "--rate", 0.2, *more),
            f"{more[0]} is for COCO",
            "--format coco",
        )
    assert_refused(
        run(*labels, "--dataset", "voc", "--rate", 0.2),
        "--dataset voc is a set of COCO annotations",
    )
    coco = (
        "noise",
        "make",
        "--kind",
        "symmetric",
        "--out",
        tmp_path / "a.json",
        "--format",
        "coco",
        "--dataset",
        "voc",
    )
    assert_refused(run(*coco, "--rate", 0.2), "--format coco needs --ann")
    assert_refused(run(*coco, "--factor", 0), "--factor is for noise files of labels")


# ---- info and compare


def test_info_of_a_manifest(make, run, tmp_path):
    make(tmp_path / "a.json", kind="asymmetric")
    manifest = read_manifest(tmp_path / "a.manifest.json")
    code, printed, _ = run("noise", "info", tmp_path / "a.manifest.json")
    assert code == 0
    assert f"realised rate  {manifest.realised_rate:.5f} of all" in printed
    assert "requested rate 0.4" in printed
    truck = manifest.category_names.index("truck")
    changed = manifest.transitions[truck][truck + 1]
    assert f"{changed / 20:.2%}  bus ({changed:,})" in printed
    assert "Transition matrix" in printed


def test_info_of_annotations(make, run, clean, tmp_path):
    make(tmp_path / "a.json")
    code, printed, _ = run("noise", "info", clean)
    assert code == 0
    assert "1 images, 160 annotations, 8 categories" in printed
    assert "manifest: " not in printed
    assert (
        f"There is a manifest: {tmp_path / 'a.manifest.json'}"
        in run("noise", "info", tmp_path / "a.json")[1]
    )
    assert_refused(run("noise", "info", clean, "--plot", "a.png"), "leave out --plot")
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert_refused(run("noise", "info", tmp_path / "other.json"), "other.json", "no list of labels")


def test_compare_by_annotation_id(make, run, clean, tmp_path):
    make(tmp_path / "a.json", kind="asymmetric")
    manifest = read_manifest(tmp_path / "a.manifest.json")
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"].reverse()
    (tmp_path / "reversed.json").write_text(json.dumps(content))
    for name in ("a.json", "reversed.json"):
        code, printed, _ = run("noise", "compare", clean, tmp_path / name)
        assert code == 0
        assert (
            f"another category     {manifest.changed:>9,} {manifest.realised_rate:>8.2%}" in printed
        )
    assert "The categories are the same." in run("noise", "compare", clean, clean)[1]
    content["annotations"].pop()
    (tmp_path / "fewer.json").write_text(json.dumps(content))
    code, printed, _ = run("noise", "compare", clean, tmp_path / "fewer.json")
    assert code == 0
    assert "in A only                    1  (dropped)" in printed
    content = json.loads(clean.read_text())
    content["categories"][0]["name"] = "somebody"
    (tmp_path / "other.json").write_text(json.dumps(content))
    assert_refused(run("noise", "compare", clean, tmp_path / "other.json"), "different categories")
    (tmp_path / "labels.json").write_text("[1, 2]")
    assert_refused(
        run("noise", "compare", clean, tmp_path / "labels.json"), "labels.json", "JSON list"
    )
    assert_refused(
        run("noise", "compare", clean, clean, "--dataset", "digits"), "leave out --dataset"
    )


def test_compare_counts_boxes_masks_and_annotations(run, clean, tmp_path):
    content = json.loads(clean.read_text())
    for entry in content["annotations"]:
        entry["segmentation"] = [[0, 0, 1, 0, 1, 1]]
    clean.write_text(json.dumps(content))
    found = content["annotations"]
    for entry in found[:7]:
        entry["bbox"] = [1, 1, 2, 2]
    for entry in found[5:10]:
        entry["segmentation"] = {"size": [9, 9], "counts": "abc"}
    found += [{**found[0], "id": 9_999}, {**found[0], "id": 9_998}]
    del found[20:23]
    (tmp_path / "moved.json").write_text(json.dumps(content))
    code, printed, _ = run("noise", "compare", clean, tmp_path / "moved.json")
    assert code == 0
    for line in (
        "annotations in both        157",
        "another category             0    0.00%",
        "box moved                    7    4.46%",
        "mask moved                   5    3.18%",
        "in A only                    3  (dropped)",
        "in B only                    2  (added)",
    ):
        assert line in printed
    _, printed, _ = run("noise", "compare", clean, clean)
    assert "box moved                    0    0.00%" in printed


def test_files_without_a_common_annotation_are_refused(run, clean, tmp_path):
    content = json.loads(clean.read_text())
    for entry in content["annotations"]:
        entry["id"] += 100_000
    (tmp_path / "other.json").write_text(json.dumps(content))
    result = run("noise", "compare", clean, tmp_path / "other.json")
    assert_refused(result, "no annotation id in common")


def test_many_categories_fit_the_terminal(run, tmp_path):
    clean = tmp_path / "coco.json"
    clean.write_text(json.dumps(annotations(TABLES["coco"], each=5)))
    options = ("--dataset", "coco", "--kind", "asymmetric", "--rate", 0.5, "--mode", "original")
    code, printed, _ = run(
        "noise", "make", "--format", "coco", "--ann", clean, "--out", tmp_path / "a.json", *options
    )
    assert code == 0
    assert "and 2 more; mode exact can" in printed
    code, printed, _ = run("noise", "info", tmp_path / "a.manifest.json")
    assert code == 0
    assert "person" in printed
    assert "Transition matrix" not in printed
    assert max(map(len, printed.splitlines())) < 130


def test_lists_of_labels_are_still_noise_files(run, tmp_path):
    (tmp_path / "labels.json").write_text("[1, 0, 2]")
    code, printed, _ = run("noise", "info", tmp_path / "labels.json")
    assert code == 0
    assert "3 (assumed: all training samples, in order)" in printed
    assert run("noise", "compare", tmp_path / "labels.json", tmp_path / "labels.json")[0] == 0


def test_the_help_names_the_kinds_and_modes(run):
    code, printed, _ = run("noise", "make", "--help")
    assert code == 0
    for word in ("--format", "--ann", "--manifest", "original", "person-rider"):
        assert word in printed


# ---- the paper's scripts


def test_a_script_is_the_command_with_kind_and_dataset_fixed(make, clean, tmp_path, capsys):
    arguments = [
        "--ann",
        str(clean),
        "--out",
        str(tmp_path / "a.json"),
        "--seed",
        "5",
        "--mode",
        "original",
    ]
    assert coco_noise_cli.script_main("symmetric", "cityscapes", arguments) == 0
    make(tmp_path / "b.json", "--seed", 5, "--mode", "original", rate=0.2)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    capsys.readouterr()
    assert coco_noise_cli.script_main("symmetric", "coco", [*arguments, "--force"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert len(printed.err.splitlines()) == 1
