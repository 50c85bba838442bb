"""CIFAR batches byte for byte as Python 2 wrote them, of any size."""

import struct

import numpy as np


def batch_bytes(rows: np.ndarray, labels: list[int], label_key: str = "labels") -> bytes:
    """A protocol-2 pickle of {"data": rows, label_key: labels}.

    rows: (n, m) uint8; labels: n integers below 256.
    """
    shape = b"".join(b"M" + struct.pack("<H", size) for size in rows.shape) + b"\x86"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01"
        + shape
        + b"cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", rows.size)
        + rows.tobytes()
        + b"tb"
    )
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return (
        b"\x80\x02}q\x01("
        + _text("data")
        + array
        + _text(label_key)
        + b"]q\x08("
        + numbers
        + b"e"
        + _text("batch_label")
        + _text("training batch 1 of 5")
        + b"u."
    )


def _text(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode()
