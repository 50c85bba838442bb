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
from PIL import Image

from shared.formats.external import write_any
from shared.formats.noise_file import read
from tests.proof import digest
from tests.proof.process import Ended, call, run
from tests.proof.projects import RUN, SMALL_DIGITS, Project, fresh, noise_and_features
from tests.proof.report import Row

KINDS = ("png", "jpeg")  # of pictures, in folders of these names
AGAIN = "again"  # the run folder of what does not resume
FEW = 2
SAME, REFUSED, OTHER = "ended as without", "refused", "became another run"


@dataclass(frozen=True)
class Case:
    """files: a pattern; one of them is damaged. flags: more than the run has, which read it.

    Without flags the run in the folder is resumed, else a short one begins. Files that are not
    there are made by such a run. has_checksum: of its format; alone: the flags are all there are;
    script: another one than the project's.
    """

    what: str
    files: str
    flags: tuple[str, ...] = ()
    has_checksum: bool = False
    alone: bool = False
    script: str = ""


LOG = Case("metrics.jsonl", f"{RUN}/metrics.jsonl")
RESUMED = (Case("last.ckpt", f"{RUN}/last.ckpt", has_checksum=True), LOG)
CONFIG = Case("config.yaml", f"{RUN}/config.yaml", ("--config", f"{RUN}/config.yaml"), alone=True)
SET = "mask_rcnn_tiny_shapes_ce.py"
SHAPES = "shapes/annotations/instances_{}.json"
CACHE = "cache"
ENCODER = "SimCLR_128_digits.pt"
OWN = ("--dataset", "folder", "--data_path")
CE = (  # of re_sln
    *("--method", "ce", "--batch_size", "5", "--depth", "10", "--width", "1"),
    *("--device", "cpu"),
)
SLN_DIGITS = ("--dataset_name", "digits", *SMALL_DIGITS, *CE)
SLN_OWN = ("--dataset_name", "folder", *CE, "--data_path")
LRA = (
    *("--batch_size", "10", "--diff_encoder", "resnet18", "--feature_dim", "8", "--width", "4"),
    *("--warmup_epochs", "1", "--fp_encoder", "SimCLR", "--fp_weights", ENCODER, "--amp", "off"),
    *("--device", "cpu", "--cache_dir", CACHE),
)
LRA_DIGITS = ("--dataset", "digits", "--noise_file", "noise.npz", "--cut_labels", *SMALL_DIGITS)
IEG_OWN = ("--dataset=folder", "--batch_size=5")


def noise(ending: str, *flags: str, alone: bool = False) -> Case:
    """flags: the last one takes the file. Formats that are zip archives have checksums."""
    *others, last = flags
    file = (f"{last}noise.{ending}",) if last.endswith("=") else (last, f"noise.{ending}")
    is_archive = ending in ("npz", "pt")
    return Case(f"noise.{ending}", f"noise.{ending}", (*others, *file), is_archive, alone)


def pictures(*flags: str, alone: bool = False) -> tuple[Case, Case]:
    """flags: the last one takes the folder."""
    *others, last = flags
    return tuple(
        Case(
            f"a picture ({kind.upper()})",
            f"{kind}/*/*/*.{kind}",
            (*others, *((f"{last}{kind}",) if last.endswith("=") else (last, kind))),
            has_checksum=kind == "png",
            alone=alone,
        )
        for kind in KINDS
    )


