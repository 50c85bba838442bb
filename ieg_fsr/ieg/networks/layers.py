"""The layers that all networks are made of.

Their names and initial values depend on the network and the seed alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from ieg.networks.batch_norm import BatchNorm

Symbol: TypeAlias = keras.KerasTensor
Initialiser: TypeAlias = keras.initializers.Initializer
KernelInitialiser = Callable[[int, int, int], Initialiser]  # kernel size, filters, seed


class Builder:
    """Adds layers to a functional model; images are (B, H, W, channels).

    kernel: how kernels of convolutions start. explicit_padding: strided convolutions pad both sides
    by half the kernel, where TensorFlow's SAME pads one pixel less on the top and on the left.
    """

    def __init__(
        self,
        seed: int,
        kernel: KernelInitialiser,
        *,
        explicit_padding: bool = False,
        momentum: float = 0.9,
    ) -> None:
        self._seed, self._kernel = seed, kernel
        self._explicit, self._momentum = explicit_padding, momentum
        self._counts: dict[str, int] = {}

    def _name(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}_{self._counts[kind]}"

    def _next_seed(self) -> int:
        """Each layer draws from its own stream."""
        self._counts["draw"] = self._counts.get("draw", 0) + 1
        return int(np.random.SeedSequence([self._seed, self._counts["draw"]]).generate_state(1)[0])

    def conv(self, x: Symbol, filters: int, size: int, stride: int = 1) -> Symbol:
        """A convolution without bias."""
        padding = "same"
        if self._explicit and stride > 1:
            x, padding = self.pad(x, size // 2), "valid"
        kernel = self._kernel(size, filters, self._next_seed())
        return layers.Conv2D(
            filters,
            size,
            stride,
            padding,
            use_bias=False,
            kernel_initializer=kernel,
            name=self._name("conv"),
        )(x)

    def norm(self, x: Symbol) -> Symbol:
        return BatchNorm(self._momentum, name=self._name("batch_norm"))(x)

    def relu(self, x: Symbol) -> Symbol:
        return layers.ReLU(name=self._name("relu"))(x)

    def norm_relu(self, x: Symbol) -> Symbol:
        return self.relu(self.norm(x))

    def add(self, *terms: Symbol) -> Symbol:
        return layers.Add(name=self._name("add"))(list(terms))

    def max_pool(self, x: Symbol, size: int, stride: int, padding: str = "same") -> Symbol:
        return layers.MaxPooling2D(size, stride, padding, name=self._name("max_pool"))(x)

    def pad(self, x: Symbol, each: int) -> Symbol:
        """Zeros on all four sides."""
        return layers.ZeroPadding2D(each, name=self._name("pad"))(x)

    def affine(self, x: Symbol, factor: float, offsets: Sequence[float]) -> Symbol:
        """Fixed: factor x + offsets (channels,), in float32."""
        name = self._name("affine")
        return layers.Rescaling(factor, list(offsets), dtype="float32", name=name)(x)

    def shortcut(self, x: Symbol, filters: int, stride: int, padding: str = "valid") -> Symbol:
        """x in another shape: the mean over stride x stride pixels, zero channels on both sides."""
        if stride > 1:
            x = layers.AveragePooling2D(stride, stride, padding, name=self._name("pool"))(x)
        if missing := filters - x.shape[-1]:
            x = ChannelPadding(missing // 2, name=self._name("channels"))(x)
        return x

    def model(
        self,
        name: str,
        images: Symbol,
        x: Symbol,
        num_classes: int,
        dense: Callable[[int], Initialiser],
    ) -> keras.Model:
        """The model with outputs features (B, D) and logits (B, C).

        Both are float32, whatever the convolutions compute in.
        """
        features = layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
        logits = layers.Dense(
            num_classes,
            kernel_initializer=dense(self._next_seed()),
            dtype="float32",
            name="classifier",
        )(features)
        return keras.Model(images, [features, logits], name=name)


class ChannelPadding(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """(B, H, W, c) -> (B, H, W, c + 2 each): zero channels on both sides."""

    def __init__(self, each: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.each = each

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*input_shape[:-1], input_shape[-1] + 2 * self.each)

    def call(self, x: Any) -> Any:
        return keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [self.each, self.each]])
