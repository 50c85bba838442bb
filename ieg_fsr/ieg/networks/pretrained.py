"""The weights of Keras' ResNet-50, trained on ImageNet, in the network `resnet50v1`.

    load_imagenet(build("resnet50v1", 10, image_shape=(224, 224, 3), seed=1), path)

Both compute the same features. Keras' network has biases before batch normalisation, which are
moved into its means, another epsilon, moved into its variances, and takes blue before red. The
classifier stays as it is. The other networks here have no weights like that: resnet50 activates
before its convolutions and has its strides elsewhere than Keras' ResNet50V2.
"""

from collections.abc import Iterator
from pathlib import Path

import keras

from ieg.networks.batch_norm import EPSILON
from ieg.networks.models import RESNET50_BLOCKS

FILE = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
URL = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{FILE}"
MD5 = "4d473c1dd8becc155b73f8504c6f6626"  # in Keras' source
LIMIT = 200 * 2**20  # bytes


def load_imagenet(model: keras.Model, path: Path) -> None:
    """Sets every weight of a `resnet50v1` but the classifier's. path: Keras' file FILE."""
    source = keras.applications.ResNet50(include_top=False, weights=None)
    source.load_weights(str(path))
    for number, name in enumerate(_names(), start=1):
        conv, norm = (source.get_layer(f"{name}_{kind}") for kind in ("conv", "bn"))
        kernel, bias = conv.get_weights()
        gamma, beta, mean, variance = norm.get_weights()
        if number == 1:
            kernel = kernel[:, :, ::-1]
        variance = variance + (norm.epsilon - EPSILON)
        model.get_layer(f"conv_{number}").set_weights([kernel])
        model.get_layer(f"batch_norm_{number}").set_weights([gamma, beta, mean - bias, variance])


def _names() -> Iterator[str]:
    """Keras' names of the convolutions, in the order in which models.py makes them."""
    yield "conv1"
    for stage, blocks in enumerate(RESNET50_BLOCKS, start=2):
        for block in range(1, blocks + 1):
            for part in range(0 if block == 1 else 1, 4):
                yield f"conv{stage}_block{block}_{part}"
