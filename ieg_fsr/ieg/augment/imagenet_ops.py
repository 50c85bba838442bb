"""AutoAugment's ImageNet policy v0 in TensorFlow: IEG's strong augmentation of WebVision.

These are the operations of AutoAugment's second code base, not those of `pil_ops`: Solarize counts
its threshold from 0, what a geometric operation uncovers is grey 128, and blends are computed in
floats and truncated. Every operation is `operation(image, level, negative) -> image`: (H, W, 3)
uint8 in and out, level 0-10; `negative`, a bool or a scalar tensor, turns Rotate, Shear and
Translate round, the others ignore it.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from ieg.augment import policies
from ieg.augment.views import SIDE, train_view

Operation = Callable[[tf.Tensor, int, bool | tf.Tensor], tf.Tensor]
MAX_LEVEL = 10
FILL = 128
# pixels at level 10, whatever the size of the image: TranslateY at 9 shows grey alone at 224
TRANSLATE = 250
CUTOUT_SIDE = 16
SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))  # Pillow's filter, over 13


def _amount(level: int, most: float) -> float:
    """The share level/10 of `most`, divided first as this code base does."""
    return level / MAX_LEVEL * most


def _signed(value: float, negative: bool | tf.Tensor) -> tf.Tensor:
    return tf.where(negative, -value, value)


def _project(image: tf.Tensor, matrix: list[float | tf.Tensor]) -> tf.Tensor:
    """Output pixel (x, y) shows the input pixel nearest to (ax + by + c, dx + ey + f), or FILL."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([tf.cast(value, tf.float32) for value in (*matrix, 0, 0)])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=tf.constant(FILL, tf.float32),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def rotate(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    """Counter-clockwise by 3 level degrees around the centre."""
    angle = _signed(math.radians(_amount(level, 30)), negative)
    cos, sin = tf.cos(angle), tf.sin(angle)
    height, width = (tf.cast(size - 1, tf.float32) for size in tf.unstack(tf.shape(image)[:2]))
    to_left = (width - (cos * width - sin * height)) / 2  # keeps the centre where it is
    to_top = (height - (sin * width + cos * height)) / 2
    return _project(image, [cos, -sin, to_left, sin, cos, to_top])


def shear_x(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    return _project(image, [1, _signed(_amount(level, 0.3), negative), 0, 0, 1, 0])


def shear_y(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    return _project(image, [1, 0, 0, _signed(_amount(level, 0.3), negative), 1, 0])


def translate_x(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    return _project(image, [1, 0, _signed(_amount(level, TRANSLATE), negative), 0, 1, 0])


def translate_y(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    return _project(image, [1, 0, 0, 0, 1, _signed(_amount(level, TRANSLATE), negative)])


def invert(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    return 255 - image


def posterize(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    """Keeps the int(0.4 level) highest bits, at least one: TensorFlow shifts by 7 at most."""
    shift = tf.constant(8 - int(_amount(level, 4)), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def solarize(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    """Inverts the values from int(25.6 level) on.

    At level 10 the threshold 256 counts as the byte 0, and everything is inverted: TensorFlow
    (2.21, measured) turns the 256 that a uint8 tensor is compared with into a uint8, and the
    operation as published compares so.
    """
    threshold = int(_amount(level, 256)) % 256
    return tf.where(image < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    """Adds int(11 level) to the values below 128."""
    added = tf.cast(tf.minimum(tf.cast(image, tf.int32) + int(_amount(level, 110)), 255), tf.uint8)
    return tf.where(image < 128, added, image)


def auto_contrast(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    """Each channel stretched to 0 ... 255; a channel of one value stays."""
    pixels = tf.cast(image, tf.float32)
    least, greatest = tf.reduce_min(pixels, [0, 1]), tf.reduce_max(pixels, [0, 1])
    factor = 255.0 / tf.maximum(greatest - least, 1)
    stretched = tf.clip_by_value(pixels * factor - least * factor, 0, 255)
    return tf.where(greatest > least, tf.cast(stretched, tf.uint8), image)


def equalize(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    """Each channel by Pillow's rule: byte v becomes (pixels below v + step // 2) // step."""
    return tf.stack([_equalize_channel(channel) for channel in tf.unstack(image, axis=2)], axis=2)


