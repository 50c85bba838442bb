"""label_quality.csv and its companions, against literal forms of what they say."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from conftest import METHODS, STEPS, TINY, rows

from ieg.input.batches import pass_order
from ieg.method.schedules import Plan
from ieg.method.train import train
from ieg.method.weight_counts import WeightCounts
from ieg.run.config import parse
from ieg.run.experiment import build
from ieg.run.label_quality import quality, verdict
from shared import datasets
from shared.formats import noise_file
from shared.formats.label_quality import COLUMNS, CORRECTED, PROBS, TABLE


def table_of(folder):
    with open(folder / TABLE, newline="") as file:
        return list(csv.DictReader(file))


def column(folder, name, kind=float):
    return np.array([kind(row[name]) for row in table_of(folder)])


def digits_seen(folder, averages=True):
    """Probabilities of all training and all test digits by the last checkpoint of a run."""
    run = build(parse(["--config", str(folder / "config.yaml"), f"--output_dir={folder}"]))
    run.resume()
    trainer, data = run.trainer, datasets.load("digits")
    weights = [v.value() for v in (trainer.averages if averages else trainer.weights)]
    moving = [v.value() for v in trainer.moving]

    def of(pixels):
        images = tf.constant(pixels.astype(np.float32) / 127.5 - 1)
        logits = trainer.model.stateless_call(weights, moving, images, training=False)[0][1].numpy()
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    return of(data.train_images), of(data.test_images)


def shares_of(steps, count):
    """The share of `steps`, pairs of ids and weights, in which a sample had weight; literal."""
    given = [[] for _ in range(count)]
    for ids, weights in steps:
        for sample, weight in dict(zip(ids.tolist(), weights.tolist())).items():  # the last counts
            given[sample].append(weight > 0)
    return np.array([np.mean(each) if each else np.nan for each in given])


# ---- how often a sample has weight


def test_steps_with_weight_are_counted_from_the_restart_on():
    random, seen = np.random.default_rng(0), WeightCounts(50)
    record, steps = tf.function(seen.record), []
    for step in range(12):
        ids = random.permutation(40)[:16]
        weights = np.maximum(random.random(16, np.float32) - 0.5, 0)
        if step == 5:
            assert np.isnan(seen.shares()).all()  # nothing is kept before
            seen.restart()
        if step == 7:
            seen.restart()
            steps.clear()
        record(tf.constant(ids), tf.constant(weights))
        steps.append((ids, weights))
    np.testing.assert_allclose(seen.shares(), shares_of(steps, 50), rtol=1e-6)
    assert np.isnan(seen.shares()[40:]).all()


@pytest.mark.parametrize(("count", "batch"), [(7, 3), (20, 20), (103, 10), (500, 100)])
@pytest.mark.parametrize("passes", [2, 2.5, 3, 9.3, 40])
def test_the_last_third_has_every_sample(count, batch, passes):
    last = int(np.ceil(passes * count / batch))
    plan = Plan(max(1, count // batch), last, float, ())
    assert 0 <= plan.judged_from <= last - last // 3
    order = np.concatenate([pass_order(count, 1, number) for number in range(42)])
    assert len(np.unique(order[plan.judged_from * batch : last * batch])) == count
    assert passes < 9 or plan.judged_from == last - -(-last // 3)


@pytest.mark.training
def test_a_run_counts_the_steps_of_its_last_part_over_all_devices(tmp_path):
    """With a batch that crosses the end of a pass, and the same sample on both devices."""
    flags = [*TINY, "--method=l2r", "--limit_train=70", "--cpu_replicas=2"]
    run = build(parse([*flags, "--max_iteration=9", f"--output_dir={tmp_path}"]))
    order = run.queue_order()
    progress = train(run.trainer, run.batches(0), run.plan, run.evaluate, done=0, queue_order=order)
    steps = [step for part in progress for step in part.steps]
    counted = [
        (step.samples["ids"].numpy(), step.samples["weights"].numpy())
        for step in steps
        if step.iteration > run.plan.judged_from
    ]
    assert 0 < run.plan.judged_from < 9
    assert len(counted[0][0]) == 40
    assert any(len(np.unique(ids)) < 40 for ids, _ in counted)
    expected = shares_of(counted, 70)
    assert not np.isnan(expected).any()
    assert len(np.unique(expected)) > 2
    np.testing.assert_allclose(quality(run.trainer), expected, rtol=1e-6)


class _Judge:
    """As much of a Trainer as the counting of weights needs, with 8 samples, all helpful."""

    queue, weights = None, ()

    def __init__(self):
        self.weight_counts = WeightCounts(8)

    def step(self, batch, _):
        self.weight_counts.record(batch, tf.ones(4))
        return {"loss/net": tf.constant(1.0)}, {}


def test_a_run_that_is_resumed_for_fewer_steps_judges_by_those_that_are_left():
    def go_on(judge, done, last):
        batches = iter(np.arange(8).reshape(2, 4)[np.arange(done, last) % 2])
        plan = Plan(2, last, lambda _: 0.1, ())
        for _ in train(judge, batches, plan, dict, done=done, queue_order=np.arange(8)):
            pass
        return judge.weight_counts.drawn.numpy().tolist()

    assert go_on(_Judge(), 0, 18) == [3.0] * 8  # of the last six steps
    judge = _Judge()
    assert go_on(judge, 0, 8) == [3.0] * 8
    assert go_on(judge, 8, 9) == [4.0] * 4 + [3.0] * 4  # inside the last part: counted on
    judge = _Judge()
    go_on(judge, 0, 10)
    judge.weight_counts = WeightCounts(8)  # as of a longer plan, which had not come to its end
    assert go_on(judge, 10, 14) == [2.0] * 8


# ---- the verdict


def test_a_low_quality_is_an_issue_where_another_label_is_predicted():
    probs = np.array([[0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.9, 0.1]], np.float32)
    labels = np.array([0, 0, 0, 1])
    found = verdict(probs, labels, np.array([0.25, 0.0, 0.75, 0.5], np.float32))
    assert found.predicted.tolist() == [0, 1, 1, 0]
    assert found.self_confidence.tolist() == pytest.approx([0.6, 0.3, 0.2, 0.1])
    assert found.quality.tolist() == [0.25, 0, 0.75, 0.5]
    # The first is predicted as it is given; the others are not, and the second has low quality.
    assert found.is_issue.tolist() == [False, True, False, False]
    alone = verdict(probs, labels, None)
    assert alone.quality.tolist() == alone.self_confidence.tolist()
    assert alone.is_issue.tolist() == [False, True, True, True]


# ---- real runs


@pytest.mark.parametrize("method", METHODS)
def test_every_label_gets_the_verdict_of_the_method(trained, method):
    folder, done = trained[method]
    noise, table = noise_file.read(folder / "noise.npz"), table_of(folder)
    assert list(table[0]) == [*COLUMNS, "clean_label"]
    order = np.argsort(noise.indices)
    rows_ = np.arange(200)
    index, given = noise.indices[order], noise.noisy_labels[order]
    assert column(folder, "index", int).tolist() == index.tolist()
    assert column(folder, "given_label", int).tolist() == given.tolist()
    assert column(folder, "clean_label", int).tolist() == noise.clean_labels[order].tolist()
    names = datasets.load("digits").class_names
    assert {row["given_name"] for row in table} == set(names)
    assert {row["file"] for row in table} == {""}

    probs = digits_seen(folder)[0][index]
    confidence = column(folder, "self_confidence")
    np.testing.assert_allclose(confidence, probs[rows_, given], atol=2e-5)
    predicted = column(folder, "predicted_label", int)
    assert predicted.tolist() == probs.argmax(axis=1).tolist()

    checkpoint = tf.train.load_checkpoint(str(folder / f"checkpoint.ckpt-{STEPS}"))
    if method == "supervised":
        expected = confidence
        issue = predicted != given
    else:
        if method == "fsr":
            with np.load(folder / "queue_info.npz") as queue:
                rates = queue["ds_rates"]
            expected = (1 / (1 + np.exp(rates - rates.mean())))[order]
        else:
            drawn, weighted = (
                checkpoint.get_tensor(f"weight_counts/{name}/.ATTRIBUTES/VARIABLE_VALUE")[order]
                for name in ("drawn", "weighted")
            )
            assert drawn.min() >= 1
            expected = weighted / drawn
        issue = (expected < 0.5) & (predicted != given)
    np.testing.assert_allclose(column(folder, "label_quality"), expected, atol=1e-5)
    said = np.array([row["is_label_issue"] == "True" for row in table])
    assert said.tolist() == issue.tolist()
    assert f"label_quality.csv: {issue.sum()} of 200 labels look wrong" in done.stdout

    better = noise_file.read(folder / CORRECTED)
    by_row = dict(zip(better.indices.tolist(), better.noisy_labels.tolist()))
    assert [by_row[row] for row in index.tolist()] == np.where(issue, predicted, given).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_an_export_is_what_the_run_left(trained, copy_of, main, capsys, method):
    folder = copy_of(method)
    names = (TABLE, CORRECTED)
    written = [(folder / name).read_bytes() for name in names]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name not in names}
    for name in names:
        (folder / name).unlink()
    assert main("--export", folder) == 0
    assert [(folder / name).read_bytes() for name in names] == written
    assert "label_quality.csv: " in capsys.readouterr().out
    for path, time in before.items():
        assert path.stat().st_mtime_ns == time, path

    (folder / TABLE).write_text("of another run\n")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    flags = [*TINY, f"--method={method}", f"--max_iteration={config['max_iteration']}"]
    assert main(*flags, f"--output_dir={folder}") == 0  # the same command again
    assert (folder / TABLE).read_bytes() == written[0]


@pytest.mark.training
def test_probabilities_are_in_the_order_of_the_data(main, tmp_path):
    flags = [*TINY, "--method=supervised", "--max_iteration=3", "--output_dir=run", "--nouse_ema"]
    assert main(*flags, "--save_probs") == 0
    folder = tmp_path / "run"
    noise = noise_file.read(folder / "noise.npz")
    of_train, of_test = digits_seen(folder, averages=False)
    with np.load(folder / PROBS, allow_pickle=False) as kept:
        index, probs, tested = kept["index"], kept["pred_probs"], kept["test_pred_probs"]
        assert not kept["out_of_sample"]
        assert (
            kept["given_labels"].tolist() == noise.noisy_labels[np.argsort(noise.indices)].tolist()
        )
    assert index.tolist() == sorted(noise.indices)
    np.testing.assert_allclose(probs, of_train[index], atol=1e-5)
    assert tested.shape == (50, 10)
    which = [int(np.abs(of_test - row).sum(axis=1).argmin()) for row in tested]
    np.testing.assert_allclose(tested, of_test[which], atol=1e-5)
    assert which == sorted(set(which))
    agree = tested.argmax(axis=1) == datasets.load("digits").test_labels[which]
    assert 100 * agree.mean() == pytest.approx(rows(folder)[-1]["accuracy"])
    written = (folder / PROBS).read_bytes()
    (folder / PROBS).unlink()
    assert main("--export", folder) == 0
    assert (folder / PROBS).read_bytes() == written
    (folder / PROBS).write_bytes(b"of an earlier state")
    assert main(*flags) == 0  # the same command without --save_probs
    assert (folder / PROBS).read_bytes() == written


def test_an_export_of_what_is_no_finished_run_is_refused(trained, copy_of, main, tmp_path, capsys):
    folder = copy_of("supervised")
    for flags, message in (
        ([folder, "--seed=3"], "leave out all other flags but --save_probs"),
        ([folder, f"--output_dir={tmp_path}"], "leave out all other flags"),
        ([tmp_path], f"--export {tmp_path} has no config.yaml"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main("--export", *flags)
        assert message in capsys.readouterr().err

    for project, settings in (
        ("re_sln", "dataset_name: digits\nsigma: 1.0\nmo: true\nlc_n_epoch: 10\n"),
        ("", "alpha: 4\n"),
    ):
        (tmp_path / "theirs").mkdir(exist_ok=True)
        (tmp_path / "theirs" / "config.yaml").write_text(settings)
        with pytest.raises(SystemExit, match="2"):
            main("--export", tmp_path / "theirs")
        error = capsys.readouterr().err
        assert f"--export {tmp_path / 'theirs'}: " in error
        assert (f"a run of {project} (SLN+MO+LC)" if project else "of this program") in error

    shutil.copytree(folder, tmp_path / "other")
    config = (tmp_path / "other" / "config.yaml").read_text()
    (tmp_path / "other" / "config.yaml").write_text(
        config.replace(f"dataset: {TINY[0].partition('=')[2]}", "dataset: digits_uniform_0.2")
    )
    assert main("--export", tmp_path / "other") == 2
    error = capsys.readouterr().err
    assert "Put the data that it was trained on back" in error
    assert "--output_dir" not in error

    for file in folder.glob("checkpoint*"):
        file.unlink()
    assert main("--export", folder) == 2
    assert "has no checkpoint to export: train it first" in capsys.readouterr().err


def test_an_export_of_a_run_that_is_not_at_its_end_says_so(trained, copy_of, main, capsys):
    folder = copy_of("l2r")
    for file in folder.glob(f"checkpoint.ckpt-{STEPS}*"):
        file.unlink()
    assert main("--export", folder) == 0
    assert f"note: iteration 20 of {STEPS} is done" in capsys.readouterr().out


def test_an_export_takes_where_the_data_are_now(trained, copy_of, main, tmp_path, capsys):
    folder = copy_of("supervised")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"dataset": "cifar10", "dataset_dir": str(folder)}
    (folder / "config.yaml").write_text(json.dumps(config))
    assert main("--export", folder, f"--dataset_dir={tmp_path / 'moved'}") == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'moved'}" in error
    assert "--dataset_dir" in error