CASES = {
    "instancegm": (
        *RESUMED,
        CONFIG,
        noise("npz", "--noise_file"),
        *(noise(ending, "--r", "0.35", "--noise_file") for ending in ("pt", "json")),  # measured
        *pictures(*OWN),
        Case("labels.csv", "labels.csv", (*OWN, "png/train", "--labels", "labels.csv")),
        Case(
            "weights to start from",
            "weights.pth",
            (
                *(*OWN, "png", "--pretrained", "imagenet", "--weights", "weights.pth"),
                *("--width", "8", "--batch_size", "8", "--warm_up", "1", "--device", "cpu"),
            ),
            has_checksum=True,
            alone=True,
            script="instanceGM_animal10N.py",
        ),
    ),
    "re_sln": (
        *RESUMED,
        CONFIG,
        *(noise(ending, *SLN_DIGITS, "--noise_file", alone=True) for ending in ("npz", "csv")),
        *pictures(*SLN_OWN, alone=True),
        Case(
            "kept pictures",
            f"{CACHE}/*/images.npy",
            (*SLN_OWN, "png", "--cache_dir", CACHE),
            alone=True,
        ),
    ),
    "lra_diffusion": (
        *RESUMED,
        CONFIG,
        *(noise(ending, "--noise_file") for ending in ("npz", "npy")),
        Case("features (.npy)", "train.npy", ("--fp_embed_train", "train.npy")),
        *pictures(*LRA, *OWN, alone=True),
        Case("weights of the encoder", ENCODER, (*LRA_DIGITS, *LRA), True, alone=True),
        Case("kept features", f"{CACHE}/*.safetensors", (*LRA_DIGITS, *LRA), True, alone=True),
    ),
    "ieg_fsr": (
        Case("newest checkpoint", f"{RUN}/checkpoint.ckpt-45.*", has_checksum=True),
        LOG,
        CONFIG,
        *(noise(ending, "--dataset=file_digits", "--noise_file=") for ending in ("npz", "csv")),
        *pictures(*IEG_OWN, "--dataset_dir="),
        Case(
            "labels.csv",
            "labels.csv",
            (*IEG_OWN, "--dataset_dir=png/train", "--labels=labels.csv", "--val_fraction=0.2"),
        ),
        Case(
            "kept pictures",
            f"{CACHE}/*/images.npy",
            (*IEG_OWN, "--dataset_dir=png", "--cache_dir=cache"),
        ),
    ),
    "noisy_instseg": (
        Case("newest checkpoint", f"{RUN}/epoch_3.pth", has_checksum=True),
        LOG,
        Case("the run's config", f"{RUN}/{SET}", (f"{RUN}/{SET}", "--device", "cpu"), alone=True),
        Case("annotations", SHAPES.format("train"), ("--noise_file", SHAPES.format("train"))),
        Case("annotations to test on", SHAPES.format("val"), ("--data_root", "shapes")),
        Case("a picture (PNG)", "shapes/train/*.png", ("--data_root", "shapes"), True),
        Case("a picture (JPEG)", "jpeg/train/*.jpg", ("--data_root", "jpeg")),
        Case(
            "weights to start from",
            f"{RUN}/epoch_3.pth",
            ("--cfg-options", f"load_from={RUN}/epoch_3.pth"),
            has_checksum=True,
        ),
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
    """A row for each file of a project; of FEW of them for a single try."""
    words, whole = project.command(scratch / "inputs"), fresh(scratch / "whole")
    done = run(words, whole)
    if done.status:
        return [Row(f"{project.name}: damaged files", 0, (done.errors[-500:],))]
    add_inputs(project, whole, scratch / "inputs")
    rows, cases = [], CASES[project.name]
    for case in cases if tries > 1 else random.Random(seed).sample(cases, FEW):
        (python, script), flags = words[:2], words[2:]
        script = str(Path(script).with_name(case.script)) if case.script else script
        more = [*case.flags, *SHORT[project.name]] if case.flags else []
        command = [python, script, *([] if case.alone else flags), *more]
        if not list(whole.glob(case.files)):
            run(command, whole)
            shutil.rmtree(whole / AGAIN, ignore_errors=True)
        draw = random.Random(f"{seed} {project.name} {case.what}")
        rows.append(damaged(project, case, command, tries, draw, whole))
    return rows


def add_inputs(project: Project, folder: Path, inputs: Path) -> None:
    """What the cases read, beside the finished run."""
    shutil.copytree(inputs, folder, dirs_exist_ok=True)
    if project.name == "noisy_instseg":
        return add_jpegs(folder)
    noise_and_features(folder)
    labels = read(folder / "noise.npz")
    for ending in ("pt", "csv", "npy", "json"):
        write_any(folder / f"noise.{ending}", labels)
    draw, table = np.random.default_rng(0), ["filename,label"]
    for split, count in (("train", 10), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                pixels = draw.integers(100 * label, 100 * label + 90, (32, 32, 3), dtype=np.uint8)
                for kind in KINDS:
                    path = folder / kind / split / name / f"{number}.{kind}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
                table += [f"{name}/{number}.png,{name}"] * (split == "train")
    (folder / "labels.csv").write_text("\n".join(table) + "\n")
    call(lambda: add_weights(project.name, folder))


def add_jpegs(folder: Path) -> None:
    """The shapes once more, as JPEG."""
    for path in (folder / "shapes").rglob("*.*"):
        copy = folder / "jpeg" / path.relative_to(folder / "shapes")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.open(path).save(copy.with_suffix(".jpg"))
        else:
            copy.write_text(path.read_text().replace(".png", ".jpg"))


def add_weights(project: str, folder: Path) -> None:
    """Random ones of small networks, where a case reads weights."""
    if project == "instancegm":
        import torch

        from instancegm.method.networks import build_classifier

        torch.save(build_classifier("vgg19_bn", 2, 8).state_dict(), folder / "weights.pth")
    elif project == "lra_diffusion":
        import torch

        from lra_diffusion.encoders.networks import SimCLRNet

        torch.save(SimCLRNet("resnet18", 4).state_dict(), folder / ENCODER)


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
