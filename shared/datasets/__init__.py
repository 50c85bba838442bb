"""Every dataset by name: `load` reads arrays, `fetch` finds or downloads the files."""

from shared.datasets.image_data import DatasetError, ImageData, ImageFiles
from shared.datasets.registry import (
    CIFAR,
    FILE_NAMES,
    LISTS,
    NAMES,
    data_root,
    fetch,
    load,
    load_digits,
    load_labels,
)

__all__ = [
    "CIFAR",
    "FILE_NAMES",
    "LISTS",
    "NAMES",
    "DatasetError",
    "ImageData",
    "ImageFiles",
    "data_root",
    "fetch",
    "load",
    "load_digits",
    "load_labels",
]
