"""Writes noise files as people have them."""

import json
import pickle

import numpy as np
from torch_bytes import torch_zip


def objects(value):
    """An array of one object, as numpy.save makes of anything that is no array."""
    array = np.empty((), object)
    array[()] = value
    return array


def save(path, value):
    """Write a value as the ending says."""
    match path.suffix:
        case ".npy":
            np.save(path, value, allow_pickle=True)
        case ".npz":
            np.savez_compressed(path, **value)
        case ".pkl":
            path.write_bytes(pickle.dumps(value, protocol=4))
        case ".pt":
            path.write_bytes(torch_zip(pickle.dumps(value, protocol=2)))
        case ".json":
            path.write_text(json.dumps(value, default=lambda array: array.tolist()))
        case _:
            path.write_bytes(value if isinstance(value, bytes) else value.encode())
    return path


def lines(*columns, head="", mark=",", end=""):
    rows = (mark.join(map(str, row)) for row in zip(*columns))
    return "\n".join([*([head] if head else []), *rows, end])
