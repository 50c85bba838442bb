"""The five projects as the proof runs them: a tiny run of the real script, from an empty folder.

    project = PROJECTS["re_sln"]
    project.inputs(inputs)                              # made once
    words = project.command(inputs, "bfloat16")         # the same command starts and resumes
    subprocess.run(words, cwd=folder, env=environment())

Every run writes to the folder `run` below the one it is started from; what the published scripts
write elsewhere lands beside it. Nothing of a project is imported here.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RUN = "run"
SMALL_DIGITS = ("--limit_train", "96", "--limit_test", "40")


def fresh(folder: Path) -> Path:
    """A new folder."""
    folder.mkdir()
    return folder


def environment(**more: str) -> dict[str, str]:
    """One thread, no GPU, no settings of the user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DATA_")}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **more,
    }


@dataclass(frozen=True)
class Project:
    """flags: what follows the script, of the made inputs; precisions: name -> more flags.

    of_ranks: more flags of one of several processes.
    """

    name: str
    script: str
    flags: Callable[[Path], Sequence[str]]
    precisions: Mapping[str, Sequence[str]]
    inputs: Callable[[Path], None] = lambda folder: None
    of_ranks: Sequence[str] = ()

    @property
    def python(self) -> Path:
        return ROOT / ".venv" / self.name / "bin" / "python"

    def command(self, inputs: Path, precision: str = "float32") -> list[str]:
        """The words that start a run, or resume it."""
        start = [str(self.python), str(ROOT / self.name / self.script)]
        return [*start, *self.flags(inputs), *self.precisions[precision]]


# ---- inputs


def noise_and_features(folder: Path) -> None:
    """A noise file of the digits, and 64 pixels of each as its feature."""
    from shared import datasets
    from shared.__main__ import main

    words = ["--kind", "symmetric", "--rate", "0.4", "--out", str(folder / "noise.npz")]
    with redirect_stdout(StringIO()):
        status = main(["noise", "make", "--dataset", "digits", *words])
    if status:
        raise RuntimeError("no noise file")
    data = datasets.load("digits")
    for name, images in (("train", data.train_images), ("test", data.test_images)):
        pixels = images[:, ::4, ::4, 0].reshape(len(images), 64).astype(np.float32) / 255
        np.save(folder / f"{name}.npy", pixels)


def few_shapes(folder: Path) -> None:
    from shared.datasets import shapes

    shapes.write(folder / "shapes", train=8, val=4, size=64, seed=1)


# ---- the projects

AMP = {"float32": ("--amp", "off"), "bfloat16": ("--amp", "bf16")}
PROJECTS = {
    project.name: project
    for project in (
        Project(
            "instancegm",
            "instanceGM.py",
            lambda _: (
                *("--dataset", "digits", "--r", "0.4", *SMALL_DIGITS, "--width", "4"),
                *("--batch_size", "16", "--num_epochs", "5", "--warm_up", "1"),
                *("--device", "cpu", "--resume", "--output_dir", RUN),
            ),
            AMP,
        ),
        Project(
            "re_sln",
            "train_cifar.py",
            lambda _: (
                *("--dataset_name", "digits", "--noise_mode", "sym", "--p", "0.4", *SMALL_DIGITS),
                *("--batch_size", "32", "--n_epochs", "12", "--method", "sln_mo_lc"),
                *("--lc_n_epoch", "3", "--device", "cpu", "--resume", "--output_dir", RUN),
            ),
            AMP,
        ),
        Project(
            "lra_diffusion",
            "train_CIFAR.py",
            lambda inputs: (
                *("--dataset", "digits", "--noise_file", str(inputs / "noise.npz")),
                *("--fp_embed_train", str(inputs / "train.npy")),
                *("--fp_embed_test", str(inputs / "test.npy")),
                *("--cut_labels", "--limit_train", "100", "--limit_test", "30", "--nepoch", "12"),
                *("--batch_size", "25", "--feature_dim", "16", "--width", "4"),
                *("--warmup_epochs", "1", "--device", "cpu", "--resume", "--output_dir", RUN),
            ),
            AMP,
            noise_and_features,
        ),
        Project(
            "ieg_fsr",
            "ieg/main.py",
            lambda _: (
                *("--dataset=digits_uniform_0.4", "--network_name=wrn10-1", "--method=fsr"),
                *("--meta_start_epoch=1", "--limit_train=200", "--limit_test=50"),
                *("--batch_size=20", "--queue_capacity=40", "--queue_bs=20"),
                *("--max_iteration=45", "--eval_freq=3", f"--output_dir={RUN}"),
            ),
            {"float32": (), "bfloat16": ("--mixed_precision",)},
        ),
        Project(
            "noisy_instseg",
            "tools/train.py",
            lambda inputs: (
                str(ROOT / "noisy_instseg/configs/shapes/mask_rcnn_tiny_shapes_ce.py"),
                *("--data_root", str(inputs / "shapes"), "--work-dir", RUN, "--resume"),
                *("--device", "cpu", "--cfg-options", "train_cfg.max_epochs=3"),
                "train_dataloader.dataset.times=1",
            ),
            {"float32": ()},  # bfloat16 is refused without a GPU
            few_shapes,
            of_ranks=("--launcher", "pytorch"),
        ),
    )
}
