"""Where pixels come from: arrays in memory, or image files decoded when they are needed.

Every method of a Source can be called in a tf.data map; random views are functions of the ids and a
seed (2,) int32. Shapes: N samples, B batch, H W pixels.
"""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ieg.augment import imagenet_ops, policies, views
from shared.datasets.decoding import open_rgb
from shared.datasets.image_data import DatasetError

# Black pixels at each side before the random crop.
PADDING = {"cifar": 2, "long_tail": 4, "digits": 0}
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PN")
SECOND_WEAK_VIEW = "default"  # the --aug_type that is no policy


class Source(Protocol):
    """N labelled images. ids: (B,) int64 in [0, N); seed: (2,) int32."""

    image_shape: tuple[int, int, int]  # of a view: height, width, 3
    labels: NDArray[np.int64]  # (N,) noisy or not
    gold: NDArray[np.int64] | None  # (N,) clean labels; None where nobody knows

    def weak(self, ids: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Weakly augmented, (B, H, W, 3) float32 in [-1, 1]."""

    def plain(self, ids: tf.Tensor) -> tf.Tensor:
        """The images as they are evaluated, (B, H, W, 3) float32 in [-1, 1]."""

    def strong(self, ids: tf.Tensor, weak: tf.Tensor, seed: tf.Tensor, aug_type: str) -> tf.Tensor:
        """Strongly augmented, (B, H, W, 3) float32 in [-1, 1]; IEG alone uses it.

        weak: the same images weakly augmented; aug_type: autoaug, randaug or default.
        """

    def scale(self, pixels: tf.Tensor) -> tf.Tensor:
        """uint8 pixels to the float32 that a network sees."""

    def unscale(self, images: tf.Tensor) -> tf.Tensor:
        """The inverse, rounded to uint8."""


class ArraySource:
    """Images of an array in memory, which several sources share."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        view: str,
        rows: NDArray[np.int64] | None = None,
        gold: NDArray[np.int64] | None = None,
    ) -> None:
        """images: (M, H, W, 3) uint8; labels, gold: (N,) of the images at rows (N,).

        view: "cifar", "long_tail" or "digits", how images are augmented and scaled. Digits are
        never mirrored, weakly or strongly (a mirrored 2 is no digit), and weakly not moved either.
        """
        self._images, self._rows = images, np.arange(len(images)) if rows is None else rows
        if len(self._rows) != len(labels):
            raise ValueError(f"{len(self._rows)} images and {len(labels)} labels")
        self.labels, self.gold = labels, gold
        self.image_shape: tuple[int, int, int] = images.shape[1:]
        self._padding, self._flip = PADDING[view], view != "digits"
        self._scale = "long_tail" if view == "long_tail" else "cifar"
        self._kind = "digits" if view == "digits" else "photos"

    def pixels(self, ids: tf.Tensor) -> tf.Tensor:
        """The images themselves, (B, H, W, 3) uint8."""
        # NumPy's indexing costs 0.2 ms for 100 images, tf.gather 0.14: but a tf.constant is a
        # second copy of 150 MB.
        pixels = tf.numpy_function(
            lambda ids: self._images[self._rows[ids]], [ids], tf.uint8, stateful=False
        )
        return tf.ensure_shape(pixels, (ids.shape[0], *self.image_shape))

    def weak(self, ids: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        pixels = self.pixels(ids)
        if self._padding or self._flip:
            pixels = views.weak(pixels, seed, padding=self._padding, flip=self._flip)
        return self.scale(pixels)

    def plain(self, ids: tf.Tensor) -> tf.Tensor:
        return self.scale(self.pixels(ids))

    def strong(self, ids: tf.Tensor, weak: tf.Tensor, seed: tf.Tensor, aug_type: str) -> tf.Tensor:
        if aug_type == SECOND_WEAK_VIEW:
            # DEVIATION(ieg_fsr): --aug_type default is a second weak augmentation; the original
            # scales twice and stops with an error.
            return self.weak(ids, seed)
        return policies.strong(weak, seed, aug_type, self._kind)

    def scale(self, pixels: tf.Tensor) -> tf.Tensor:
        return views.scale(pixels, self._scale)

    def unscale(self, images: tf.Tensor) -> tf.Tensor:
        return views.unscale(images, self._scale)


class FileSource:
    """JPEG or PNG images, of files or in memory as they were encoded, seen at 224 x 224.

    Decoding runs in the graph, one image after another within a batch and batches side by side.
    """

    image_shape = (views.SIDE, views.SIDE, 3)

    def __init__(
        self,
        items: Sequence[str] | Sequence[bytes],
        labels: NDArray[np.int64],
        *,
        encoded: bool = False,
        gold: NDArray[np.int64] | None = None,
    ) -> None:
        """items: N paths, or if `encoded` N files' contents."""
        if len(items) != len(labels):
            raise ValueError(f"{len(items)} images and {len(labels)} labels")
        with tf.device("CPU"):  # strings live there alone
            self._items = tf.constant(items, tf.string)
        self._encoded = encoded
        self.labels, self.gold = labels, gold

    def weak(self, ids: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self.scale(self._views(views.train_view, ids, seed))

    def plain(self, ids: tf.Tensor) -> tf.Tensor:
        return self.scale(self._map(lambda row: views.eval_view(self._read(row)), ids))

    def strong(self, ids: tf.Tensor, weak: tf.Tensor, seed: tf.Tensor, aug_type: str) -> tf.Tensor:
        """An independent crop of the same files under the ImageNet policy."""
        if aug_type == SECOND_WEAK_VIEW:
            return self.weak(ids, seed)
        return self.scale(self._views(imagenet_ops.strong_view, ids, seed))

    def _views(
        self, view: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], ids: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """A random view of each image, with a seed of its own."""
        seeds = tf.random.split(seed, num=tf.size(ids))
        return self._map(lambda pair: view(self._read(pair[0]), pair[1]), (ids, seeds))

    def _map(self, view: Callable[[Any], tf.Tensor], elements: Any) -> tf.Tensor:
        return tf.map_fn(
            view, elements, fn_output_signature=tf.TensorSpec(self.image_shape, tf.float32)
        )

    def _read(self, row: tf.Tensor) -> tf.Tensor:
        """The encoded image of one row."""
        item = tf.gather(self._items, row)
        content = item if self._encoded else tf.io.read_file(item)
        start = tf.strings.substr(content, 0, 3)  # a frequent image of the web is a page "404"
        known = tf.reduce_any([start == magic for magic in IMAGE_STARTS])
        where = tf.strings.as_string(row) if self._encoded else item
        problem = tf.strings.join(["not a JPEG or PNG image, repair or delete it: ", where])
        with tf.control_dependencies([tf.debugging.Assert(known, [problem])]):
            return tf.identity(content)

    def scale(self, pixels: tf.Tensor) -> tf.Tensor:
        return views.scale(pixels, "cifar")

    def unscale(self, images: tf.Tensor) -> tf.Tensor:
        return views.unscale(images, "cifar")


class PictureSource(FileSource):
    """Files of whatever format and mode cameras and people leave, seen as those of FileSource.

    Pillow decodes them, turned as their EXIF data say.
    """

    def _read(self, row: tf.Tensor) -> tf.Tensor:
        """The picture of one row as an encoded image that TensorFlow reads."""
        path = tf.gather(self._items, row)
        content, problem = tf.numpy_function(
            _as_bitmap, [path], [tf.string, tf.string], stateful=False
        )
        with tf.control_dependencies([tf.debugging.Assert(problem == "", [problem])]):
            return tf.ensure_shape(content, [])


def _as_bitmap(path: Any) -> tuple[bytes, str]:
    """A picture, and why there is none. path: text, or in eager mode an array of it."""
    try:
        picture = open_rgb(Path(os.fsdecode(np.asarray(path).item())))
    except DatasetError as error:
        return b"", f"{error}, or start again with --skip_broken, which leaves such pictures out"
    stream = io.BytesIO()
    picture.save(stream, "BMP")  # nothing is compressed, for it is decoded at once
    return stream.getvalue(), ""
