"""Images in memory for every script, and what is special about pictures of one's own.

A folder of pictures may have no test set. Their labels are taken as they are, wrong ones included,
for validation images as well.
"""

from dataclasses import replace

from shared import datasets
from shared.datasets.image_data import ImageData
from shared.datasets.image_folder import note_on_size

from .labels import split
from .presets import HUMAN
from .schema import CommonConfig

SIDE = 32  # pixels of the images in memory


def in_memory(config: CommonConfig, name: str) -> ImageData:
    """The dataset `name`, with 32-pixel images. Raises DatasetError."""
    data = datasets.load(
        HUMAN.get(name, name),
        config.data_path,
        image_size=SIDE,
        labels=config.labels,
        skip_broken=config.skip_broken,
        cache_dir=config.cache_dir,
    )
    if note := note_on_size(data, "`train_Food101N.py --dataset folder` trains at 224"):
        print(f"note: {note}")
    return data


def judged(data: ImageData) -> ImageData:
    """The data, whose test images judge features; without any, with the validation ones as such."""
    if len(data.test_labels):
        return data
    _, validates = split(data)
    print(
        f"note: no test set: the features are judged by {len(validates)} validation images, every "
        "tenth of a class, and the labels that came with them"
    )
    images, labels = data.train_images[validates], data.train_labels[validates]
    return replace(data, test_images=images, test_labels=labels)
