"""Picture files become pixels; broken ones are named; pixels are kept, all or nothing."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from picture_files import greys, save, save_turned, truncate

from shared.datasets import DatasetError, decoding, pixel_cache, progress
from shared.datasets.decoding import read_images

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def files(tmp_path):
    """Seven pictures, of which the second is truncated and the fifth is missing."""
    place = tmp_path / "pictures"
    save_turned(place / "turned.jpg")
    return [
        save(place / "grey.png", 10, mode="L"),
        truncate(save(place / "truncated.jpg", 20)),
        save(place / "cmyk.jpg", 30, mode="CMYK"),
        save(place / "large.png", 40, size=(300, 300)),
        place / "missing.png",
        place / "turned.jpg",
        save(place / "wide.png", 60, size=(80, 40)),
    ]


def read(files, cache_dir=None, **options):
    with pytest.warns(UserWarning, match=r"1 of 7 pictures of .*pictures are not square"):
        return read_images(
            files, 16, place=files[0].parent, skip_broken=True, cache_dir=cache_dir, **options
        )


def test_what_can_be_read_is_read_and_the_rest_is_named(files, capsys):
    found = read(files)
    assert found.rows.tolist() == [0, 2, 3, 5, 6]
    assert (found.images.shape, found.images.dtype) == ((5, 16, 16, 3), np.uint8)
    assert greys(found.images)[:3] == [10, pytest.approx(30, abs=2), 40]
    assert found.images[3, 2].min() > 200  # the white half is above
    assert found.images[3, -3].max() < 50
    note = capsys.readouterr().err
    assert "2 of 7 pictures" in note
    assert "left out" in note
    assert "truncated.jpg" in note
    assert "missing.png" in note


def test_broken_pictures_are_refused_with_their_number_and_the_flag(files):
    with pytest.raises(DatasetError) as caught:
        read_images(files, 16, place=files[0].parent)
    text = str(caught.value)
    assert "2 of 7 pictures" in text
    assert "--skip_broken" in text
    assert "truncated.jpg is not a readable image (" in text
    assert "missing.png is not a readable image (No such file or directory)" in text


def test_of_many_broken_pictures_the_first_are_named(tmp_path):
    files = [save(tmp_path / "good.png", 1)]
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
        files.append(tmp_path / f"{number}.png")
    with pytest.raises(DatasetError, match=r"9 of 10 [\s\S]*4\.png[\s\S]*and 4 more") as caught:
        read_images(files, 16, place=tmp_path)
    assert "5.png" not in str(caught.value)


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    files = [save(tmp_path / "good.png", 1), tmp_path / "pipe.png"]
    with pytest.raises(DatasetError, match=r"pipe\.png is not .*\(not a regular file\)"):
        read_images(files, 16, place=tmp_path)


def test_where_no_picture_can_be_read_nothing_is_skipped(tmp_path):
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(DatasetError, match=r"2 of 2 pictures .*none can"):
        read_images(files, 16, place=tmp_path, skip_broken=True)


def test_no_files_give_no_pictures(tmp_path):
    for cache in (None, tmp_path / "cache"):
        found = read_images([], 16, place=tmp_path, cache_dir=cache)
        assert (found.images.shape, found.rows.shape) == ((0, 16, 16, 3), (0,))


def test_a_picture_is_squashed_where_it_is_not_cut(tmp_path, recwarn):
    pixels = np.tile(np.arange(80, dtype=np.uint8), (40, 1))
    decoding.Image.fromarray(pixels).save(tmp_path / "wide.png")
    (image,) = read_images([tmp_path / "wide.png"], 16, place=tmp_path, crop=False).images
    expected = decoding.Image.fromarray(pixels).convert("RGB").resize((16, 16), 2)
    np.testing.assert_array_equal(image, np.asarray(expected))
    assert not recwarn.list


# ---- signs of life


def test_without_a_terminal_there_is_a_line_now_and_then(files, capsys, monkeypatch):
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    read(files)
    lines = [line for line in capsys.readouterr().err.splitlines() if "reading" in line]
    assert lines[0].endswith("pictures: 1 of 7")
    assert len(lines) == 7


def test_what_is_done_soon_needs_no_line(capsys):
    assert list(progress.watched(iter("abc"), 3, "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


# ---- kept pixels


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_the_next_run_maps_the_pixels(files, tmp_path, capsys, monkeypatch):
    cache = tmp_path / "cache"
    plain, first = read(files), read(files, cache)
    monkeypatch.setattr(decoding, "_read", None)  # nothing is decoded again
    capsys.readouterr()
    again = read(files, cache)
    assert "truncated.jpg" in capsys.readouterr().err  # and yet it is said
    for found in (first, again):
        np.testing.assert_array_equal(found.images, plain.images)
        np.testing.assert_array_equal(found.rows, plain.rows)
        assert isinstance(found.images.base, np.memmap)
        assert found.images.flags.writeable  # in memory only, as torch.from_numpy wants it
    again.images[:] = 0
    np.testing.assert_array_equal(read(files, cache).images, plain.images)
    assert len(entries(cache)) == 1


def test_a_kept_entry_serves_a_run_that_skips_after_one_that_refused(files, tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match="--skip_broken"):
        read_images(files, 16, place=files[0].parent, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(decoding, "_read", None)
    assert len(read(files, tmp_path / "cache").images) == 5


def test_other_files_sizes_and_ways_have_other_entries(files, tmp_path):
    place = files[0].parent
    key = pixel_cache.key_of(files, place, 16, True)
    assert key == pixel_cache.key_of(files, place, 16, True)
    others = {
        pixel_cache.key_of(files, place, 17, True),
        pixel_cache.key_of(files, place, 16, False),
        pixel_cache.key_of(files[1:], place, 16, True),
        pixel_cache.key_of(files[::-1], place, 16, True),
    }
    os.utime(files[0], ns=(1, 1))
    others.add(pixel_cache.key_of(files, place, 16, True))
    files[1].unlink()
    others.add(pixel_cache.key_of(files, place, 16, True))
    assert key not in others
    assert len(others) == 6
    os.rename(place, tmp_path / "moved")  # the same files in another place are the same
    moved = [tmp_path / "moved" / file.name for file in files]
    assert pixel_cache.key_of(moved, tmp_path / "moved", 16, True) in others


@pytest.mark.parametrize("damage", ["shorter", "no about", "other about", "empty", "longer"])
def test_a_damaged_entry_is_made_again(files, tmp_path, damage):
    cache = tmp_path / "cache"
    good = read(files)
    read(files, cache)
    (name,) = entries(cache)
    images, about = cache / name / "images.npy", cache / name / "about.json"
    match damage:
        case "shorter":
            truncate(images)
        case "no about":
            about.unlink()
        case "other about":
            about.write_text('{"broken": [1], "cropped": 0}')
        case "empty":
            images.write_bytes(b"")
        case "longer":
            images.write_bytes(images.read_bytes() + b"x")
    np.testing.assert_array_equal(read(files, cache).images, good.images)
    assert entries(cache) == [name]


KILLED = """
import os, signal, sys
from pathlib import Path
from shared.datasets import decoding
from shared.datasets.decoding import read_images
place, cache = map(Path, sys.argv[1:])
done, original = [], decoding._read
def read(*arguments):
    done.append(1)
    if len(done) == 300:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
