"""From a task to commands, as a pure function."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from compare.methods import METHODS, Sizes, chosen
from compare.plan import ROOT, differences, further_flags, jobs
from compare.question import Question, Task
from shared.errors import UserError

FOLDER = Path("/somewhere/c")
DIGITS = Task("digits", None, None, "/somewhere/c/noise.npz", 1442, 10)
CIFAR = Task("cifar10", "/data", None, "/somewhere/c/noise.npz", 50_000, 10)
PICTURES = Task("folder", "/my images", None, None, 600, 7)
TASKS = {"digits": DIGITS, "paper": CIFAR, "small": PICTURES}


def planned(task, methods=(), seeds=(1,), further=""):
    return jobs(task, chosen(methods), seeds, further, FOLDER)


def values(command):
    """Flag -> value, however it is spelled."""
    words = [part for word in command for part in word.split("=", 1)]
    return {word: after for word, after in zip(words, [*words[1:], ""]) if word.startswith("--")}


@pytest.mark.parametrize("preset", TASKS)
def test_every_method_gets_the_same_data_labels_and_seed(preset):
    task = TASKS[preset]
    assert task.preset == preset
    found = planned(task, seeds=[1, 5])
    assert [(job.method.key, job.seed) for job in found] == [
        (key, seed) for seed in (1, 5) for key in METHODS
    ]
    assert len({job.folder for job in found}) == len(found)
    for job in found:
        flags = values(job.commands[-1])
        assert flags["--seed"] == str(job.seed)
        assert flags["--output_dir"] == str(job.folder)
        assert flags.get("--noise_file") == task.noise_file
        assert flags.get("--data_path", flags.get("--dataset_dir")) == task.data_path
        dataset = flags.get("--dataset", flags.get("--dataset_name"))
        assert dataset.removeprefix("file_") == task.dataset
        assert "{" not in job.line


def test_commands_are_absolute_and_one_line_each():
    for task in TASKS.values():
        for job in planned(task):
            assert "\n" not in job.line
            for command in job.commands:
                assert Path(command[0]).is_relative_to(ROOT / ".venv" / job.method.project)
                assert Path(command[1]).is_file()
            steps = [shlex.split(step) for step in job.line.split(" && ")]
            assert steps == [list(command) for command in job.commands]


def test_lra_trains_its_encoder_first_and_all_its_labels_are_cut():
    (job,) = planned(DIGITS, ["lra"], [3])
    encoder, training = map(values, job.commands)
    assert encoder["--output_dir"] == training["--fp_weights"] == f"{FOLDER}/simclr-seed3"
    assert "--noise_file" not in encoder
    assert "--cut_labels" in training
    (own,) = planned(PICTURES, ["lra"])
    assert "--cut_labels" not in own.commands[-1]


@pytest.mark.parametrize("flags", ["--fp_encoder efficientnet_lite0", "--fp_weights=model"])
def test_no_encoder_is_trained_where_one_is_named(flags):
    (job,) = planned(CIFAR, ["lra"], further=f"lra: {flags}")
    (training,) = job.commands
    assert set(flags.split()) <= set(training)
    assert f"{FOLDER}/simclr" not in " ".join(training)
    assert values(training)["--cache_dir"] == f"{FOLDER}/embeddings"
    (job,) = planned(CIFAR, ["lra"], further="lra: --fp_queries fresh")
    assert len(job.commands) == 2


def test_the_papers_numbers_are_used_on_full_sets():
    flags = {job.method.key: values(job.commands[-1]) for job in planned(CIFAR)}
    assert "--num_epochs" not in flags["instancegm"]
    assert (flags["fsr"]["--queue_bs"], flags["fsr"]["--queue_capacity"]) == ("200", "2000")
    assert int(50_000 * float(flags["ieg"]["--probe_dataset_hold_ratio"])) == 100


@pytest.mark.parametrize("smallest", [2, 3, 4, 8, 40, 171])
def test_a_small_class_keeps_samples_to_train_on(smallest):
    task = replace(PICTURES, smallest=smallest)
    (job,) = planned(task, ["ieg"])
    held_out = int(600 * float(values(job.commands[-1])["--probe_dataset_hold_ratio"])) // 7
    assert held_out == task.sizes.trusted_per_class
    assert 1 <= held_out <= max(1, smallest / 4)


@pytest.mark.parametrize(("samples", "batch", "pairs"), [(52, 43, 52), (600, 100, 64)])
def test_a_batch_is_no_larger_than_the_set(samples, batch, pairs):
    task = replace(PICTURES, samples=samples, classes=3, smallest=12)
    lra, l2r = planned(task, ["lra", "l2r"])
    assert values(l2r.commands[0])["--batch_size"] == str(batch)
    assert values(lra.commands[0])["--batch_size"] == str(pairs)


def test_a_class_too_small_to_trust_is_named_before_training():
    task = replace(PICTURES, smallest=1, smallest_class="oak")
    assert len(planned(task, ["ce", "fsr"])) == 2
    with pytest.raises(
        UserError, match=r"class 'oak' has 1 picture to .* and IEG need .*METHODS='ce fsr'"
    ):
        planned(task, ["ce", "ieg", "fsr"])
    with pytest.raises(
        UserError, match=r"class 'oak' has no .* and L2R and IEG need .*METHODS=fsr"
    ):
        planned(replace(task, smallest=0), ["l2r", "ieg"])


@pytest.mark.parametrize("classes", [2, 3, 7, 10, 26, 100, 257])
@pytest.mark.parametrize("samples", [600, 1442, 45_000])
def test_sizes_follow_from_images_and_classes(classes, samples):
    sizes = Sizes(samples, classes, samples // classes)
    queue, capacity, large, ratio = sizes.fill("{queue} {small_capacity} {large_queue} {trusted}")
    assert int(queue) % classes == int(capacity) % classes == int(large) % classes == 0
    assert int(capacity) > int(queue) > 0
    # what the project holds out of each class, see shared.noise.ieg_splits
    assert int(samples * float(ratio)) // classes == sizes.trusted_per_class
    assert 1 <= sizes.trusted_per_class <= 10


def test_flags_go_to_all_methods_or_to_one():
    words = "--limit_test 9 ce: --num_epochs 2 --id 'a b' sln: --n_epochs 2 simclr: --nepoch 1"
    assert further_flags(words) == {
        "": ["--limit_test", "9"],
        "ce": ["--num_epochs", "2", "--id", "a b"],
        "sln": ["--n_epochs", "2"],
        "simclr": ["--nepoch", "1"],
    }
    for job in planned(DIGITS, further=words):
        assert all(values(command)["--limit_test"] == "9" for command in job.commands)
        assert (values(job.commands[-1]).get("--id") == "a b") == (job.method.key == "ce")
    (lra,) = planned(DIGITS, ["lra"], further=words)
    assert values(lra.commands[0])["--nepoch"] == "1"
    assert further_flags("sln:--n_epochs 2") == {"": [], "sln": ["--n_epochs", "2"]}
    assert further_flags("--id sln:5 x:y") == {"": ["--id", "sln:5", "x:y"]}
    for words in ("slm: --n_epochs 2", "slm:--n_epochs 2"):
        with pytest.raises(UserError, match="names slm:, which is no method"):
            further_flags(words)
    with pytest.raises(UserError, match="quotation"):
        further_flags("--id 'a")
    for words in ("--seed 7", "sln:--noise_file=a.npz", "ieg: -dataset_dir a"):
        with pytest.raises(UserError, match="which the comparison sets: give it as --"):
            further_flags(words)


def test_no_time_is_named_for_a_run_with_further_flags():
    expected = {"": {"ce", "sln", "lra"}, "--seconds 1": set(), "sln: --n_epochs 2": {"ce", "lra"}}
    expected["simclr: --nepoch 1"] = {"ce", "sln"}
    for further, known in expected.items():
        found = planned(DIGITS, ["ce", "sln", "lra"], further=further)
        assert {job.method.key for job in found if job.seconds is not None} == known


def test_what_differs_is_said_of_those_that_differ():
    found = differences(CIFAR, chosen([]))
    assert found.keys() == {"lra", "l2r", "ieg"}
    assert "last 5,000" in found["lra"]
    assert "10 images of each class with clean labels" in found["ieg"]
    assert "given" in differences(PICTURES, chosen(["l2r"]))["l2r"]
    assert differences(CIFAR, chosen(["ce", "fsr"])) == {}


def test_methods_are_chosen_by_name_in_the_tables_order():
    assert [method.key for method in chosen(["ieg", "sln"])] == ["sln", "ieg"]
    with pytest.raises(UserError, match="no method 'sln_mo'"):
        chosen(["sln_mo"])


@pytest.mark.parametrize(
    ("question", "name"),
    [
        (Question(), "compare-digits-pdn-0.4"),
        (Question(kind="symmetric", rate=0.25), "compare-digits-symmetric-0.25"),
        (Question("folder", data="/a/my images"), "compare-my_images"),
        (Question("folder", data="/a/我的 图片"), "compare-我的_图片"),
        (
            Question("cifar10", noise_file="/x/CIFAR-10_human.pt:worse_label", limit=2000),
            "compare-cifar10-CIFAR_10_human.pt_worse_label-2000_images",
        ),
    ],
)
def test_a_comparison_is_named_by_data_noise_and_limit(question, name):
    assert question.name == name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "pdn", "noise_file": "a.npz"}, "leave one of them out"),
        ({"rate": 0.4, "noise_file": "a.npz"}, "leave one of them out"),
        ({"dataset": "folder"}, "needs --data"),
        ({"dataset": "folder", "data": "a", "rate": 0.4}, "name its --kind"),
        ({"dataset": "cifar10", "labels": "a.csv"}, "leave it out for cifar10"),
        ({"data": "/a"}, "DATASET=folder"),
        ({"limit": 100}, "digits are few"),
        ({"dataset": "cifar10", "limit": 0}, "1 or more"),
        ({"kind": "pdn", "rate": 4.0}, r"make: RATE\) is outside \[0, 1\]"),
        ({"kind": "asymmetric"}, "choose another kind, such as pair_flip, or give a file"),
    ],
)
def test_questions_that_cannot_be_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Question(**fields)
