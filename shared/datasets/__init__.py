"""Every dataset by name: `load` reads arrays, `fetch` finds or downloads the files."""

from shared.datasets.image_data import DatasetError, ImageData, ImageFiles
from shared.datasets.registry import CIFAR, FILE_NAMES, NAMES, data_root, fetch, load, load_digits

__all__ = [
    "CIFAR",
    "FILE_NAMES",
    "NAMES",
    "DatasetError",
    "ImageData",
    "ImageFiles",
    "data_root",
    "fetch",
    "load",
    "load_digits",
]
