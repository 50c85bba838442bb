"""The networks of IEG and FSR (CVPR 2020, ICCV 2021) and their regularisation.

`build(name, num_classes, seed=...)` gives a Keras model whose outputs are [features (B, D), logits
(B, C)], float32; the last two of its trainable variables are the classifier's kernel (D, C) and
bias (C,). Images are (B, H, W, 3) in [-1, 1].

wrn28-10: Zagoruyko & Komodakis, BMVC 2016, in AutoAugment's variant with long skips; resnet29,
resnet18, resnet50: He et al., "Identity Mappings", ECCV 2016; resnet32: He et al., CVPR 2016.
"resnet18" has 20 layers; the name is the original's. resnet50v1, He et al., CVPR 2016, is not the
original's: it is the one that ImageNet weights are there for (pretrained.py).
"""

import re
from collections.abc import Sequence
from functools import partial

import keras
import tensorflow as tf
from keras import initializers
from tensorflow import Tensor

from ieg.networks.layers import Builder, Symbol

NAMES = ("wrn28-10", "resnet29", "resnet32", "resnet18", "resnet50", "resnet50v1")
GRAMMAR = (
    f"{', '.join(NAMES)}, or wrn<depth>-<width> with depth 10, 16, 22, 28, ... (6 n + 4), "
    "such as wrn28-2"
)
RESNET50_BLOCKS = (3, 4, 6, 3)
IMAGENET_MEAN = (123.68, 116.779, 103.939)  # red, green, blue of 0 to 255, as Keras takes it
WRN_DECAY, RESNET29_DECAY = 5e-4, 1e-4  # no flag moves these


def build(
    name: str,
    num_classes: int,
    *,
    image_shape: tuple[int, int, int] = (32, 32, 3),
    relu_in_bottleneck: bool = False,
    seed: int,
) -> keras.Model:
    """The network `name`; its initial weights are a function of `seed`. Raises ValueError.

    relu_in_bottleneck: gives the blocks of resnet29 the first ReLU that the published network
    lacks.
    """
    check(name, relu_in_bottleneck)
    if num_classes < 1:
        raise ValueError(f"{name}: at least one class is needed, not {num_classes}")
    wide = _wrn_size(name)
    images = keras.Input(image_shape, name="images")
    if wide:
        return _wrn(images, num_classes, name, *wide, seed=seed)
    if name == "resnet29":
        return _resnet29(images, num_classes, relu_in_bottleneck, seed)
    if name == "resnet50":
        return _resnet50(images, num_classes, seed)
    if name == "resnet50v1":
        return _resnet50v1(images, num_classes, seed)
    return _resnet_without_projections(images, num_classes, name, seed)


def check(name: str, relu_in_bottleneck: bool) -> None:
    """Raises ValueError where `build` has no such network."""
    _wrn_size(name)
    if relu_in_bottleneck and name != "resnet29":
        raise ValueError(f"only resnet29 has a ReLU to restore, not {name}")


def _wrn_size(name: str) -> tuple[int, int] | None:
    """(blocks in a group, width) of wrn<depth>-<width>, None for another network.

    Raises ValueError.
    """
    if match := re.fullmatch(r"wrn(\d+)-(\d+)", name):
        depth, width = int(match[1]), int(match[2])
        if depth >= 10 and depth % 6 == 4 and width >= 1:
            return (depth - 4) // 6, width
    elif name in NAMES:
        return None
    raise ValueError(f"unknown network {name!r}: choose {GRAMMAR}")


# ---- regularisation


def regularisation(
    network: keras.Model | str,
    variables: Sequence[Tensor],
    *,
    weight_decay: float = 5e-4,
    l2_weight_decay: float = 4e-4,
) -> Tensor:
    """R(theta), a scalar. variables: values of all trainable variables, in the model's order.

    weight_decay is that of resnet32 and resnet18, l2_weight_decay that of resnet50 and resnet50v1;
    the others have their own.
    """
    if _name(network) == "resnet29":  # as published: no 1/2, no biases, no batch normalisation
        return RESNET29_DECAY * 2.0 * _half_squares([v for v in variables if len(v.shape) > 1])
    return meta_regularisation(
        network, variables, weight_decay=weight_decay, l2_weight_decay=l2_weight_decay
    )


def meta_regularisation(
    network: keras.Model | str,
    variables: Sequence[Tensor],
    *,
    weight_decay: float = 5e-4,
    l2_weight_decay: float = 4e-4,
) -> Tensor:
    """Half the sum of squares of looked-ahead variables, all or some, times the network's decay."""
    name = _name(network)
    rates = {
        "resnet29": RESNET29_DECAY,
        "resnet32": weight_decay,
        "resnet18": weight_decay,
        "resnet50": l2_weight_decay,
        "resnet50v1": l2_weight_decay,
    }
    rate = WRN_DECAY if _wrn_size(name) else rates[name]
    return rate * _half_squares(variables)


def _name(network: keras.Model | str) -> str:
    return network if isinstance(network, str) else network.name


def _half_squares(variables: Sequence[Tensor]) -> Tensor:
    # Not add_n, which adds in the order in which its inputs' memory happens to be free.
    return tf.reduce_sum(tf.stack([tf.nn.l2_loss(tf.cast(v, tf.float32)) for v in variables]))


# ---- the networks


