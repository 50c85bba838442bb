"""Mutated noise and annotation files: each is read or refused, in little memory and time.

Bytes are flipped, cut, repeated and replaced, numbers and text become extreme ones; members of zip
archives are mutated inside a whole archive too, so that their checksum does not catch them.
"""

import contextlib
import io
import json
import pickle
import random
import re
import tempfile
import zipfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from shared.errors import UserError
from tests.proof import reading
from tests.proof.projects import ROOT
from tests.proof.report import Row

EXTREME_BYTES = (
    b"\x00" * 8,
    b"\xff" * 8,
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\x7f",
    b"(0" * 9,
)
EXTREME_WORDS = (
    *(b"-1", b"0", b"1e999", b"-0.0", b"NaN", b"99999999999", b"9" * 400, b"true", b"null", b'""'),
    *(b"[]", b"{}", b"[" * 5000, b'{"a":' * 3000, b'"\\ud800"', b"\x00", b"\xff\xfe", b",", b"1,2"),
    *(b"9223372036854775807", b"-9223372036854775809", b"1" * 5000, b"\n" * 2000, b"\x1b[2J"),
)
WORD = re.compile(rb'"[^"]*"|-?[\w.+]+|[\[\]{},:\n]')
SAMPLES = 300
LEGACY_SYSTEM = {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


# ---- how


def mutate(data: bytes, draw: random.Random) -> bytes:
    """The file with one to four changes."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        if data.startswith(b"PK") and draw.random() < 0.7:
            data = inside_archive(data, draw)
        elif data[:1] in b"[{" or data[:5].isalpha():
            data = draw.choice((words, words, words, flip, cut, repeat))(data, draw)
        else:
            data = draw.choice((flip, flip, extreme, extreme, cut, repeat, words))(data, draw)
    return data


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 8)) if data else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def extreme(data: bytes, draw: random.Random) -> bytes:
    # Headers are short, so half of the changes are near the beginning.
    place = draw.randrange(len(data[:200]) + 1 if draw.random() < 0.5 else len(data) + 1)
    value = draw.choice(EXTREME_BYTES)
    return data[:place] + value + data[place + len(value) :]


def cut(data: bytes, draw: random.Random) -> bytes:
    begin = draw.randrange(len(data) + 1)
    end = draw.choice((len(data), begin + draw.randrange(40)))
    return data[:begin] + data[end:]


def repeat(data: bytes, draw: random.Random) -> bytes:
    begin = draw.randrange(len(data) + 1)
    piece = data[begin : begin + draw.randrange(200)]
    return data[:begin] + piece * draw.choice((2, 50)) + data[begin:]


def words(data: bytes, draw: random.Random) -> bytes:
    """One word or sign of a text, or of a header, becomes an extreme one."""
    places = [match.span() for match in WORD.finditer(data)]
    begin, end = draw.choice(places) if places else (0, 0)
    return data[:begin] + draw.choice(EXTREME_WORDS) + data[end:]


def inside_archive(data: bytes, draw: random.Random) -> bytes:
    """Changes a member, which is then packed again as it should be; of a torn archive, bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return flip(data, draw)
    chosen = draw.choice(list(members)) if members else "a.npy"
    change = draw.choice((flip, extreme, words, cut, repeat))
    members[chosen] = change(members.get(chosen, b""), draw)
    if draw.random() < 0.1:
        members[draw.choice(("header.npy", "b.npy", "archive/data.pkl"))] = b"\x80\x02]."
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw.choice((0, 8))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


# ---- of what


def noise_files(folder: Path) -> dict[str, bytes]:
    """A whole file of each format that `noise info` reads: its name -> its bytes."""
    from shared.coco import noise as coco_noise
    from shared.datasets import shapes
    from shared.formats import external, noise_file, torch_file
    from shared.noise import symmetric

    clean = np.arange(SAMPLES) % 10
    noisy = symmetric(clean, 0.3, 10, np.random.default_rng(0), include_true_class=False)
    labels = noise_file.make(noisy, clean_labels=clean, dataset="digits", num_classes=10)
    columns = {"clean_label": clean, "worse_label": noisy, "random_label1": clean[::-1].copy()}
    files = {f"ours.{end}": external.encode_any(labels, end) for end in external.FORMATS}
    for name, save in (("columns.npz", np.savez), ("packed.npz", np.savez_compressed)):
        stream = io.BytesIO()
        save(stream, **columns)  # type: ignore[arg-type]
        files[name] = stream.getvalue()
    stream = io.BytesIO()
    np.save(stream, np.array(columns, object))
    files["cifar_n.npy"] = stream.getvalue()
    for protocol in (2, 4):
        files[f"columns{protocol}.pkl"] = pickle.dumps(columns, protocol)
        files[f"list{protocol}.pkl"] = pickle.dumps(noisy.tolist(), protocol)
    files["cifar_n.pt"] = zipped_pickle(columns)
    files["legacy.pt"] = torch_file.LEGACY_START + b"".join(
        pickle.dumps(part, 2) for part in (1001, LEGACY_SYSTEM, columns, [])
    )
    files["pair.json"] = json.dumps([noisy.tolist(), list(range(SAMPLES))]).encode()
    files["columns.json"] = json.dumps({k: v.tolist() for k, v in columns.items()}).encode()
    tasks = [
        {
            "id": row,
            "data": {"image": "a.png", "index": row, "class_names": '["a", "b"]'},
            "annotations": [
                {"result": [{"from_name": "label", "type": "choices", "value": {"choices": ["b"]}}]}
            ],
        }
        for row in range(20)
    ]
    files["reviewed.json"] = json.dumps(tasks).encode()
    files["reviewed.csv"] = b"image,index,class_names,label\n" + b"".join(
        b'a.png,%d,"[""a"", ""b""]",b\n' % row for row in range(20)
    )
    shapes.write(folder / "shapes", train=8, val=4, size=64, seed=1)
    annotations = folder / "shapes/annotations/instances_train.json"
    files["coco.json"] = annotations.read_bytes()
    files["manifest.json"] = manifest(annotations, folder / "noisy.json", coco_noise.KINDS[0])
    return files


def zipped_pickle(value: object) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, 2))
        archive.writestr("archive/version", b"3\n")
    return stream.getvalue()


