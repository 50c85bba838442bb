"""What methods are told that others are not is in the table and beside their names."""

import json
from dataclasses import asdict

import pytest
import report_runs as made

from compare import plan
from compare.methods import METHODS
from compare.question import PLAN, Question, Task
from compare.report import held_out, page, tables
from compare.report.collect import collect
from compare.report.thumbnails import Source

ACCURACIES = {"ieg": 99.0, "ce": 50.0, "sln": 70.0, "lra": 60.0}


def methods(folder, known=True, keys=ACCURACIES):
    """Finished runs, by their titles."""
    labels = made.noise(known=known)
    for number, key in enumerate(keys):
        says = made.verdict(labels, 0.95 if key == "ieg" else 0.6, number)
        made.write(
            folder / f"{key}-seed1", labels, key, says=says, accuracies=[ACCURACIES[key]] * 4
        )
    found = collect([folder])
    rows = tables.methods(found.methods, found.samples)
    return {row.title: row for row in rows}


def answers(folder):
    html, _ = page.page(collect([folder]), Source("digits"), 1)
    return html.partition('class="answers"')[2].partition("</ul>")[0]


@pytest.mark.parametrize(("known", "whose"), [(True, "clean"), (False, "given")])
def test_a_run_by_itself_is_described_by_its_config(tmp_path, known, whose):
    rows = methods(tmp_path, known)
    assert f"trusts 7.0% of the images with {whose} labels, held out" in rows["IEG"].remark
    assert f"a part of the images validates, with {whose} labels" in rows["LRA-diffusion"].remark
    assert [row.has_clean for row in rows.values()] == [known, False, known, False]
    assert rows["SLN+MO+LC"].remark == "accuracy of averaged weights"


@pytest.mark.parametrize("noise", ["noise.npz", None])
def test_a_run_of_a_comparison_is_described_in_its_words(tmp_path, noise):
    task = Task("digits", None, None, noise, samples=60, classes=10)
    known = {"question": asdict(Question("digits")), "task": asdict(task)}
    (tmp_path / PLAN).write_text(json.dumps(known))
    rows = methods(tmp_path)
    for key, words in plan.differences(task, METHODS.values()).items():
        if (row := rows.get(METHODS[key].title)) is not None:
            assert words in row.remark
            assert row.has_clean == (noise is not None)


def test_the_first_sentences_name_who_had_clean_labels_and_who_is_best_without(tmp_path):
    methods(tmp_path)
    said = answers(tmp_path)
    assert "Highest last accuracy: IEG (given some clean labels) with 99.00 %" in said
    assert "Highest without clean labels: SLN+MO+LC with 70.00 %, before Cross-entropy" in said
    assert "Finds wrong labels best: IEG (given some clean labels), with" in said
    assert "Finds them best without clean labels: " in said


def test_where_nobody_had_any_there_is_no_word_of_it(tmp_path):
    methods(tmp_path, keys=("ce", "sln"))
    assert "clean labels" not in answers(tmp_path)


def test_a_share_that_is_no_number_is_none(tmp_path):
    methods(tmp_path, keys=("ieg",))
    [method] = collect([tmp_path]).methods
    [run] = method.runs
    run.config["probe_dataset_hold_ratio"] = "many"
    assert held_out.of_run(run, True) is None
