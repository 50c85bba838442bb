"""The page as text: it asks nobody anything, runs nothing of its data, and bears any input."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import report_runs as made
from PIL import Image

from compare.plan import ROOT
from compare.report import page as report_page
from compare.report.__main__ import main
from compare.report.collect import collect
from compare.report.thumbnails import Source
from shared.formats import noise_file
from shared.formats.alignment import subset

HOSTILE = (
    "</script><script>alert(1)</script>",
    "りんご",
    '<img src="x" onerror="alert(2)">',
    "a,b",
)
DIGITS = Source("digits")


def render(place, source=DIGITS, first=20):
    return report_page.page(collect([place]), source, first)[0]


def without_plotly(html):
    return html.replace(report_page.get_plotlyjs(), "")


def gallery_of(html):
    return json.loads(re.search(r'id="samples">(.*?)</script>', html, re.S)[1])


def figures_of(html):
    return json.loads(re.search(r'id="figures">(.*?)</script>', html, re.S)[1])


@pytest.fixture
def command(called):
    """Runs `python -m compare.report` with these words."""
    return partial(called, main)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return made.three_methods(tmp_path_factory.mktemp("runs"), made.noise())


def test_the_page_holds_every_section(runs):
    html = render(runs)
    for words in ("Which method is best", "Cross-entropy", "InstanceGM", "SLN+MO+LC", "seeds 1, 2"):
        assert words in html
    figures = figures_of(html)
    assert {"accuracy", "roc", "precision", "agreement", "correlation"} < figures.keys()
    [said] = figures["precision"]["layout"]["annotations"]
    wrong = int((made.noise().noisy_labels != made.noise().clean_labels).sum())
    assert said["text"] == f"{wrong} wrong labels"
    assert 10 ** said["x"] == pytest.approx(wrong)  # a logarithmic axis
    matrices = re.findall(r'<option value="(transition-\d+)">(.*?)</option>', html)
    assert len(matrices) == 1 + 3 * 3
    assert matrices[0][1] == "The noise: clean → given"


def test_the_page_names_no_address_and_forbids_connections(runs):
    html = render(runs)
    assert "default-src &#39;none&#39;" in html
    assert "unsafe-eval" not in html
    assert not re.search(r"https?://|//\w+\.\w+|@import|url\(", without_plotly(html))
    assert not re.search(r"<(?:link|iframe|object|base)\b|<script[^>]+src=", without_plotly(html))


def test_the_best_method_is_on_top_and_what_its_paper_reports_is_marked(tmp_path):
    labels = made.noise()
    made.write(tmp_path / "a", labels, "ce", accuracies=[10.0, 70.0, 50.0, 50.0])
    made.write(tmp_path / "b", labels, "sln", accuracies=[10.0, 60.0, 55.0, 56.0])
    html = render(tmp_path)
    assert "Highest last accuracy: SLN+MO+LC with 56.00 %, before Cross-entropy with 50.00." in html
    assert re.findall(r'<th scope="row" data-value="(.*?)">', html)[:2] == [
        "SLN+MO+LC",
        "Cross-entropy",
    ]
    assert re.findall(r'class="reported">([\d.]+)', html) == ["56.00"]
    assert "not finished" not in html


def test_a_run_that_goes_on_is_marked_and_not_named_among_the_best(tmp_path):
    labels = made.noise()
    made.write(tmp_path / "a", labels, "ce", accuracies=[10.0, 50.0, 50.0, 50.0])
    made.write(tmp_path / "b", labels, "sln", accuracies=[10.0, 50.0, 50.0, 50.0])
    made.write(tmp_path / "c", labels, "instancegm", accuracies=[10.0, 70.0, 90.0])
    html = render(tmp_path)
    assert "not finished: 3 of 4 epochs" in html  # epochs count from 0 there
    assert re.search(r"Highest last accuracy: [\w+-]+ with 50.00 %, as has [\w+-]+\.", html)


def test_a_run_that_goes_on_does_not_move_the_mean_of_those_that_ended(tmp_path):
    labels = made.noise()
    for seed, last in ((1, 80.0), (2, 82.0)):
        made.write(tmp_path / f"a{seed}", labels, "ce", seed, accuracies=[10.0, 50.0, 50.0, last])
    made.write(tmp_path / "a3", labels, "ce", 3, accuracies=[10.0, 20.0])
    made.write(tmp_path / "b", labels, "sln", accuracies=[10.0, 50.0, 50.0, 50.0])
    html = render(tmp_path)
    assert "Highest last accuracy: Cross-entropy with 81.00 ± 1.41 %, before SLN" in html
    assert "seeds 1, 2<" in html
    assert "not finished and not counted: 2 of 4 epochs" in html


def test_a_method_that_flags_nothing_is_said_to(tmp_path):
    labels = made.noise()
    says = made.verdict(labels)
    nothing = replace(says, is_issue=np.zeros(len(says.is_issue), bool))
    made.write(tmp_path / "a", labels, "ce", says=nothing)
    html = render(tmp_path)
    assert re.search(r"with an AUC of 0\.\d+; it flags no label\.", html)


def test_names_are_texts_and_never_code(tmp_path):
    labels = noise_file.make([0, 1, 2, 3] * 5, clean_labels=[0, 1, 2, 2] * 5, num_classes=4)
    says = made.verdict(labels)
    files = [f"<script>alert({number})</script>.png" for number in range(20)]
    made.write(tmp_path / "<b>run", labels, names=HOSTILE, says=says, files=files)
    html = render(tmp_path, Source("folder", tmp_path))
    text = without_plotly(html)
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "<b>run" not in text
    assert gallery_of(html)["classes"] == list(HOSTILE)
    assert "りんご" in text


@pytest.mark.parametrize(
    "case", ["no test set", "no truth", "no verdict", "one class", "no labels"]
)
def test_what_is_missing_is_said(tmp_path, case):
    labels = made.noise(known=case != "no truth")
    if case == "one class":
        labels = noise_file.make([0] * 8, clean_labels=[0] * 8, num_classes=10)
    made.write(
        tmp_path / "run",
        None if case == "no labels" else labels,
        says=None if case in ("no verdict", "no labels") else made.verdict(labels),
        accuracies=[None] * 4 if case == "no test set" else (10.0, 20.0, 30.0, 40.0),
    )
    html = render(tmp_path)
    expected = {
        "no test set": "No run was tested",
        "no truth": "The truth is not known here",
        "no verdict": "No run has a verdict on its labels",
        "one class": "All labels are right, or all wrong",
        "no labels": "No run has a verdict on its labels",
    }
    assert expected[case] in html
    assert ("Only Cross-entropy has a verdict" in html) == (case not in ("no verdict", "no labels"))


def test_many_classes_show_those_that_are_doubted(tmp_path):
    labels = made.noise(count=600, classes=150, dataset=None)
    names = [f"class {number}" for number in range(150)]
    made.write(tmp_path / "run", labels, names=names, says=made.verdict(labels))
    html = render(tmp_path)
    assert "Of 150 classes those 60 are shown" in html
    assert len(figures_of(html)["transition-0"]["data"][0]["z"]) == 60


def test_classes_of_one_name_are_two_rows(tmp_path):
    labels = noise_file.make([0, 1, 0, 1], clean_labels=[0, 1, 1, 1], num_classes=2)
    made.write(tmp_path / "run", labels, names=["cat", "cat"], says=made.verdict(labels))
    assert figures_of(render(tmp_path))["transition-0"]["data"][0]["x"] == ["cat (0)", "cat (1)"]


def test_the_gallery_is_sorted_by_the_mean_rank(runs):
    samples = gallery_of(render(runs, first=5))["samples"]
    ranks = [sample["all"]["rank"] for sample in samples]
    assert ranks == sorted(ranks)
    assert 5 <= len(samples) <= 20  # of three methods and of all together
    for number in range(3):
        assert sum(sample["by"][number]["rank"] <= 5 / 60 for sample in samples) == 5
    assert all(sample["picture"].startswith("data:image/webp;base64,") for sample in samples)


def test_a_method_that_judged_a_part_is_ranked_within_it(tmp_path):
    labels = made.noise()
    part = subset(replace(labels, indices=np.arange(60)), np.arange(0, 60, 3))
    made.write(tmp_path / "all", labels, says=made.verdict(labels))
    made.write(tmp_path / "part", part, "sln", says=made.verdict(part))
    found = gallery_of(render(tmp_path))
    assert found["count"] == 60
    assert dict(zip(found["methods"], found["judged"])) == {"Cross-entropy": 60, "SLN+MO+LC": 20}


def test_without_pictures_the_page_says_why(tmp_path):
    labels = made.noise(dataset="cifar10")
    made.write(tmp_path / "run", labels, says=made.verdict(labels))
    html = render(tmp_path, Source("cifar10", tmp_path / "empty"))
    assert "the pictures are not there" in html
    assert all(sample["picture"] is None for sample in gallery_of(html)["samples"])


def test_fifty_thousand_labels_make_a_small_page(tmp_path):
    labels = made.noise(count=50_000, dataset=None)
    for number in range(4):
        method = ["ce", "instancegm", "sln"][number % 3]
        says = made.verdict(labels, seed=number)
        made.write(tmp_path / f"{method}{number}", labels, method, number, says=says)
    html = render(tmp_path, first=300)
    assert len(html.encode()) < 8e6
    assert 300 <= len(gallery_of(html)["samples"]) <= 1200


# ---- the command


def test_objects_in_images_are_shown_as_crops(command, tmp_path):
    Image.new("RGB", (100, 80), "blue").save(tmp_path / "1.png")
    table = tmp_path / "ranking.csv"
    table.write_text(
        "index,file,given_label,given_name,predicted_label,predicted_name,label_quality,"
        "self_confidence,is_label_issue,annotation_id,image,bbox\n"
        "0,1.png,0,cat,1,dog,0.1,0.1,True,17,1.png,10 10 40 30\n"
        "1,1.png,1,dog,1,dog,0.9,0.9,False,18,1.png,5 40 20.5 30\n"
    )
    out = tmp_path / "report.html"
    done = command(table, "--images", tmp_path, "--out", out)
    assert done.returncode == 0, done.stderr
    samples = gallery_of(out.read_text())["samples"]
    assert [(each["annotation"], each["file"]) for each in samples] == [
        ("17", "1.png"),
        ("18", "1.png"),
    ]
    assert all(each["picture"] for each in samples)
    words = (table, "--format", "label-studio", "--out", tmp_path / "a.json")
    assert "objects in images" in command(*words, "--images", tmp_path).stderr
    without = command(table, "--out", out)
    assert without.returncode == 0
    assert "--images" in out.read_text()


def test_pictures_that_are_gone_are_said_in_the_terminal(command, tmp_path):
    labels = made.noise(20, dataset="folder")
    files = [f"{label}/{row}.png" for row, label in enumerate(labels.noisy_labels.tolist())]
    for name in files[1:]:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "mine" / name)
    more = {"files": files, "config": f"data_location: {tmp_path}/mine\n"}
    made.write(tmp_path / "run", labels, says=made.verdict(labels), **more)
    for out in (("a.html",), ("a.json", "--format", "label-studio")):
        done = command(tmp_path / "run", "--out", tmp_path / out[0], *out[1:])
        assert done.returncode == 0, done.stderr
        assert f"note: 1 of 20 pictures cannot be shown, such as {files[0]}" in done.stderr
    shown = gallery_of((tmp_path / "a.html").read_text())["samples"]
    assert sorted(each["file"] for each in shown if each["picture"]) == sorted(files[1:])
    tasks = json.loads((tmp_path / "a.json").read_text())
    assert sorted(task["data"]["file"] for task in tasks) == sorted(files[1:])


def test_a_comparison_that_was_moved_finds_the_data_that_lie_in_it(command, tmp_path):
    """The first run says no place, and the places of the others are those of before."""
    labels = made.noise(20, dataset="folder")
    np.savez(tmp_path / "data.npz", train_images=np.zeros((20, 8, 8, 3), np.uint8))
    for method, config in (("ce", ""), ("sln", "data_location: /before/data.npz\n")):
        says = made.verdict(labels)
        made.write(tmp_path / f"{method}-seed1", labels, method, says=says, config=config)
    done = command(tmp_path, "--out", tmp_path / "a.html")
    assert (done.returncode, done.stderr) == (0, "")
    samples = gallery_of((tmp_path / "a.html").read_text())["samples"]
    assert all(each["picture"] for each in samples)


def test_the_command_writes_the_page_and_names_what_it_left_out(command, runs, tmp_path):
    out = tmp_path / "report.html"
    done = command(runs, tmp_path / "nowhere", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stderr
    assert "nowhere" in done.stderr
    assert "wrote" in done.stdout
    assert "nowhere" in out.read_text()
    again = command(runs, tmp_path / "nowhere", "--out", tmp_path / "again.html")
    assert again.returncode == 0
    assert (tmp_path / "again.html").read_bytes() == out.read_bytes()


def test_it_starts_as_a_module(tmp_path):
    words = [sys.executable, "-m", "compare.report", str(tmp_path), "--out", "a.txt"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "writes a .html file" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--out", "a.txt"], "writes a .html file"),
        (["--out", "a.html", "--format", "label-studio"], "writes a .json file"),
        (["--out", "a.html", "--first", "0"], "--first 0"),
        (["--out", "a.html"], "no run can be read"),
    ],
)
def test_input_that_cannot_work_is_refused_with_the_fix(
    command, tmp_path, monkeypatch, words, expected
):
    monkeypatch.chdir(tmp_path)
    done = command(tmp_path, *words)
    assert done.returncode == 2
    assert expected in done.stderr
    assert [*tmp_path.iterdir()] == []
