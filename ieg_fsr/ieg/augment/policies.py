"""AutoAugment's policies (Cubuk et al., CVPR 2019), RandAugment, and IEG's strong augmentation.

A policy is a list of sub-policies; an image draws one of them, and applies each of its two
operations with a probability, at a level of 10 and with a random sign. ImageNet's policy is listed
here and acts in `imagenet_ops`. Strong augmentation starts from the weakly augmented image that
the network sees, not from the stored one.

Shapes: B batch, H W pixels.
"""

import re
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from ieg.augment import pil_ops

AUG_TYPES = ("autoaug", "randaug")
PADDING = 4
CUTOUT_SIDE = 16
RANDAUG_OPERATIONS = (
    "Identity",
    "AutoContrast",
    "Equalize",
    "Rotate",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "TranslateX",
    "TranslateY",
    "Posterize",
    "ShearY",
)
RANDAUG_DIGITS = (
    "Identity",
    "AutoContrast",
    "Rotate",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
)
RANDAUG_PROBABILITY = 0.5
RANDAUG_LEVELS = range(1, 10)

ABBREVIATIONS = {
    "Inv": "Invert",
    "Con": "Contrast",
    "Rot": "Rotate",
    "TrX": "TranslateX",
    "TrY": "TranslateY",
    "Sha": "Sharpness",
    "ShX": "ShearX",
    "ShY": "ShearY",
    "AuC": "AutoContrast",
    "Equ": "Equalize",
    "Sol": "Solarize",
    "SoA": "SolarizeAdd",
    "Col": "Color",
    "Pos": "Posterize",
    "Bri": "Brightness",
    "Cut": "Cutout",
}


class Step(NamedTuple):
    """One operation of a sub-policy."""

    operation: str
    probability: float  # in [0, 1]
    level: int  # of 10


Policy = tuple[tuple[Step, Step], ...]


def parse(text: str) -> Policy:
    """Sub-policies of two operations, each with probability/level, such as `Inv.1/7+Equ1/9`."""
    pairs = (pair.split("+") for pair in text.split())
    return tuple((_step(first), _step(second)) for first, second in pairs)


def _step(text: str) -> Step:
    match = re.fullmatch(r"([A-Z][a-zA-Z]{2})(\.\d|1)/(10|\d)", text)
    if match is None or match[1] not in ABBREVIATIONS:
        raise ValueError(
            f"{text!r} is no step of a policy; write it like Equ.8/4, with "
            f"{', '.join(ABBREVIATIONS)}"
        )
    return Step(ABBREVIATIONS[match[1]], float(match[2]), int(match[3]))


