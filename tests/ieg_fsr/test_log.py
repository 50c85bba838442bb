"""The log of a run: figures of a row, a resumed log, losses that are not finite."""

import json

import numpy as np
import pytest
import tensorflow as tf

from ieg.method import train
from ieg.method.train import NonFiniteLossError, Progress
from ieg.run.checkpoint import Record
from ieg.run.log import Log
from ieg.run.report import summary

EVALUATED = {"val": {"accuracy": 50.0, "accuracy_top5": 90.0, "loss": 1.5, "count": 8.0}}
MORE = {"seconds": 1.0, "images_per_s": 20.0}


def log_in(folder, record=None, method="l2r", truth_known=True):
    return Log(
        folder,
        record or Record({}, []),
        method=method,
        iter_epoch=4,
        uniform=0.25,
        num_classes=3,
        truth_known=truth_known,
        finer=True,
        copy_evaluation=True,
    )


def metrics(loss, **more):
    """One step as the trainer gives it; of four samples one is noisy."""
    values = {
        "loss/net": loss,
        "acc/train": 0.5,
        "sum/clean": 3.0,
        "sum/noisy": 1.0,
        "sum/clean_weight": 0.9,
        "sum/noisy_weight": 0.05,
        "sum/used": 3.0,
        "sum/used_clean": 2.0,
        "weights/zeroratio": 0.25,
        **more,
    }
    return {name: tf.constant(value) for name, value in values.items()}


def progress(*steps, evaluations=None):
    """(iteration, metrics), the last one evaluated or not; samples may follow the metrics."""
    unread = [(number, 0.05, figures, *(samples or [{}])) for number, figures, *samples in steps]
    return Progress(train.read(unread), False, evaluations, {})


def test_a_row_has_the_means_since_the_last_evaluation_and_weights_in_units_of_the_uniform_weight(
    tmp_path,
):
    log = log_in(tmp_path)
    one, two, three = (metrics(x, **{"loss/meta": 2 * x}) for x in (1.0, 2.0, 6.0))
    assert log.write(progress((1, one))) is None
    row = log.write(progress((2, two), (3, three), evaluations=EVALUATED), **MORE)
    assert (row["loss"], row["loss_meta"], row["accuracy_train"]) == pytest.approx((3.0, 6.0, 50.0))
    assert (row["epoch"], row["learning_rate"], row["accuracy"], row["loss_eval"]) == (
        0.75,
        0.05,
        50.0,
        1.5,
    )
    # Clean: 0.9 over 3 samples is 0.3 each, 1.2 times the uniform 0.25; noisy: 0.05 each; two of
    # three used are clean.
    assert (row["weight_clean"], row["weight_noisy"]) == pytest.approx((1.2, 0.2))
    assert (row["weights_purity"], row["zero_weights"]) == pytest.approx((2 / 3, 0.25))
    assert not {"loss_pseudo", "loss_mixup", "count", "accuracy_ema"} & set(row)
    row = log.write(progress((4, metrics(5.0)), evaluations=EVALUATED), **MORE)
    assert row["loss"] == 5.0  # the three before are forgotten
    log.close()
    assert [
        json.loads(line)["iteration"]
        for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ] == [3, 4]


def test_without_noisy_samples_their_weight_is_not_known(tmp_path):
    log = log_in(tmp_path)
    figures = metrics(1.0, **{"sum/noisy": 0.0, "sum/used": 0.0})
    row = log.write(progress((1, figures), evaluations=EVALUATED), **MORE)
    log.close()
    assert row["weight_noisy"] is None
    assert row["weights_purity"] is None
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["weight_noisy"] is None


def test_the_second_evaluation_set_is_imagenet(tmp_path):
    second = {
        "accuracy": 40.0,
        "accuracy_top5": 80.0,
        "loss": 2.5,
        "count": 4.0,
        "accuracy_ema": 45.0,
        "accuracy_top5_ema": 85.0,
    }
    log = log_in(tmp_path)
    both = {**EVALUATED, "test": second}
    row = log.write(progress((1, metrics(1.0)), evaluations=both), **MORE)
    log.close()
    assert (row["accuracy"], row["imagenet_accuracy"], row["imagenet_accuracy_ema"]) == (
        50.0,
        40.0,
        45.0,
    )
    assert row["imagenet_loss_eval"] == 2.5


def test_starting_again_rewrites_the_rows_that_the_checkpoint_knows(tmp_path):
    known = [{"iteration": 1, "loss": 2.0}]
    (tmp_path / "metrics.jsonl").write_text(
        '{"iteration": 1, "loss": 2.0}\n{"iteration": 4, "loss": 1.0}\n{"itera'
    )
    log = log_in(tmp_path, Record({}, known))
    row = log.write(progress((4, metrics(1.0)), evaluations=EVALUATED), **MORE)
    log.close()
    # The caller's list, which the next checkpoint saves.
    assert known == [
        {"iteration": 1, "loss": 2.0},
        row,
    ]
    assert [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ] == known


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_named_with_its_step(bad):
    metas = [(i, metrics(1.0, **{"loss/meta": bad if i >= 7 else 1.0})) for i in range(2, 11)]
    with pytest.raises(NonFiniteLossError, match=f"iteration 7: loss/meta {bad}"):
        progress(*metas)


def test_an_evaluation_that_is_not_finite_is_refused():
    assert train.finite(1, EVALUATED) == EVALUATED
    with pytest.raises(NonFiniteLossError, match=r"iteration 1, evaluation \(val\): loss nan"):
        train.finite(1, {"val": {**EVALUATED["val"], "loss": np.nan}})


def test_class_weights_follow_their_classes(tmp_path):
    record = Record({}, [])
    log = log_in(tmp_path, record, method="fsr")
    samples = {
        "weights": tf.constant([0.5, 0.1, 0.3]),
        "labels": tf.constant([0, 2, 0]),
        "meta_gradients": tf.zeros(3),
    }
    log.write(progress((1, metrics(1.0), samples)))
    log.close()
    expected = [0.9 * 0.25 + 0.1 * 0.4, 0.25, 0.9 * 0.25 + 0.1 * 0.1]
    assert record.class_weights == pytest.approx(expected)  # a checkpoint keeps them


def test_where_nobody_knows_which_labels_are_wrong_no_figure_says_so(tmp_path):
    log = log_in(tmp_path, truth_known=False)
    row = log.write(progress((1, metrics(1.0)), evaluations=EVALUATED), **MORE)
    log.close()
    assert not {"weight_clean", "weight_noisy", "weights_purity"} & set(row)
    assert row["zero_weights"] == 0.25


def test_summary():
    rows = [
        {"iteration": i, "accuracy": float(a)}
        for i, a in enumerate([90, 1, 2, 3, 4, 5, 90, 7, 8, 9, 10, 11])
    ]
    found = summary(rows, "accuracy")
    assert found == {"last": 11.0, "last_10_mean": 14.9, "best": 90.0, "best_iteration": 0}
