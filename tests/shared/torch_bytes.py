"""Torch files made by hand, for tests that must run without torch."""

import io
import pickle
import zipfile

from shared.formats import torch_file

# what torch.save writes for a 1-D int64 tensor, before and after its number of elements
TENSOR_PICKLE = (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00((X\x07\x00\x00\x00storageq\x01ctorch\nLongStorage\nq\x02"
    b"X\x01\x00\x00\x000q\x03X\x03\x00\x00\x00cpuq\x04K\x05Ntq\x05QK\x00",
    b"\x85q\x06K\x01\x85q\x07\x89ccollections\nOrderedDict\nq\x08)Rq\ttq\nRq\x0b.",
)


def torch_zip(pickled, folder="archive", **members):
    """What torch.save writes since version 1.6."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {"data.pkl": pickled, "version": b"3\n", **members}.items():
            archive.writestr(f"{folder}/{name}", content)
    return stream.getvalue()


def legacy(pickled, keys=(), storages=b""):
    """What torch.save wrote before version 1.6."""
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    parts = [pickle.dumps(part, protocol=2) for part in (1001, system)]
    return b"".join(
        [torch_file.LEGACY_START, *parts, pickled, pickle.dumps(list(keys), protocol=2), storages]
    )