decoding._read = read
read_images(sorted(place.iterdir()), 16, place=place, cache_dir=cache)
"""


def test_a_kill_leaves_nothing_that_is_believed(tmp_path):
    place, cache = tmp_path / "many", tmp_path / "cache"
    files = sorted(save(place / f"{number:03}.png", number % 250, (4, 4)) for number in range(400))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, place, cache],
        env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    (part,) = entries(cache)
    assert part.endswith(".part")
    assert (cache / part / "images.npy").exists()
    images = read_images(files, 16, place=place, cache_dir=cache).images
    assert greys(images) == [number % 250 for number in range(400)]
    (name,) = entries(cache)
    assert f".{name}.part" == part


def test_a_full_disk_is_told_and_leaves_nothing(files, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match=r"cannot keep pictures in .*cache.*free some space.*"):
        read_images(files[:1], 16, place=files[0].parent, cache_dir=tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_a_cache_that_is_no_folder_is_told(files):
    with pytest.raises(DatasetError, match=r"cannot keep pictures in .*--cache_dir"):
        read_images(files[:1], 16, place=files[0].parent, cache_dir=files[0])


def test_a_second_process_waits_for_the_first(files, tmp_path, monkeypatch, capsys):
    """While the lock is held the second one says that it waits; then it takes what is there."""
    cache = tmp_path / "cache"
    good = read(files, cache)
    (name,) = entries(cache)
    hidden = tmp_path / "hidden"
    (cache / name).rename(hidden)

    class Held:
        def __init__(self, path):
            self.path = path

        def acquire(self, blocking=True):
            if not blocking:
                raise pixel_cache.Timeout(str(self.path))
            hidden.rename(cache / name)  # the first process is done

        def release(self):
            pass

    monkeypatch.setattr(pixel_cache, "FileLock", Held)
    monkeypatch.setattr(decoding, "_read", None)
    np.testing.assert_array_equal(read(files, cache).images, good.images)
    assert "waiting for another process" in capsys.readouterr().err