def _equalize_channel(channel: tf.Tensor) -> tf.Tensor:
    """channel: (H, W) uint8."""
    values = tf.cast(channel, tf.int32)
    histogram = tf.math.bincount(tf.reshape(values, [-1]), minlength=256)
    brightest = histogram[tf.reduce_max(values)]
    step = (tf.size(values) - brightest) // 255
    table = (tf.cumsum(histogram, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.minimum(table, 255)
    return tf.where(step == 0, channel, tf.gather(tf.cast(table, tf.uint8), values))


def blend(degenerate: tf.Tensor, image: tf.Tensor, factor: float) -> tf.Tensor:
    """degenerate + factor (image - degenerate), clipped and truncated.

    Both images uint8; factor >= 0.
    """
    if factor == 1:
        return image
    start = tf.cast(degenerate, tf.float32)
    mixed = start + factor * (tf.cast(image, tf.float32) - start)
    return tf.cast(tf.clip_by_value(mixed, 0, 255), tf.uint8)


def _factor(level: int) -> float:
    return _amount(level, 1.8) + 0.1


def color(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    return blend(tf.image.rgb_to_grayscale(image), image, _factor(level))


def contrast(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    """Blend with one grey, a constant of the image's size.

    The published code sums the histogram, not the grey values, so its "mean" is the number of
    pixels over 256 (196 at 224 x 224), whatever the image shows; the policy was learnt with it.
    """
    grey = tf.image.rgb_to_grayscale(image)
    mean = tf.minimum(tf.cast(tf.size(grey), tf.float32) / 256, 255)
    return blend(tf.fill(tf.shape(grey), tf.cast(mean, tf.uint8)), image, _factor(level))


def brightness(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    return blend(tf.zeros_like(image), image, _factor(level))


def sharpness(image: tf.Tensor, level: int, negative: bool | tf.Tensor) -> tf.Tensor:
    """Blend with the smoothed image, whose outermost pixels are those of the image."""
    kernel = tf.tile(tf.constant(SMOOTH, tf.float32)[:, :, None, None] / 13, [1, 1, 3, 1])
    pixels = tf.cast(image, tf.float32)[None]
    smooth = tf.nn.depthwise_conv2d(pixels, kernel, strides=[1, 1, 1, 1], padding="VALID")[0]
    inner = tf.cast(tf.clip_by_value(smooth, 0, 255), tf.uint8)
    inside = tf.pad(tf.ones_like(inner, tf.bool), [[1, 1], [1, 1], [0, 0]])
    return blend(
        tf.where(inside, tf.pad(inner, [[1, 1], [1, 1], [0, 0]]), image), image, _factor(level)
    )


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Posterize": posterize,
    "Solarize": solarize,
    "SolarizeAdd": solarize_add,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
}


def cutout(image: tf.Tensor, row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Zeros in a square of CUTOUT_SIDE around a pixel, as far as it is inside the image."""
    half = CUTOUT_SIDE // 2
    rows, columns = tf.range(tf.shape(image)[0]) - row, tf.range(tf.shape(image)[1]) - column
    in_rows, in_columns = (rows >= -half) & (rows < half), (columns >= -half) & (columns < half)
    hidden = (in_rows[:, None] & in_columns)[:, :, None]
    return tf.where(hidden, tf.constant(0, image.dtype), image)


def imagenet_policy(
    image: tf.Tensor, seed: tf.Tensor, policy: policies.Policy = policies.IMAGENET
) -> tf.Tensor:
    """One random sub-policy, then the black cutout.

    image: (H, W, 3) uint8, returned likewise; seed: (2,) int32.
    """
    which_seed, applied_seed, sign_seed, cutout_seed = tf.unstack(tf.random.split(seed, 4))
    which = tf.random.stateless_uniform([], which_seed, 0, len(policy), tf.int32)
    chance = tf.random.stateless_uniform([2], applied_seed)
    negative = tf.random.stateless_uniform([2], sign_seed) < 0.5

    def apply(pair: tuple[policies.Step, policies.Step]) -> tf.Tensor:
        result = image
        for place, (name, probability, level) in enumerate(pair):
            result = _maybe(
                OPERATIONS[name], result, level, negative[place], chance[place] < probability
            )
        return result

    result = tf.switch_case(which, [lambda pair=pair: apply(pair) for pair in policy])
    place = tf.random.stateless_uniform([2], cutout_seed) * tf.cast(tf.shape(image)[:2], tf.float32)
    row, column = tf.unstack(tf.cast(place, tf.int32))
    return tf.ensure_shape(cutout(result, row, column), image.shape)


def _maybe(
    operation: Operation, image: tf.Tensor, level: int, negative: tf.Tensor, applied: tf.Tensor
) -> tf.Tensor:
    return tf.cond(applied, lambda: operation(image, level, negative), lambda: image)


def strong_view(encoded: tf.Tensor, seed: tf.Tensor, side: int = SIDE) -> tf.Tensor:
    """A random box of an image file, as `train_view` takes it, under the ImageNet policy.

    (side, side, 3) float32 in [0, 255].
    """
    view_seed, policy_seed = tf.unstack(tf.random.split(seed, 2))
    view = tf.cast(train_view(encoded, view_seed, side), tf.uint8)
    return tf.cast(imagenet_policy(view, policy_seed), tf.float32)
