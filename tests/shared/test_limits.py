"""Small files that want to be large, or to command the terminal, are refused or shown as text."""

import json
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from found_files import save

from shared import noise
from shared.__main__ import main
from shared.formats import external, noise_file, safe_arrays
from shared.formats.external import read_any
from shared.formats.noise_file import NoiseFileError

REPOSITORY = Path(__file__).resolve().parents[2]
CLEAN = np.arange(300) % 10
NOISY = noise.symmetric(CLEAN, 0.3, 10, np.random.default_rng(0), include_true_class=False)
MATRIX = np.eye(10, dtype=np.float32)


def bomb(tmp_path, name, dtype, count, columns=1):
    path = tmp_path / name
    head = str({"descr": dtype, "fortran_order": False, "shape": (count,)}).encode() + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    array += bytes(count * np.dtype(dtype).itemsize)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for column in range(columns):
            archive.writestr(f"a{column}.npy", array)
    return path


def small_inputs(tmp_path):
    """Files below 1 MB that want to be large: what is in them, and how they are called."""
    opcodes = b"\x80\x02]" + b"(0" * 15_000_000 + b"."
    with zipfile.ZipFile(tmp_path / "o.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", opcodes)
    yield tmp_path / "o.pt"
    yield save(tmp_path / "p.pkl", [0] * 450_000)
    yield save(tmp_path / "a.csv", "label,label_noisy\n9998,9998\n9998,9997\n")
    yield save(tmp_path / "b.csv", "0\n" * 499_000)
    yield bomb(tmp_path, "c.npz", "|i1", 30_000_000)
    yield bomb(tmp_path, "d.npz", "<i8", 4_000_000)
    yield bomb(tmp_path, "e.npz", "|u1", 4_000_000, columns=10)
    yield save(tmp_path / "h.pkl", dict(enumerate([0] * 50_000)))
    many = ",".join(f"c{number}" for number in range(50_000))
    yield save(tmp_path / "i.csv", f"{many}\n{many.replace('c', '')}\n")
    twice: list[object] = []
    for _ in range(40):
        twice = [twice, twice]  # whoever prints it never ends
    yield save(tmp_path / "a.pkl", pickle.dumps([twice]))
    yield save(tmp_path / "b.pkl", pickle.dumps({i * (2**61 - 1): 0 for i in range(20_000)}))
    yield save(tmp_path / "f.json", "[" + "[]," * 300_000 + "0]")
    names = [{"id": number, "name": str(number)} for number in range(20_000)]
    coco = {"images": [], "categories": names, "annotations": [{"id": 1, "category_id": 3}]}
    yield save(tmp_path / "g.json", json.dumps(coco))


@pytest.mark.training
def test_small_files_take_little_memory_and_time(tmp_path):
    code = """
import resource, sys, time
from shared.__main__ import main
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    start = time.process_time()
    commands = [["info", path], ["convert", path, path + ".npz"]]
    if path.endswith("g.json"):
        commands += [["compare", path, path]]
    for command in commands:
        main(["noise", *command])
    seconds = time.process_time() - start
    print("USED", path, round(seconds, 2), flush=True)
    assert seconds < 2, (path, seconds)
print("MEMORY", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""
    paths = [str(path) for path in small_inputs(tmp_path)]
    assert all(Path(path).stat().st_size < 1_200_000 for path in paths)
    done = subprocess.run(
        [sys.executable, "-c", code, *paths],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout[-500:]
    assert int(done.stdout.rpartition("MEMORY")[2]) < 256, done.stdout[-2000:]


def test_columns_are_limited_together(tmp_path):
    path = bomb(tmp_path, "a.npz", "|i1", 1_000_000, columns=40)
    with pytest.raises(NoiseFileError, match="unpacks to above 32 MiB"):
        external.rates(path)
    with pytest.raises(NoiseFileError, match="unpacks to above 32 MiB"):
        read_any(path)


def test_a_compressed_file_of_many_opcodes_is_refused_early(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02]" + b"K\x00a" * 600_000 + b".")
    with pytest.raises(NoiseFileError, match="more than 1,000,000 opcodes"):
        read_any(tmp_path / "a.pt")


def test_a_pipe_is_refused(tmp_path, capsys):
    import os

    os.mkfifo(tmp_path / "pipe")
    for command in (["info"], ["compare", str(tmp_path / "pipe")]):
        assert main(["noise", *command, str(tmp_path / "pipe")]) == 2
        assert "not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "shape", [b"(True,)", b"(1.0,)", b"(-1,)", b"('1',)", b"(" + b"1," * 70 + b")"]
)
def test_odd_shapes_in_a_header_are_refused(tmp_path, shape):
    head = b"{'descr': '<i8', 'fortran_order': False, 'shape': " + shape + b", }\n"
    data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(8)
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(NoiseFileError, match="header"):
        read_any(tmp_path / "a.npy")


def test_a_name_cannot_command_the_terminal(tmp_path, capsys):
    evil = "\x1b[2J\x1b[31mX\x9b\u202e"
    categories = [{"id": 1, "name": evil}, {"id": 2, "name": "b"}]
    coco = {"images": [], "categories": categories}
    for name, ids in (("a.json", (1, 2)), ("b.json", (2, 2))):
        found = [{"id": row, "category_id": category} for row, category in enumerate(ids, 1)]
        save(tmp_path / name, {**coco, "annotations": found})
    save(tmp_path / "c.npz", {f"{evil}1": NOISY, f"{evil}2": NOISY})
    save(tmp_path / "d.csv", f"{evil},label\n1,2\n")
    noise_file.write(tmp_path / "e.npz", noise_file.make(NOISY, kind=evil, dataset=evil))
    for command in (
        ["info", "a.json"],
        ["compare", "a.json", "b.json"],
        ["info", "c.npz"],
        ["info", "c.npz:none"],
        ["convert", "c.npz", "x.csv"],
        ["info", "d.csv"],
        ["info", "e.npz"],
        ["info", evil],
        ["add", "e.npz", "--kind", "uniform", "--rate", "0.1", "--out", "x.npz"],
    ):
        files = [
            str(tmp_path / word) if "." in word and word != "0.1" else word for word in command
        ]
        main(["noise", *files])
        printed = capsys.readouterr()
        text = printed.out + printed.err
        assert all(c.isprintable() or c == "\n" for c in text), command
        assert "\\x1b[2J" in text or command[0] == "add" or command[1] == "d.csv"


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_large_files_of_bytes_are_no_labels(tmp_path, ending):
    many = np.zeros(safe_arrays.MAX_LABELS + 1, np.int8)
    if ending == "npy":
        np.save(tmp_path / "a.npy", many)
    else:
        np.savez(tmp_path / "a.npz", noisy_labels=many, header=np.array("{}"))
    tracemalloc.start()
    try:
        with pytest.raises(NoiseFileError, match="more than 33,554,432"):
            read_any(tmp_path / f"a.{ending}")
        assert tracemalloc.get_traced_memory()[1] < 3 * many.nbytes
    finally:
        tracemalloc.stop()


def test_labels_are_held_once(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(2_000_000, np.int8))
    tracemalloc.start()
    try:
        found = read_any(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 1.5 * found.noisy_labels.nbytes
    finally:
        tracemalloc.stop()