CIFAR = parse("""
    Inv.1/7+Con.2/6 Rot.7/2+TrX.3/9 Sha.8/1+Sha.9/3 ShY.5/8+TrY.7/9 AuC.5/8+Equ.9/2
    Sol.4/5+AuC.9/3 TrY.9/9+TrY.7/9 AuC.9/2+Sol.8/3 Equ.8/8+Inv.1/3 TrY.7/9+AuC.9/1
    Sol.4/5+AuC.0/2 TrY.7/9+TrY.7/9 AuC.9/0+Sol.4/3 Equ.7/5+Inv.1/3 TrY.7/9+TrY.7/9
    Sol.4/5+AuC.9/1 TrY.8/9+TrY.9/9 AuC.8/0+TrY.7/9 TrY.2/7+Col.9/6 Equ.7/6+Col.4/9
    ShY.2/7+Pos.3/7 Col.4/3+Bri.6/7 Sha.3/9+Bri.7/9 Equ.6/5+Equ.5/1 Con.6/7+Sha.6/5
    Bri.3/7+AuC.5/8 AuC.9/4+AuC.5/6 Sol.3/5+Equ.6/5 TrY.2/4+Sha.3/3 Bri.0/8+Col.8/8
    Sol.2/6+Col.8/6 Sol.2/6+AuC.8/1 Sol.4/1+Equ.6/5 Bri.0/0+Sol.5/2 AuC.9/5+Bri.5/3
    Con.7/5+Bri.0/2 Sol.2/8+Sol.1/5 Con.5/1+TrY.2/9 AuC.6/5+TrY.0/9 AuC.9/4+Equ.8/4
    Bri.0/7+Equ.4/7 Sol.2/5+Equ.7/5 Equ.6/8+Col.6/2 Col.3/7+Col.2/4 AuC.5/2+Sol.7/2
    AuC.2/0+Equ.1/0 ShY.6/5+Equ.6/5 Bri.9/3+AuC.4/1 Equ.8/8+Equ.7/7 Equ.7/7+Sol.5/0
    Equ.8/4+TrY.8/9 TrY.8/9+TrY.6/9 TrY.9/0+TrY.5/9 AuC.5/3+Sol.3/4 Sol.5/3+Equ.4/4
    Col.7/7+TrX.5/8 Equ.3/7+AuC.4/8 TrY.4/3+Sha.2/6 Bri.9/6+Col.2/8 Sol.5/2+Inv.0/3
    AuC.1/5+Bri.0/0 Cut.2/4+Equ.1/1 Equ.7/7+AuC.6/4 Col.1/8+ShY.2/3 ShY.4/2+Rot.7/0
    ShY.1/3+AuC.9/5 TrY.3/6+Cut.3/3 Equ.5/0+Sol.6/6 AuC.3/5+Rot.2/7 Equ.8/2+Inv.4/0
    Equ.9/5+Col.7/0 Equ.1/1+ShY.1/3 AuC.7/3+Equ.7/0 Bri.5/1+Con.1/7 Con.1/4+Sol.6/5
    Sol.2/3+ShX.0/0 TrX.3/0+TrX.6/0 Equ.5/9+TrY.6/7 ShX.1/0+Sha.5/1 Equ.8/6+Inv.3/6
    AuC.3/9+Cut.5/3 ShX.4/4+AuC.9/2 ShX.0/3+Pos.0/3 Sol.4/3+Col.2/4 Equ.1/4+Equ.7/6
    Equ.3/8+AuC.4/3 Sol.6/4+AuC.7/6 AuC.2/9+Bri.4/8 Equ.1/0+Equ.0/6 Equ.8/4+Equ.0/4
    Equ.5/5+AuC.1/2 Sol.5/5+AuC.9/5 AuC.6/1+AuC.7/8 Equ.2/0+AuC.1/2 Equ.6/9+Equ.4/4
""")  # 95
IMAGENET = parse("""
    Equ.8/1+ShY.8/4 Col.4/9+Equ.6/3 Col.4/1+Rot.6/8 Sol.8/3+Equ.4/7 Sol.4/2+Sol.6/2
    Col.2/0+Equ.8/8 Equ.4/8+SoA.8/3 ShX.2/9+Rot.6/8 Col.6/1+Equ1/2 Inv.4/9+Rot.6/0
    Equ1/9+ShY.6/3 Col.4/7+Equ.6/0 Pos.4/6+AuC.4/7 Sol.6/8+Col.6/9 Sol.2/4+Rot.8/9
    Rot1/7+TrY.8/9 ShX.0/0+Sol.8/4 ShY.8/0+Col.6/4 Col1/0+Rot.6/2 Equ.8/4+Equ.0/8
    Equ1/4+AuC.6/2 ShY.4/7+SoA.6/7 Pos.8/2+Sol.6/10 Sol.6/8+Equ.6/1 Col.8/6+Rot.4/5
""")  # 25, called v0


# The operations that keep a digit readable: no mirror, no inversion, nothing that lifts the noise
# of a black background (Equalize, Solarize, Posterize), and no shift beyond that of the crop.
DIGITS = parse("""
    Rot.7/5+ShX.5/4 Rot.8/3+Sha.6/9 Rot.9/4+Con.5/4 Rot.5/6+Bri.6/4 ShX.8/7+Bri.5/7
    ShX.7/5+ShY.6/3 ShX.6/8+Con.6/8 ShX.9/3+Rot.6/2 ShY.8/5+Sha.7/8 ShY.7/4+Bri.7/3
    ShY.6/6+Con.7/7 Sha.9/9+Rot.6/4 Con.8/4+ShX.5/5 Bri.8/3+Rot.5/5 AuC.5/5+ShY.8/4
""")  # 15


class Kind(NamedTuple):
    """What strong augmentation may do to images of a kind."""

    autoaug: Policy
    randaug: tuple[str, ...]
    mirror: bool
    cutout_side: int