def manifest(annotations: Path, out: Path, kind: str) -> bytes:
    from shared.__main__ import main

    words = ["--dataset", "coco_format", "--kind", kind, "--rate", "0.3", "--format", "coco"]
    with contextlib.redirect_stdout(io.StringIO()):
        status = main(["noise", "make", *words, "--ann", str(annotations), "--out", str(out)])
    if status:
        raise RuntimeError("no manifest")
    return out.with_suffix(".manifest.json").read_bytes()


# ---- each is read


def noise_part(tries: int, seed: int) -> list[Row]:
    """A row for each format."""
    from shared.__main__ import build_parser

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = noise_files(folder)

        def info(path: Path) -> Callable[[], object]:
            args = build_parser().parse_args(["noise", "info", str(path)])
            return lambda: args.run(args)

        return read_mutated(files, folder, info, tries, seed, "noise info")


def read_mutated(
    files: dict[str, bytes],
    folder: Path,
    action: Callable[[Path], Callable[[], object]],
    tries: int,
    seed: int,
    what: str,
) -> list[Row]:
    """Reads so many mutated files, and first the whole ones, which must be accepted."""
    for name, data in files.items():  # so that everything is imported before a process is forked
        (folder / f"mutated.{name}").write_bytes(data)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(UserError):
            action(folder / f"mutated.{name}")()
    baseline, rows = reading.baseline(), []
    counts = dict.fromkeys(files, 0)
    for name in islice(cycle(files), tries):
        counts[name] += 1
    for name, data in files.items():
        path, draw = folder / f"mutated.{name}", random.Random(f"{seed} {name}")
        whole = reading.read(action(path), baseline)
        failures = [] if whole.accepted else [f"the whole file is not read: {whole.problem}"]
        outcomes = [whole]
        for number in range(counts[name]):
            path.write_bytes(mutate(data, draw))
            outcomes.append(reading.read(action(path), baseline))
            if outcomes[-1].problem:
                failures.append(f"mutation {number}: {outcomes[-1].problem}")
        accepted = sum(one.accepted for one in outcomes[1:])
        most = max(one.megabytes for one in outcomes), max(one.seconds for one in outcomes)
        remarks = f"{accepted} read, {most[0]:.0f} MB and {most[1]:.2f} s at most"
        rows.append(Row(f"{what} {name}", counts[name], tuple(failures), remarks))
    return rows


# ---- training sets of noisy_instseg, in its environment


def training_sets(tries: int, seed: int) -> list[Row]:
    from mmengine.config import Config

    from noisy_instseg.run import data_checks
    from noisy_instseg.run.datasets import parts_of
    from shared.datasets import shapes

    with tempfile.TemporaryDirectory() as scratch:
        folder = shapes.write(Path(scratch, "shapes"), train=8, val=4, size=64, seed=1)
        config = ROOT / "noisy_instseg/configs/shapes/mask_rcnn_tiny_shapes_ce.py"
        cfg = Config.fromfile(config, import_custom_modules=False)

        def check(path: Path) -> Callable[[], object]:
            for part in parts_of(cfg, ("train",)):
                part.settings.update(data_root=f"{folder}/", ann_file=str(path))
            return lambda: data_checks.check(cfg, ("train",))

        data = (folder / "annotations/instances_train.json").read_bytes()
        where = Path(scratch)
        return read_mutated({"coco.json": data}, where, check, tries, seed, "noisy_instseg's check")
