"""Archives are unpacked whole or not at all, and nothing leaves the folder."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from shared.datasets.download import DownloadError, unpack

CONTENT = np.random.default_rng(0).bytes(1_200_000)


def write_tar(path: Path, members: dict[str, bytes | str]) -> Path:
    """members: name -> content, or "-> target" for a symbolic link, "=> target" for a hard link."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                info.linkname = content[3:]
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def test_an_archive_appears_beside_what_is_there(tmp_path):
    archive = write_tar(tmp_path / "a.tar.gz", {"set/one": b"1", "set/sub/two": b"2"})
    assert unpack(archive, tmp_path) == tmp_path
    assert (tmp_path / "set/sub/two").read_bytes() == b"2"
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz", "set"]
    with pytest.raises(DownloadError, match="is there already"):
        unpack(archive, tmp_path)


@pytest.mark.parametrize(
    "members",
    [
        {"../evil": b"x"},
        {"good": b"x", "sub/../../evil": b"x"},
        {"/evil": b"x", "link": "-> /etc/passwd"},
        {"link": "-> .."},
        {"good": b"x", "link": "-> good"},
        {"good": b"x", "link": "=> good"},
    ],
)
def test_members_that_reach_out_are_refused_and_nothing_appears(members, tmp_path):
    (tmp_path / "data").mkdir()
    archive = write_tar(tmp_path / "a.tar.gz", members)
    with pytest.raises(DownloadError, match="refused"):
        unpack(archive, tmp_path / "data")
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz", "data"]
    assert os.listdir(tmp_path / "data") == []


def test_damaged_archives_are_named_and_nothing_appears(tmp_path):
    whole = write_tar(tmp_path / "a.tar.gz", {"set/one": CONTENT}).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for number, data in enumerate(
        (whole[: len(whole) // 2], whole[:-4], bytes(flipped), b"", b"no archive" * 100)
    ):
        archive = tmp_path / f"damaged{number}.tar.gz"
        archive.write_bytes(data)
        with pytest.raises(DownloadError, match=rf"damaged{number}.*damaged \(.*delete it"):
            unpack(archive, tmp_path / "out")
        assert os.listdir(tmp_path / "out") == []


def test_an_archive_that_is_missing_is_told(tmp_path):
    with pytest.raises(DownloadError, match="cannot unpack"):
        unpack(tmp_path / "none.tar.gz", tmp_path)
