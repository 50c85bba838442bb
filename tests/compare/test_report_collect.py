"""Run folders become methods and samples; what cannot be compared is refused or named."""

import os
from dataclasses import replace

import numpy as np
import pytest
import report_runs as made

from compare.report.collect import ReportError, collect
from shared.formats import label_quality, noise_file
from shared.formats.alignment import subset


def test_seeds_of_a_method_are_one_method(tmp_path):
    labels = made.noise()
    found = collect([made.three_methods(tmp_path, labels)])
    assert [(m.title, len(m.runs)) for m in found.methods] == [
        ("Cross-entropy", 2),
        ("InstanceGM", 1),
        ("SLN+MO+LC", 1),
    ]
    assert found.samples.dataset == "digits"
    np.testing.assert_array_equal(found.samples.given, labels.noisy_labels)
    np.testing.assert_array_equal(found.samples.clean, labels.clean_labels)
    assert found.samples.class_names == made.DIGITS
    assert found.methods[0].quality.shape == (2, 60)
    assert not found.left_out
    assert not found.notes


def test_runs_of_one_seed_in_two_comparisons_stay_apart(tmp_path):
    labels = made.noise()
    for comparison in ("fast", "slow"):
        made.write(tmp_path / comparison / "sln-seed1", labels, "sln")
    assert [(m.title, len(m.runs)) for m in collect([tmp_path]).methods] == [
        ("SLN+MO+LC: fast/sln-seed1", 1),
        ("SLN+MO+LC: slow/sln-seed1", 1),
    ]


def test_runs_with_other_settings_are_another_method(tmp_path):
    """Of two comparisons with different ARGS, say."""
    labels = made.noise()
    for comparison, seed, more in (("a", 1, 0.5), ("a", 2, 0.5), ("b", 3, 0.1)):
        folder = tmp_path / comparison / f"ce-seed{seed}"
        config = f"lr: {more}\noutput_dir: {folder}\n"
        made.write(folder, labels, "ce", seed, config=config)
    assert [(m.title, len(m.runs)) for m in collect([tmp_path]).methods] == [
        ("Cross-entropy (lr 0.5)", 2),
        ("Cross-entropy (lr 0.1)", 1),
    ]


def test_several_seeds_are_averaged_and_vote(tmp_path):
    labels = made.noise(count=4, classes=2, dataset=None)
    for seed, (quality, predicted) in enumerate(
        (([0.1, 0.2, 0.3, 0.4], [0, 1, 1, 1]), ([0.3, 0.4, 0.5, 0.6], [0, 1, 0, 1]))
    ):
        says = label_quality.Verdict(
            np.array(predicted), np.array(quality), np.array(quality), np.array(quality) < 0.35
        )
        made.write(tmp_path / str(seed), labels, seed=seed, names=["a", "b"], says=says)
    [method] = collect([tmp_path]).methods
    np.testing.assert_allclose(method.mean_quality, [0.2, 0.3, 0.4, 0.5])
    assert method.voted.tolist() == [0, 1, 0, 1]
    assert method.flagged.tolist() == [True, True, True, False]  # at least half of them say so


def test_two_runs_of_one_seed_are_two_methods(tmp_path):
    labels = made.noise()
    for name in ("wide", "narrow"):
        made.write(tmp_path / name, labels, says=made.verdict(labels))
    titles = [method.title for method in collect([tmp_path]).methods]
    assert titles == ["Cross-entropy: narrow", "Cross-entropy: wide"]


def test_runs_on_a_part_of_the_samples_belong_to_the_others(tmp_path):
    labels = made.noise()
    part = subset(replace(labels, indices=np.arange(60)), np.arange(10, 40))
    made.write(tmp_path / "all", labels, "ce", says=made.verdict(labels))
    made.write(tmp_path / "part", part, "sln", says=made.verdict(part))
    found = collect([tmp_path])
    assert [method.trained_on.tolist() for method in found.methods] == [[60], [30]]
    np.testing.assert_array_equal(np.flatnonzero(found.methods[1].judged), np.arange(10, 40))


