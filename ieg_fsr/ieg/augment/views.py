"""Weak augmentation: shifted and mirrored CIFAR, cropped and resized ImageNet.

Everything here is TensorFlow, can be called in a tf.data map, and draws from a seed (2,) int32
alone: the same seed gives the same image. Shapes: B batch, H W pixels.
"""

import tensorflow as tf

SIDE = 224  # of an ImageNet view
CENTRE = 224 / 256  # the side of the evaluated centre, as a share of the image's shorter side
BOX_AREA = (0.08, 1.0)
BOX_ASPECT = (3 / 4, 4 / 3)
BOX_COVERED = 0.1  # the default: an attempt that holds less than a tenth of the image has failed
BOX_ATTEMPTS = 10


def weak(images: tf.Tensor, seed: tf.Tensor, *, padding: int, flip: bool = True) -> tf.Tensor:
    """Each image shifted by up to `padding` pixels, and mirrored with probability 1/2.

    Where nothing was it is black, zeros. images: (B, H, W, 3) uint8, returned likewise; H and W
    known. CIFAR pads 2 pixels, the long-tailed sets 4.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    shift_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    offset = tf.random.stateless_uniform([2, count, 1], shift_seed, 0, 2 * padding + 1, tf.int32)
    rows, columns = offset[0] + tf.range(height), tf.tile(tf.range(width)[None], [count, 1])
    if flip:
        mirrored = tf.random.stateless_uniform([count, 1], flip_seed) < 0.5
        columns = tf.where(mirrored, width - 1 - columns, columns)
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    # the mirror is in the order of the columns, so that crop and mirror are one gather each way
    views = tf.gather(
        tf.gather(padded, rows, batch_dims=1), offset[1] + columns, axis=2, batch_dims=1
    )
    return tf.ensure_shape(views, images.shape)


def scale(images: tf.Tensor, view: str) -> tf.Tensor:
    """Pixels 0..255 to float32: (v/255 - 0.5) 2 for "cifar", v/128 - 1 for "long_tail"."""
    if _checked(view) == "long_tail":
        return tf.cast(images, tf.float32) / 128 - 1
    # Not a float32 `/`: graph optimiser and XLA turn a division by a constant into a product with
    # the rounded reciprocal, which changes last bits, and the strong view truncates to bytes: a
    # view would depend on where it is computed. The product in float64, rounded once, is the
    # float32 quotient.
    share = tf.cast(tf.cast(images, tf.float64) * (1 / 255), tf.float32)
    return (share - 0.5) * 2


def unscale(images: tf.Tensor, view: str) -> tf.Tensor:
    """The inverse of `scale`, rounded to uint8; bytes survive there and back."""
    pixels = (images + 1) * 128 if _checked(view) == "long_tail" else (images / 2 + 0.5) * 255
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)


def _checked(view: str) -> str:
    if view not in ("cifar", "long_tail"):
        raise ValueError(f'view is "cifar" or "long_tail", not {view!r}')
    return view


def reencode(encoded: tf.Tensor) -> tf.Tensor:
    """A JPEG or PNG file's bytes as the bytes of an RGB JPEG of TensorFlow's default quality 95.

    The original decodes and encodes once more before it crops; the loss is part of its pixels.
    """
    return tf.io.encode_jpeg(tf.io.decode_image(encoded, channels=3, expand_animations=False))


def train_view(encoded: tf.Tensor, seed: tf.Tensor, side: int = SIDE) -> tf.Tensor:
    """A random box of an image file, resized, and mirrored with probability 1/2.

    Returns (side, side, 3) float32 in [0, 255]. The box covers 8 % to all of the image at an aspect
    between 3:4 and 4:3. If none of 10 attempts fits, the box is the whole image, and the centre
    crop of `eval_view` takes its place.
    """
    jpeg = reencode(encoded)
    shape = tf.image.extract_jpeg_shape(jpeg)
    box_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        box_seed,
        min_object_covered=BOX_COVERED,
        aspect_ratio_range=BOX_ASPECT,
        area_range=BOX_AREA,
        max_attempts=BOX_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    found = tf.reduce_any(size[:2] != shape[:2])
    window = tf.where(found, tf.concat([begin[:2], size[:2]], 0), centre_window(shape))
    image = _resize(tf.io.decode_and_crop_jpeg(jpeg, window, channels=3), side)
    mirrored = tf.random.stateless_uniform([], flip_seed) < 0.5
    return tf.clip_by_value(tf.where(mirrored, image[:, ::-1], image), 0, 255)


def eval_view(encoded: tf.Tensor, side: int = SIDE) -> tf.Tensor:
    """The centre of an image file, resized: (side, side, 3) float32 in [0, 255]."""
    jpeg = reencode(encoded)
    window = centre_window(tf.image.extract_jpeg_shape(jpeg))
    return tf.clip_by_value(
        _resize(tf.io.decode_and_crop_jpeg(jpeg, window, channels=3), side), 0, 255
    )


def centre_window(shape: tf.Tensor) -> tf.Tensor:
    """(top, left, height, width) of the square of 224/256 of the shorter side in the middle.

    shape: (height, width, ...).
    """
    side = tf.cast(CENTRE * tf.cast(tf.reduce_min(shape[:2]), tf.float32), tf.int32)
    side = tf.maximum(side, 1)  # of an image one pixel high
    corner = (shape[:2] - side + 1) // 2
    return tf.stack([corner[0], corner[1], side, side])


def _resize(image: tf.Tensor, side: int) -> tf.Tensor:
    """Bilinear as TensorFlow 1 did it: corners of pixels are aligned, shrinking smooths nothing."""
    resized = tf.raw_ops.ResizeBilinear(
        images=image[None], size=[side, side], half_pixel_centers=False
    )
    return tf.ensure_shape(resized[0], (side, side, 3))
