"""Weak views, scaling, and ImageNet's views of files, against slow literal references."""

import numpy as np
import pytest
import tensorflow as tf

from ieg.augment import views


def seed(number):
    return tf.constant([number, 5])


def images(count=4, height=6, width=8):
    return np.random.default_rng(0).integers(1, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("padding", [2, 4])
def test_a_weak_view_is_one_of_the_crops_of_the_padded_image_or_its_mirror(padding):
    pixels = images()
    padded = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    offsets = range(2 * padding + 1)
    seen = set()
    for number in range(60):
        for index, view in enumerate(
            views.weak(tf.constant(pixels), seed(number), padding=padding).numpy()
        ):
            found = [
                (top, left, mirrored)
                for top in offsets
                for left in offsets
                for mirrored in (False, True)
                if (
                    view
                    == padded[index, top : top + 6, left : left + 8][:, :: -1 if mirrored else 1]
                ).all()
            ]
            assert len(found) == 1
            seen.add((index, *found[0]))
    for index in range(4):  # each image has draws of its own
        assert {top for i, top, _, _ in seen if i == index} == set(offsets)
        assert {left for i, _, left, _ in seen if i == index} == set(offsets)
        assert {mirrored for i, _, _, mirrored in seen if i == index} == {False, True}


def test_a_weak_view_follows_from_its_seed_in_a_pipeline():
    pixels = images(10)
    data = tf.data.Dataset.from_tensors(pixels).map(
        lambda rows: views.weak(rows, seed(1), padding=2)
    )
    assert data.element_spec == tf.TensorSpec((10, 6, 8, 3), tf.uint8)
    (first,), (second,) = data, data
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, views.weak(tf.constant(pixels), seed(1), padding=2))
    assert (first.numpy() != views.weak(tf.constant(pixels), seed(2), padding=2).numpy()).any()


def test_without_padding_and_mirror_nothing_changes():
    np.testing.assert_array_equal(
        views.weak(tf.constant(images()), seed(0), padding=0, flip=False), images()
    )


def test_bytes_survive_scaling_and_back_and_every_compiler_gives_the_same_bits():
    values = np.arange(256, dtype=np.uint8)
    floats = values.astype(np.float32)
    expected = {
        "cifar": (floats / np.float32(255) - np.float32(0.5)) * 2,
        "long_tail": floats / 128 - 1,
    }
    for view, numbers in expected.items():
        for options in ({"reduce_retracing": True}, {"jit_compile": True}):
            scaled = tf.function(lambda x, view=view: views.scale(x, view), **options)(
                tf.constant(values)
            )
            np.testing.assert_array_equal(scaled, numbers)
        scaled = views.scale(tf.constant(values), view)
        np.testing.assert_array_equal(scaled, numbers)
        assert np.abs(scaled).max() <= 1
        np.testing.assert_array_equal(views.unscale(scaled, view), values)
        np.testing.assert_array_equal(views.scale(tf.constant(floats), view), numbers)


def test_an_unknown_scale_is_refused():
    for function in (views.scale, views.unscale):
        with pytest.raises(ValueError, match='"cifar" or "long_tail"'):
            function(tf.zeros(3), "imagenet")


def photo(height=40, width=60):
    """A smooth picture, which JPEG keeps well: red grows to the right, green downwards.

    (height, width, 3) uint8.
    """
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [255 * x / (width - 1), 255 * y / (height - 1), np.full_like(x, 90.0)], 2
    ).astype(np.uint8)


def literal_resize(image, side):
    """Bilinear between the four pixels around (i h / side, j w / side), without smoothing."""
    height, width, _ = image.shape
    out = np.zeros((side, side, 3))
    for i, j in np.ndindex(side, side):
        y, x = i * height / side, j * width / side
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
        lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
        out[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return out


@pytest.mark.parametrize("shape", [(40, 60), (61, 33)])
@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
def test_the_evaluated_view_is_the_centre_encoded_once_more_and_resized(shape, encode):
    encoded = encode(photo(*shape))
    pixels = tf.io.decode_jpeg(tf.io.encode_jpeg(tf.io.decode_image(encoded))).numpy()
    side = int(0.875 * min(shape))
    top, left = (shape[0] - side + 1) // 2, (shape[1] - side + 1) // 2
    expected = literal_resize(pixels[top : top + side, left : left + side].astype(float), 16)
    view = views.eval_view(encoded, side=16).numpy()
    # decoding a window may colour its outermost pixels a little differently
    np.testing.assert_allclose(view[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-2)
    np.testing.assert_allclose(view, expected, atol=6)


def test_a_train_view_is_a_box_of_the_picture_sometimes_mirrored():
    encoded = tf.io.encode_png(photo(80, 80))
    view_of = tf.function(lambda seed: views.train_view(encoded, seed, side=24))
    areas, aspects, mirrors = [], [], []
    for number in range(150):
        view = view_of(seed(number)).numpy()
        assert view.shape == (24, 24, 3)
        assert view.min() >= 0
        assert view.max() <= 255
        # the colours tell where the box lay: 23 of 24 parts of it lie between the first and the
        # last row
        width = np.median(view[:, -2, 0] - view[:, 1, 0]) / 255 * 24 / 21
        height = np.median(view[-2, :, 1] - view[1, :, 1]) / 255 * 24 / 21
        areas.append(abs(width * height))
        aspects.append(abs(width / height))
        mirrors.append(width < 0)
        assert height > 0
    assert min(areas) > 0.07
    assert max(areas) > 0.8
    assert 0.7 < min(aspects) < 0.85
    assert 1.2 < max(aspects) < 1.42
    assert 0.35 < np.mean(mirrors) < 0.65


def test_a_train_view_follows_from_its_seed_and_batches():
    encoded = tf.io.encode_png(photo())
    data = tf.data.Dataset.range(4).map(
        lambda i: views.train_view(encoded, tf.stack([tf.cast(i, tf.int32) % 2, 1]), 8)
    )
    assert data.element_spec == tf.TensorSpec((8, 8, 3), tf.float32)
    first, second, third, fourth = data.as_numpy_iterator()
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(second, fourth)
    assert (first != second).any()


def test_where_no_box_fits_the_centre_is_taken():
    encoded = tf.io.encode_png(photo(4, 60))  # so flat that no box of 8 % has an aspect near 1
    centre = views.eval_view(encoded, side=8).numpy()
    for number in range(6):
        view = views.train_view(encoded, seed(number), side=8).numpy()
        assert (view == centre).all() or (view == centre[:, ::-1]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (300, 2)])
def test_the_smallest_pictures_have_views(shape):
    encoded = tf.io.encode_png(photo(*[max(side, 2) for side in shape])[: shape[0], : shape[1]])
    assert (
        views.eval_view(encoded, side=8).shape
        == views.train_view(encoded, seed(0), side=8).shape
        == (8, 8, 3)
    )


def test_a_grey_file_becomes_rgb():
    encoded = tf.io.encode_jpeg(photo()[..., :1])
    view = views.eval_view(encoded, side=8).numpy()
    assert np.ptp(view, axis=2).max() <= 2