def test_runs_of_other_labels_are_refused_with_their_folders(tmp_path):
    one, two = made.noise(rate=0.4), made.noise(rate=0.1)
    made.write(tmp_path / "one", one, "ce", says=made.verdict(one))
    made.write(tmp_path / "two", two, "sln", says=made.verdict(two))
    with pytest.raises(ReportError, match=r"(?s)different noisy labels.*1\. .*one\n.*2\. .*two$"):
        collect([tmp_path])


def test_runs_of_other_data_sets_are_refused(tmp_path):
    labels = made.noise()
    other = made.noise(dataset="cifar10")
    made.write(tmp_path / "one", labels)
    made.write(tmp_path / "two", other, "sln")
    with pytest.raises(ReportError, match="different noisy labels"):
        collect([tmp_path])


def test_classes_of_other_names_are_other_data(tmp_path):
    labels = made.noise(dataset="folder")
    made.write(tmp_path / "one", labels, says=made.verdict(labels))
    names = [f"class {name}" for name in made.DIGITS]
    made.write(tmp_path / "two", labels, "sln", names=names, says=made.verdict(labels))
    with pytest.raises(ReportError, match="different noisy labels"):
        collect([tmp_path])


def test_folders_that_cannot_be_read_are_named(tmp_path):
    labels = made.noise()
    made.write(tmp_path / "good", labels, says=made.verdict(labels))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/config.yaml").write_text("a: [")
    found = collect([tmp_path, tmp_path / "nowhere"])
    assert {folder.name for folder, _ in found.left_out} == {"bad", "nowhere"}
    assert all(reason for _, reason in found.left_out)


def test_nothing_to_report_is_an_error_that_says_why(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ReportError, match="pipe"):
        collect([tmp_path / "pipe.csv"])
    with pytest.raises(ReportError, match=r"(?s)no run can be read.*nowhere: .*give folders"):
        collect([tmp_path / "nowhere"])


def test_a_damaged_verdict_leaves_the_run_in_the_table(tmp_path):
    labels = made.noise()
    folder = made.write(tmp_path / "run", labels, says=made.verdict(labels))
    table = folder / label_quality.TABLE
    table.write_text(table.read_text().replace("True", "perhaps"))
    found = collect([tmp_path])
    [method] = found.methods
    assert not method.has_opinion
    assert "verdict" in found.notes[0]
    np.testing.assert_array_equal(found.samples.given, labels.noisy_labels)


def test_a_run_that_recorded_no_labels_is_noted(tmp_path):
    labels = made.noise()
    made.write(tmp_path / "new", labels, says=made.verdict(labels))
    made.write(tmp_path / "old", None, "sln")
    found = collect([tmp_path])
    assert len(found.methods) == 2
    assert "does not record its noisy labels" in found.notes[0]


def test_a_table_may_be_given_alone(tmp_path):
    labels = made.noise()
    folder = made.write(tmp_path / "run", labels, says=made.verdict(labels))
    table = (folder / label_quality.TABLE).rename(tmp_path / "mine.csv")
    found = collect([table])
    assert [(m.title, m.runs) for m in found.methods] == [("mine", ())]
    np.testing.assert_array_equal(found.samples.given, labels.noisy_labels)


def test_an_image_of_no_class_is_labelled_wrong(tmp_path):
    labels = made.noise(count=20)
    folder = made.write(tmp_path / "run", labels, says=made.verdict(labels))
    table = folder / label_quality.TABLE
    head, *rows = table.read_text().splitlines()
    rows[3] = f"{rows[3].rpartition(',')[0]},-1"
    table.write_text("\n".join([head, *rows]) + "\n")
    samples = collect([tmp_path]).samples
    assert samples.known.all()
    assert samples.wrong[3]


def test_a_class_that_no_table_names_has_its_number(tmp_path):
    labels = noise_file.make([0, 1, 0, 1], num_classes=4)
    says = label_quality.Verdict(labels.noisy_labels, np.ones(4), np.ones(4), np.zeros(4, np.bool_))
    made.write(tmp_path / "run", labels, names=["りんご", "みかん", "", ""], says=says)
    assert collect([tmp_path]).samples.class_names == ("りんご", "みかん", "2", "3")