KINDS = {
    "photos": Kind(CIFAR, RANDAUG_OPERATIONS, mirror=True, cutout_side=CUTOUT_SIDE),
    "digits": Kind(DIGITS, RANDAUG_DIGITS, mirror=False, cutout_side=CUTOUT_SIDE // 2),
}


class Draws(NamedTuple):
    """All random numbers of B strong augmentations of two steps each."""

    steps: list[tuple[Step, Step]]  # (B,)
    applied: NDArray[np.bool_]  # (B, 2)
    negative: NDArray[np.bool_]  # (B, 2)
    hidden: NDArray[np.int64]  # (B, 2, 2) row and column of the operation Cutout
    crop: NDArray[np.int64]  # (B, 2) top and left
    mirrored: NDArray[np.bool_]  # (B,)
    cutout: NDArray[np.int64]  # (B, 2) row and column of the final cutout
    cutout_side: int = CUTOUT_SIDE


def draw(
    count: int,
    height: int,
    width: int,
    rng: np.random.Generator,
    aug_type: str,
    kind: str = "photos",
) -> Draws:
    """The random numbers of `count` images. aug_type: of AUG_TYPES; kind: of KINDS."""
    allowed = KINDS[kind]
    if aug_type == "autoaug":
        # A sub-policy per image; the original's words say one per batch, its code does not.
        policy = allowed.autoaug
        steps = [policy[index] for index in rng.integers(len(policy), size=count)]
    else:  # two operations per batch
        operations = allowed.randaug
        names = [operations[index] for index in rng.integers(len(operations), size=2)]
        levels = [RANDAUG_LEVELS[index] for index in rng.integers(len(RANDAUG_LEVELS), size=2)]
        steps = [
            tuple(Step(name, RANDAUG_PROBABILITY, level) for name, level in zip(names, levels))
        ] * count
    probability = np.array([[step.probability for step in pair] for pair in steps]).reshape(
        count, 2
    )
    return Draws(
        steps,
        applied=rng.random((count, 2)) < probability,
        negative=rng.random((count, 2)) < 0.5,
        hidden=rng.integers((height, width), size=(count, 2, 2)),
        # 2 PADDING is never drawn, as the original's upper bound is exclusive: a shift of 4 is to
        # one side only
        crop=rng.integers(2 * PADDING, size=(count, 2)),
        mirrored=(rng.random(count) < 0.5) & allowed.mirror,
        cutout=rng.integers((height, width), size=(count, 2)),
        cutout_side=allowed.cutout_side,
    )


def apply_steps(rgba: NDArray[np.uint8], draws: Draws) -> None:
    """The two operations of every image, in place. rgba: (B, H, W, 4)."""
    for index in np.flatnonzero(draws.applied.any(axis=1)):
        image = Image.fromarray(rgba[index])
        for place, (name, _, level) in enumerate(draws.steps[index]):
            if not draws.applied[index, place]:
                continue
            if name == "Cutout":
                image = pil_ops.cutout(image, level, *draws.hidden[index, place].tolist())
            else:
                image = pil_ops.OPERATIONS[name](image, level, bool(draws.negative[index, place]))
        rgba[index] = np.asarray(image)


def shifted(images: NDArray[np.float32], corners: NDArray[np.int64]) -> NDArray[np.float32]:
    """Each image with PADDING zeros on every side, seen through a window at its corner.

    corners: (B, 2) top and left.
    """
    count, height, width, channels = images.shape
    padded = np.zeros((count, height + 2 * PADDING, width + 2 * PADDING, channels), images.dtype)
    padded[:, PADDING : PADDING + height, PADDING : PADDING + width] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    return windows[np.arange(count), corners[:, 0], corners[:, 1]].transpose(0, 2, 3, 1)


def square_mask(
    centres: NDArray[np.int64], height: int, width: int, side: int = CUTOUT_SIDE
) -> NDArray[np.bool_]:
    """(B, H, W), true in the square of this side around each centre, as far as it is inside.

    centres: (B, 2).
    """
    rows, columns = np.arange(height) - centres[:, :1], np.arange(width) - centres[:, 1:]
    half = side // 2
    in_rows, in_columns = (-half <= rows) & (rows < half), (-half <= columns) & (columns < half)
    return in_rows[:, :, None] & in_columns[:, None, :]


def strong_arrays(images: NDArray[np.float32], draws: Draws) -> NDArray[np.float32]:
    """The two operations; a shift by -4..3; the mirror; zeros, mid grey, in a square.

    images: (B, H, W, 3) in [-1, 1].
    """
    rgba = pil_ops.to_rgba(images)
    apply_steps(rgba, draws)
    crops = shifted(pil_ops.from_rgba(rgba), draws.crop)
    views = np.where(draws.mirrored[:, None, None, None], crops[:, :, ::-1], crops)
    height, width = views.shape[1:3]
    views[square_mask(draws.cutout, height, width, draws.cutout_side)] = 0
    return views


def generator(seed: NDArray[np.int32]) -> np.random.Generator:
    """NumPy's generator of a stateless TensorFlow seed (2,)."""
    return np.random.default_rng([int(part) & 0xFFFFFFFF for part in seed])  # entropy has no sign


def strong(images: tf.Tensor, seed: tf.Tensor, aug_type: str, kind: str = "photos") -> tf.Tensor:
    """IEG's strong augmentation.

    images: (B, H, W, 3) float32 in [-1, 1], weakly augmented, returned likewise; seed: (2,) int32;
    kind: of KINDS.
    """

    def views(images: NDArray[np.float32], seed: NDArray[np.int32]) -> NDArray[np.float32]:
        count, height, width = images.shape[:3]
        return strong_arrays(images, draw(count, height, width, generator(seed), aug_type, kind))

    if aug_type not in AUG_TYPES:
        raise ValueError(
            f'aug_type {aug_type!r} is none of {AUG_TYPES}; "default" is a second weak '
            "augmentation: views.weak"
        )
    return tf.ensure_shape(
        tf.numpy_function(views, [images, seed], tf.float32, stateful=False), images.shape
    )