def _wrn(
    images: Symbol, num_classes: int, name: str, blocks: int, width: int, *, seed: int
) -> keras.Model:
    """Wide residual network with shortcuts around blocks, around groups and around everything.

    Shortcuts are pooled and padded with zero channels.
    """
    if images.shape[1] % 4 or images.shape[2] % 4:
        raise ValueError(
            f"{name} halves images twice and adds the halves: sides must be multiples of 4, not "
            f"{images.shape[1:3]}"
        )

    def kernel(size: int, filters: int, seed: int) -> initializers.Initializer:
        return initializers.RandomNormal(stddev=(2.0 / (size * size * filters)) ** 0.5, seed=seed)

    make = Builder(seed, kernel)
    first = group_output = make.conv(images, 16, 3)
    for group, group_stride in enumerate((1, 2, 2)):
        filters, group_input = 16 * width * 2**group, group_output
        x = group_input
        for block in range(blocks):
            stride = group_stride if block == 0 else 1
            activated = make.norm_relu(x)
            raw = activated if group == block == 0 else x  # it shares its activation
            y = make.norm_relu(make.conv(activated, filters, 3, stride))
            x = make.add(make.conv(y, filters, 3), make.shortcut(raw, filters, stride))
        group_output = make.add(x, make.shortcut(group_input, filters, group_stride))
    x = make.norm_relu(make.add(group_output, make.shortcut(first, filters, 4)))
    # The range follows the number of classes, not the fan-in: a bug of the original, whose results
    # include it.
    limit = num_classes**-0.5
    return make.model(
        name, images, x, num_classes, lambda seed: initializers.RandomUniform(-limit, limit, seed)
    )


def _resnet29(images: Symbol, num_classes: int, relu_in_bottleneck: bool, seed: int) -> keras.Model:
    """Pre-activation bottlenecks, three in each of three stages."""
    make = Builder(seed, lambda size, filters, seed: initializers.GlorotNormal(seed))
    # Published results were made without the ReLU.
    before = make.norm_relu if relu_in_bottleneck else make.norm
    x = make.norm_relu(make.conv(images, 16, 3))
    for stage, (inner, outer) in enumerate(((16, 64), (64, 128), (128, 256))):
        for block in range(3):
            stride = 2 if stage > 0 and block == 0 else 1
            y = x if stage == block == 0 else before(x)
            y = make.norm_relu(make.conv(y, inner, 1, stride))
            y = make.norm_relu(make.conv(y, inner, 3))
            y = make.conv(y, outer, 1)
            x = make.add(make.conv(x, outer, 1, stride) if block == 0 else x, y)
    return make.model(
        "resnet29", images, make.norm_relu(x), num_classes, initializers.GlorotUniform
    )


def _resnet_without_projections(
    images: Symbol, num_classes: int, name: str, seed: int
) -> keras.Model:
    """resnet32: activation after the addition, five blocks a stage.

    resnet18: activation before, three blocks, and none at the end.
    """
    make = Builder(
        seed, lambda size, filters, seed: initializers.GlorotUniform(seed), explicit_padding=True
    )
    after = name == "resnet32"
    x = make.norm_relu(make.conv(images, 16, 3))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(5 if after else 3):
            stride = 2 if stage > 0 and block == 0 else 1
            y = make.conv(x if after else make.norm_relu(x), filters, 3, stride)
            y = make.conv(make.norm_relu(y), filters, 3)
            x = make.add(make.norm(y) if after else y, make.shortcut(x, filters, stride, "same"))
            x = make.relu(x) if after else x
    return make.model(name, images, x, num_classes, initializers.GlorotUniform)


def _resnet50(images: Symbol, num_classes: int, seed: int) -> keras.Model:
    """ResNet-50 with activation before the convolutions, for images of 224 x 224."""
    kernel = partial(initializers.VarianceScaling, 1.0, "fan_in", "truncated_normal")
    make = Builder(
        seed, lambda size, filters, seed: kernel(seed), explicit_padding=True, momentum=0.997
    )
    x = make.max_pool(make.conv(images, 64, 7, 2), 3, 2)
    for stage, blocks in enumerate(RESNET50_BLOCKS):
        filters = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            y = make.norm_relu(x)
            raw = make.conv(y, 4 * filters, 1, stride) if block == 0 else x
            y = make.norm_relu(make.conv(y, filters, 1))
            y = make.norm_relu(make.conv(y, filters, 3, stride))
            x = make.add(make.conv(y, 4 * filters, 1), raw)
    return make.model(
        "resnet50", images, make.norm_relu(x), num_classes, initializers.GlorotUniform
    )


def _resnet50v1(images: Symbol, num_classes: int, seed: int) -> keras.Model:
    """ResNet-50 with activation after the additions, for images of 224 x 224.

    The first convolution of a block has its stride, as in He et al. and in Keras.
    """
    make = Builder(
        seed, lambda size, filters, seed: initializers.HeNormal(seed), explicit_padding=True
    )
    x = make.affine(images, 127.5, [127.5 - mean for mean in IMAGENET_MEAN])
    x = make.norm_relu(make.conv(x, 64, 7, 2))
    x = make.max_pool(make.pad(x, 1), 3, 2, "valid")
    for stage, blocks in enumerate(RESNET50_BLOCKS):
        filters = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = make.norm(make.conv(x, 4 * filters, 1, stride)) if block == 0 else x
            y = make.norm_relu(make.conv(x, filters, 1, stride))
            y = make.norm_relu(make.conv(y, filters, 3))
            x = make.relu(make.add(make.norm(make.conv(y, 4 * filters, 1)), shortcut))
    return make.model("resnet50v1", images, x, num_classes, initializers.GlorotUniform)
