"""One flipped bit in a file that a run reads: an answer in words, or a result that stays the same.

Where the format has checksums (checkpoints, .npz, PNG), the run must refuse the file, skip it, or
end as it would have with the whole one, when the bit meant nothing. Text and plain arrays have
none: such a run may become another one, which is counted, but may not end with a traceback.
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.proof import digest
from tests.proof.process import Ended, call, run
from tests.proof.projects import RUN, SMALL_DIGITS, Project, fresh
from tests.proof.report import Row

AGAIN = "again"  # the run folder of what does not resume
SAME, REFUSED, OTHER = "ended as without", "refused", "became another run"


@dataclass(frozen=True)
class Case:
    """files: a pattern; one of them is damaged. flags: more than the run has, which read it.

    Without flags the run in the folder is resumed, else a short one begins. has_checksum: of its
    format; alone: the flags are all there are.
    """

    what: str
    files: str
    flags: tuple[str, ...] = ()
    has_checksum: bool = False
    alone: bool = False


LOG = Case("metrics.jsonl", f"{RUN}/metrics.jsonl")
RESUMED = (Case("last.ckpt", f"{RUN}/last.ckpt", has_checksum=True), LOG)
CONFIG = Case("config.yaml", f"{RUN}/config.yaml", ("--config", f"{RUN}/config.yaml"), alone=True)
NOISE = Case("noise.npz", "noise.npz", ("--noise_file", "noise.npz"), has_checksum=True)
SET = "mask_rcnn_tiny_shapes_ce.py"
PICTURES = "pictures/*/*/*.png"
CE = ("--method", "ce", "--batch_size", "5", "--device", "cpu")  # of re_sln
ANNOTATIONS = "shapes/annotations/instances_train.json"


def picture(*flags: str, files: str = PICTURES) -> Case:
    return Case("a picture (PNG)", files, flags, has_checksum=True)


CASES = {
    "instancegm": (
        *RESUMED,
        CONFIG,
        NOISE,
        picture("--dataset", "folder", "--data_path", "pictures"),
    ),
    "re_sln": (
        *RESUMED,
        CONFIG,
        Case(
            "noise.npz",
            "noise.npz",
            ("--dataset_name", "digits", "--noise_file", "noise.npz", *SMALL_DIGITS, *CE),
            has_checksum=True,
            alone=True,
        ),
        Case(
            "a picture (PNG)",
            PICTURES,
            ("--dataset_name", "folder", "--data_path", "pictures", *CE),
            has_checksum=True,
            alone=True,
        ),
    ),
    "lra_diffusion": (
        *RESUMED,
        CONFIG,
        NOISE,
        Case("features (.npy)", "train.npy", ("--fp_embed_train", "train.npy")),
    ),
    "ieg_fsr": (
        Case("newest checkpoint", f"{RUN}/checkpoint.ckpt-45.*", has_checksum=True),
        LOG,
        CONFIG,
        Case("noise.npz", "noise.npz", ("--dataset=file", "--noise_file=noise.npz"), True),
        picture("--dataset=folder", "--dataset_dir=pictures", "--batch_size=5"),
    ),
    "noisy_instseg": (
        Case("newest checkpoint", f"{RUN}/epoch_3.pth", has_checksum=True),
        LOG,
        Case("the run's config", f"{RUN}/{SET}", (f"{RUN}/{SET}", "--device", "cpu"), alone=True),
        Case("annotations", ANNOTATIONS, ("--noise_file", ANNOTATIONS)),
        picture("--data_root", "shapes", files="shapes/train/*.png"),
    ),
}
SHORT = {  # into another folder, for few epochs; flags that come later win
    "instancegm": ("--output_dir", AGAIN, "--num_epochs", "2"),
    "re_sln": ("--output_dir", AGAIN, "--n_epochs", "4"),
    "lra_diffusion": ("--output_dir", AGAIN, "--nepoch", "2"),
    "ieg_fsr": (f"--output_dir={AGAIN}", "--max_iteration=6"),
    "noisy_instseg": ("--work-dir", AGAIN, "--cfg-options", "train_cfg.max_epochs=1"),
}


def part(project: Project, tries: int, seed: int, scratch: Path) -> list[Row]:
    """A row for each file of a project."""
    words, whole = project.command(scratch / "inputs"), fresh(scratch / "whole")
    done = run(words, whole)
    if done.status:
        return [Row(f"{project.name}: damaged files", 0, (done.errors[-500:],))]
    add_inputs(whole, scratch / "inputs")
    rows = []
    for case in CASES[project.name]:
        start, flags = words[:2], words[2:]  # interpreter and script, and the rest
        more = [*case.flags, *SHORT[project.name]] if case.flags else []
        command = [*start, *([] if case.alone else flags), *more]
        draw = random.Random(f"{seed} {project.name} {case.what}")
        rows.append(damaged(project, case, command, tries, draw, whole))
    return rows


def add_inputs(folder: Path, inputs: Path) -> None:
    """What the cases read, beside the finished run."""
    shutil.copytree(inputs, folder, dirs_exist_ok=True)
    if (own := folder / RUN / "noise.npz").exists() and not (folder / "noise.npz").exists():
        shutil.copy(own, folder)
    from PIL import Image

    draw = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 4)):
        for label, kind in enumerate(("cat", "dog")):
            (place := folder / "pictures" / split / kind).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(100 * label, 100 * label + 90, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")


def damaged(
    project: Project,
    case: Case,
    words: Sequence[str],
    tries: int,
    draw: random.Random,
    whole: Path,
) -> Row:
    what = f"{project.name}: a flipped bit in {case.what}"
    result, answers, failures = f"{AGAIN if case.flags else RUN}", [], []
    expected: Any = None
    for number in range(tries + 1):  # at first nothing is damaged
        folder = whole.with_name("copy")
        shutil.copytree(whole, folder)
        place = flip(folder, case.files, draw) if number else ""
        done = run(words, folder)
        found = results(project, folder / result) if done.status == 0 else None
        shutil.rmtree(folder)
        if number == 0:
            if found is None:
                return Row(what, 0, (f"not even the whole file: {done.errors[-500:]}",))
            expected = found
            continue
        answers.append(judged(done, found == expected))
        allowed = (SAME, REFUSED) if case.has_checksum else (SAME, REFUSED, OTHER)
        if answers[-1] not in allowed:
            failures.append(f"{place}: {answers[-1]}, {done.last_line}")
    remarks = ", ".join(f"{answers.count(one)} {one}" for one in dict.fromkeys(sorted(answers)))
    return Row(what, tries, tuple(failures), remarks)


def results(project: Project, folder: Path) -> Any:
    return call(lambda: digest.of(project.name, folder))


def flip(folder: Path, files: str, draw: random.Random) -> str:
    """Flips a bit of one of the files; says where."""
    path = draw.choice(sorted(folder.glob(files)))
    data = bytearray(path.read_bytes())
    place, bit = draw.randrange(len(data)), draw.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"{path.relative_to(folder)}, byte {place}, bit {bit}"


def judged(done: Ended, is_same: bool) -> str:
    if "Traceback" in done.errors:
        return "a traceback"
    if done.status == 0:
        return SAME if is_same else OTHER
    spoke = done.status in (2, 3) and done.errors.strip()
    return REFUSED if spoke else f"status {done.status}"
