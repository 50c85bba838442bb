"""Pixels: what each view does to them, from arrays and from files."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ieg.input.batches import evaluation_batches
from ieg.input.image_sources import ArraySource, FileSource
from shared import datasets


def array_source(view, count=6):
    images = np.random.default_rng(0).integers(0, 256, (count + 4, 32, 32, 3), dtype=np.uint8)
    rows = np.arange(count + 3, 3, -1)
    return images[rows], ArraySource(images, np.arange(count) % 3, view=view, rows=rows)


def ids(*values):
    return tf.constant(values, tf.int64)


SEED = tf.constant([1, 2], tf.int32)


@pytest.mark.parametrize(
    ("view", "low", "high"), [("cifar", -1, 1), ("digits", -1, 1), ("long_tail", -1, 127 / 128)]
)
def test_plain_images_are_scaled_rows_of_the_array(view, low, high):
    pixels, source = array_source(view)
    plain = source.plain(ids(5, 0, 0)).numpy()
    expected = (
        pixels[[5, 0, 0]] / 128 - 1 if view == "long_tail" else (pixels[[5, 0, 0]] / 255 - 0.5) * 2
    )
    np.testing.assert_allclose(plain, expected, atol=1e-6)
    assert plain.dtype == np.float32
    assert low <= plain.min() <= plain.max() <= high


@pytest.mark.parametrize("view", ["cifar", "long_tail", "digits"])
def test_bytes_survive_scaling_there_and_back(view):
    _, source = array_source(view)
    values = tf.constant(np.arange(256, dtype=np.uint8))
    np.testing.assert_array_equal(source.unscale(source.scale(values)), values)


@pytest.mark.parametrize(("view", "padding"), [("cifar", 2), ("long_tail", 4)])
def test_a_weak_view_is_a_crop_of_the_padded_image_or_its_mirror(view, padding):
    pixels, source = array_source(view)
    padded = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    offsets, mirrors = set(), set()
    for seed in range(30):
        shown = source.unscale(
            source.weak(tf.range(6, dtype=tf.int64), tf.constant([seed, 0]))
        ).numpy()
        for image, big in zip(shown, padded):
            found = [
                (top, left, mirrored)
                for top in range(2 * padding + 1)
                for left in range(2 * padding + 1)
                for mirrored in (1, -1)
                if np.array_equal(image, big[top : top + 32, left : left + 32][:, ::mirrored])
            ]
            assert len(found) == 1
            offsets |= set(found[0][:2])
            mirrors.add(found[0][2])
    assert offsets == set(range(2 * padding + 1))
    assert mirrors == {1, -1}


def test_digits_are_neither_moved_nor_mirrored():
    _, source = array_source("digits")
    np.testing.assert_array_equal(source.weak(ids(2, 4), SEED), source.plain(ids(2, 4)))


@pytest.mark.parametrize("aug_type", ["autoaug", "randaug"])
def test_strongly_augmented_digits_stay_digits(aug_type):
    """Each is more like some digit than like the mirror image or the negative of its own."""
    data = datasets.load("digits", None)
    shown = [2, 4, 7, 9]  # far from their mirror images
    rows = np.concatenate([np.flatnonzero(data.train_labels == label)[:20] for label in shown])
    source = ArraySource(data.train_images, data.train_labels, view="digits")
    digits = np.stack(
        [
            data.train_images[data.train_labels == label, ..., 0].mean(0) / 127.5 - 1
            for label in range(10)
        ]
    )
    others = np.concatenate([digits[shown][:, :, ::-1], -digits[shown]])
    weak, alike = source.plain(ids(*rows)), []
    for seed in range(2):
        strong = source.strong(ids(*rows), weak, tf.constant([seed, 3]), aug_type)[..., 0].numpy()
        to_digits, to_others = (
            np.max([best_match(strong, template) for template in group], axis=0)
            for group in (digits, others)
        )
        alike.append(to_digits > to_others)
    assert np.mean(alike) > 0.9


def best_match(images, template):
    """(B,) the highest correlation of each image (B, H, W) with the template moved by up to 4."""
    best = np.full(len(images), -1.0)
    for top in (-3, 0, 3):
        for left in (-3, 0, 3):
            moved = np.roll(template, (top, left), (0, 1))[4:-4, 4:-4].ravel()
            inner = images[:, 4:-4, 4:-4].reshape(len(images), -1)
            inner = inner - inner.mean(axis=1, keepdims=True)
            moved = moved - moved.mean()
            norms = np.linalg.norm(inner, axis=1) * np.linalg.norm(moved) + 1e-9
            best = np.maximum(best, inner @ moved / norms)
    return best


def test_strong_views_start_from_the_weak_one_and_default_is_another_weak_one():
    _, source = array_source("cifar")
    rows = ids(0, 1, 2, 3)
    weak = source.weak(rows, SEED)
    for aug_type in ("autoaug", "randaug", "default"):
        strong = source.strong(rows, weak, SEED + 1, aug_type)
        assert strong.shape == weak.shape
        assert not np.array_equal(strong, weak)
        np.testing.assert_array_equal(strong, source.strong(rows, weak, SEED + 1, aug_type))
    np.testing.assert_array_equal(source.strong(rows, weak, SEED, "default"), weak)
    grey = source.strong(rows, tf.zeros_like(weak), SEED, "autoaug").numpy()
    assert len(np.unique(grey)) < 40  # the weak view given, not the pixels of the array


# ---- files


@pytest.fixture
def files(tmp_path):
    """A JPEG, a PNG and a grey PNG of one colour each, in several shapes."""
    colours = {"a.jpg": (250, 10, 10), "b.png": (10, 250, 10), "c.png": 128}
    for (name, colour), size in zip(colours.items(), [(300, 260), (120, 340), (230, 230)]):
        Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(tmp_path / name)
    return [str(tmp_path / name) for name in colours]


COLOURS = np.array([(250, 10, 10), (10, 250, 10), (128, 128, 128)]) / 127.5 - 1


@pytest.mark.parametrize("encoded", [False, True])
def test_files_and_their_contents_are_decoded_alike(files, encoded):
    items = [Path(file).read_bytes() for file in files] if encoded else files
    source = FileSource(items, np.arange(3), encoded=encoded)
    plain = source.plain(ids(2, 0, 1)).numpy()
    assert plain.shape == (3, 224, 224, 3)
    assert plain.dtype == np.float32
    np.testing.assert_allclose(plain.mean(axis=(1, 2)), COLOURS[[2, 0, 1]], atol=0.03)


@pytest.mark.training  # compiles for seconds
def test_weak_views_of_files_are_crops_with_a_seed(files):
    source = FileSource(files, np.arange(3))
    weak = source.weak(ids(0, 1, 2), SEED)
    np.testing.assert_allclose(weak.numpy().mean(axis=(1, 2)), COLOURS, atol=0.03)
    np.testing.assert_array_equal(weak, source.weak(ids(0, 1, 2), SEED))
    assert -1 <= weak.numpy().min() <= weak.numpy().max() <= 1
    two = source.strong(ids(0, 1), weak[:2], SEED, "autoaug")
    assert two.shape == (2, 224, 224, 3)
    assert -1 <= two.numpy().min() <= two.numpy().max() <= 1
    np.testing.assert_array_equal(
        source.strong(ids(0, 1), weak[:2], SEED, "default"), source.weak(ids(0, 1), SEED)
    )


def test_two_images_of_a_batch_have_crops_of_their_own(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (260, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    source = FileSource([str(tmp_path / "noise.png")], np.zeros(1, np.int64))
    one, two = source.weak(ids(0, 0), SEED).numpy()
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, source.weak(ids(0, 0), SEED + 1)[0])


@pytest.mark.parametrize("content", ["", "<html>404</html>"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "page.jpg").write_text(content)
    source = FileSource([str(tmp_path / "page.jpg")], np.zeros(1, np.int64))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"page\.jpg"):
        list(evaluation_batches(source, 1))
