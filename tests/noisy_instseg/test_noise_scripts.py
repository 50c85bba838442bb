"""The paper's noise scripts: each runs by path, from any folder, and is the kind and dataset of its
name.
"""

import json
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.coco import noise as coco_noise
from shared.coco.classes import TABLES
from shared.coco.noise import Recipe, read_manifest

PROJECT = Path(__file__).parents[2] / "noisy_instseg"
SCRIPTS = [(short, dataset) for short in ("SN", "AN") for dataset in ("Cityscapes", "COCO", "VOC")]
KINDS = {"SN": "symmetric", "AN": "asymmetric"}


def script(short, dataset):
    return PROJECT / f"noisy_labels_{short}_{dataset}.py"


@pytest.fixture
def clean(tmp_path):
    """A function that writes a file with ten annotations of each class of a dataset."""

    def call(dataset):
        table = TABLES[dataset.lower()]
        content = {
            "images": [{"id": 1}],
            "annotations": [
                {"id": row, "category_id": category} for row, category in enumerate([*table] * 10)
            ],
            "categories": [{"id": category, "name": name} for category, name in table.items()],
        }
        path = tmp_path / "clean.json"
        path.write_text(json.dumps(content))
        return path

    return call


@pytest.mark.parametrize(("short", "dataset"), SCRIPTS)
def test_every_script_is_what_its_name_says(short, dataset, clean, tmp_path, monkeypatch, capsys):
    path, out = clean(dataset), tmp_path / "out.json"
    monkeypatch.setattr(
        sys,
        "argv",
        ["x", "--ann", str(path), "--out", str(out), "--seed", "4", "--mode", "original"],
    )
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script(short, dataset)), run_name="__main__")
    assert stop.value.code == 0
    recipe = Recipe(dataset.lower(), KINDS[short], 0.2, 4, "original")
    ids = [entry["category_id"] for entry in json.loads(path.read_text())["annotations"]]
    expected = coco_noise.make(ids, TABLES[dataset.lower()], recipe)
    noisy = [entry["category_id"] for entry in json.loads(out.read_text())["annotations"]]
    assert noisy == expected.category_ids.tolist()
    assert capsys.readouterr().out.splitlines()[0] == str(expected.selected.sum())
    manifest = read_manifest(tmp_path / "out.manifest.json")
    assert (manifest.dataset, manifest.kind, manifest.requested_rate) == (
        dataset.lower(),
        KINDS[short],
        0.2,
    )


def test_a_script_runs_from_any_folder_and_quickly(clean, tmp_path):
    clean("coco")
    command = [
        sys.executable,
        "-X",
        "importtime",
        str(script("SN", "COCO")),
        "--ann",
        "clean.json",
        "--out",
        "noisy.json",
    ]
    start = time.perf_counter()
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    took = time.perf_counter() - start
    assert run.returncode == 0, run.stderr
    assert "mode exact, rate 0.2, seed 123" in run.stdout
    assert read_manifest(tmp_path / "noisy.manifest.json").changed > 0
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines()
    }
    assert not imported & {"torch", "mmdet", "mmcv", "mmengine", "matplotlib", "sklearn", "scipy"}
    assert took < 10, (
        "no slow import; a machine that does other things at the same time counts as well"
    )


def test_bad_input_is_one_line_and_exit_code_2(clean, tmp_path):
    path = clean("VOC")
    before = path.read_bytes()
    command = [
        sys.executable,
        str(script("AN", "VOC")),
        "--ann",
        "clean.json",
        "--out",
        "clean.json",
        "--force",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: --out clean.json is the input file")
    assert len(run.stderr.splitlines()) == 1
    assert path.read_bytes() == before


# ---- open the script, edit r and p, run it


def edited(folder, short, dataset, **values):
    """A copy of a script in a project of its own, with other values at the top."""
    text = script(short, dataset).read_text()
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^{name} = [^#]*", f"{name} = {value!r}  ", text)
        assert count == 1, name
    (folder / "noisy_instseg").mkdir(exist_ok=True)
    path = folder / "noisy_instseg" / script(short, dataset).name
    path.write_text(text.replace("Path(__file__)", f"Path({str(script(short, dataset))!r})"))
    return path


def run_edited(path, *flags, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", *flags])
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    return stop.value.code


@pytest.mark.parametrize(("short", "dataset"), SCRIPTS)
def test_values_at_the_top_are_the_flags_defaults(short, dataset, clean, tmp_path, monkeypatch):
    path = edited(tmp_path, short, dataset, r=0.4, p=str(clean(dataset)))
    assert run_edited(path, monkeypatch=monkeypatch) == 0
    manifest = read_manifest(tmp_path / f"clean_{short.lower()}40.manifest.json")
    assert manifest.requested_rate == 0.4
    flags = ["--rate", "0.1", "--out", str(tmp_path / "other.json")]
    assert run_edited(path, *flags, monkeypatch=monkeypatch) == 0
    assert read_manifest(tmp_path / "other.manifest.json").requested_rate == 0.1


def test_the_help_shows_the_values_at_the_top(clean, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1000")
    path = edited(tmp_path, "AN", "COCO", r=0.45, p="in.json")
    assert run_edited(path, "--help", monkeypatch=monkeypatch) == 0
    shown = capsys.readouterr().out
    for default in ("0.45", "in.json", "in_an45.json"):
        assert f"default: {default}\n" in shown
    assert run_edited(script("AN", "COCO"), "--help", monkeypatch=monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "noise rate in [0, 1]; default: 0.2\n" in shown
    assert "clean annotations, of the training set\n" in shown


def test_the_authors_two_paths_may_be_edited(clean, tmp_path, monkeypatch, capsys):
    path = edited(tmp_path, "SN", "VOC", p=str(clean("VOC")))
    text = path.read_text()
    out = str(tmp_path / "here.json")
    path.write_text(text.replace('p_a, p_g = p, ""', f"p_a, p_g = p, {out!r}"))
    assert run_edited(path, monkeypatch=monkeypatch) == 0
    assert read_manifest(tmp_path / "here.manifest.json").requested_rate == 0.2
    # a file made for the edited rate would be called wrongly
    other = edited(tmp_path, "SN", "VOC", p=str(clean("VOC")))
    assert run_edited(other, "--rate", "0.3", monkeypatch=monkeypatch) == 2
    assert "--out" in capsys.readouterr().err
