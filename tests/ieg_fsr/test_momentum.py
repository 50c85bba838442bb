"""TensorFlow 1's momentum rule and moving average, weight by weight in plain Python."""

import keras
import pytest
import tensorflow as tf

from ieg.method import trainer

RATES, GRADIENTS = [0.1, 0.1, 0.01, 0.5], [1.0, -0.5, 2.0, 0.25]


def ours(rates, gradients=GRADIENTS, momentum=0.9, accumulator=0.0):
    weight, accumulator, path = tf.Variable([2.0]), tf.Variable([accumulator]), []
    for rate, gradient in zip(rates, gradients):
        trainer.descend(weight, accumulator, tf.constant([gradient]), tf.constant(rate), momentum)
        path.append(float(weight[0]))
    return path


def keras_sgd(rates):
    weight, optimizer = keras.Variable([2.0]), keras.optimizers.SGD(0.1, momentum=0.9)
    path = []
    for rate, gradient in zip(rates, GRADIENTS):
        optimizer.learning_rate = rate
        optimizer.apply([tf.constant([gradient])], [weight])
        path.append(float(weight.numpy()[0]))
    return path


def test_the_rate_multiplies_the_accumulator_when_it_is_applied():
    weight, accumulator, expected = 2.0, 0.0, []
    for rate, gradient in zip(RATES, GRADIENTS):
        accumulator = 0.9 * accumulator + gradient
        weight -= rate * accumulator
        expected.append(weight)
    assert ours(RATES) == pytest.approx(expected, rel=1e-6)


def test_keras_sgd_agrees_while_the_rate_is_constant_and_not_when_it_changes():
    assert ours([0.1] * 4) == pytest.approx(keras_sgd([0.1] * 4), rel=1e-5)
    same, different = ours(RATES), keras_sgd(RATES)
    assert same[:2] == pytest.approx(different[:2], rel=1e-5)
    assert abs(same[2] - different[2]) > 0.01


def test_without_momentum_it_is_gradient_descent():
    path = ours([0.2, 0.2], [0.5, -1.0], momentum=0.0, accumulator=7.0)
    assert path == pytest.approx([1.9, 2.1], rel=1e-6)


def test_averages_follow_the_weights_more_slowly_with_every_step():
    average, expected = tf.Variable([1.0]), 1.0
    for step in [0, 1, 2, 3, 100, 8990, 8991, 100_000]:  # at 8990 the decay reaches its limit
        weight = float(step % 7)
        decay = min(0.999, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
        trainer.follow(average, tf.Variable([weight]), trainer.share_of(tf.constant(step)))
        assert float(average[0]) == pytest.approx(expected, rel=1e-5)
