"""The flags of the tools that look at finished runs, as run/config.py has those of training."""

# ruff: noqa: RUF009 - the calls make fields, and no values

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from noisy_instseg.run.config import TRAINING_DATA, VALIDATION_DATA, Settings
from noisy_instseg.run.flags import added, offered, parse, positional
from shared.coco.noise import KINDS
from shared.errors import UserError

METHODS = {  # nl first: ce uses its stage 1
    "nl": "two stages: CE, then NewCombinationLoss",
    "ce": "CE",
    "sce": "SCE",
    "gce": "GCE",
}
DECIDED_BY_STUDY = {
    "--noise_file",
    "--seed",
    "--work-dir",
    "--resume",
    "--resume-from",
    "--no-validate",
}


@dataclass(frozen=True, kw_only=True)
class CompareFlags:
    """A table of the mask AP of several runs, and their curves."""

    EXAMPLE: ClassVar = (
        "compare.py work_dirs/mask_rcnn_tiny_shapes_ce work_dirs/mask_rcnn_tiny_shapes_nl_2"
    )
    runs: tuple[Path, ...] = positional(
        "run folders of train.py or train_stages.py", metavar="WORK_DIR"
    )
    plot: Path | None = added("write a picture of the curves", metavar="PNG")


@dataclass(frozen=True, kw_only=True)
class FindNoisyFlags:
    """Judge the class labels of a training file by the loss of a trained model: a table in the
    order of the file, low label_quality is suspicious; and better annotations, if asked for.
    """

    EXAMPLE: ClassVar = (
        "find_noisy.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py "
        "work_dirs/mask_rcnn_tiny_shapes_nl_2/epoch_12.pth --noise_file "
        "../data/shapes/annotations/train_sn40.json"
    )
    config: Path = positional("config that the model was trained with")
    checkpoint: Path = positional("its checkpoint, such as epoch_12.pth")
    settings: Settings = offered(*TRAINING_DATA, "device")
    manifest: Path | None = added(
        "which labels are wrong, as noisy_labels_*.py wrote it (the annotation file's name with "
        ".manifest.json, if that exists)"
    )
    out: Path | None = added(
        "the table to write, with cleanlab's columns (label_quality.csv beside the checkpoint)",
        metavar="CSV",
    )
    corrected: Path | None = added(
        "write the annotations with the predicted class where the given one is an issue",
        metavar="JSON",
    )
    force: bool = added("overwrite the file of --corrected", False)
    save_probs: Path | None = added(
        "write the probabilities of all classes, as cleanlab takes them", metavar="NPZ"
    )
    plot: Path | None = added("write a picture of how the losses are spread", metavar="PNG")


@dataclass(frozen=True, kw_only=True)
class PicturesFlags:
    """A page of validation images: the ground truth, and what each model finds."""

    EXAMPLE: ClassVar = (
        "pictures.py configs/shapes/mask_rcnn_tiny_shapes_ce.py clean.pth noisy.pth "
        "--names clean noisy --out page.png"
    )
    config: Path = positional("config of the network and the data; the loss may be another one")
    checkpoints: tuple[Path, ...] = positional("one column each", metavar="CHECKPOINT")
    settings: Settings = offered(*VALIDATION_DATA, "device")
    names: tuple[str, ...] = added(
        "titles of the columns (folder and name of the checkpoints)", (), metavar="NAME"
    )
    images: int = added("how many images, evenly spread over the validation set (4)", 4)
    score_thr: float = added("lowest score of a prediction that is painted (0.3)", 0.3)
    out: Path = added("the picture to write", required=True, metavar="PNG")

    def __post_init__(self) -> None:
        if self.names and len(self.names) != len(self.checkpoints):
            raise UserError(
                f"--names: {len(self.names)} names for {len(self.checkpoints)} checkpoints; give "
                "one each"
            )
        if self.images < 1:
            raise UserError(f"--images {self.images}: must be at least 1")
        if not 0 <= self.score_thr <= 1:
            raise UserError(f"--score_thr {self.score_thr:g}: scores lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class RobustnessFlags:
    """Mask AP by noise rate: make the noise, train every method at every rate and seed, write
    OUT/robustness.csv and OUT/robustness.png. Re-running the command resumes it. Flags after --
    go to every tools/train.py, such as -- --data_root data/mine --device cpu.
    """

    EXAMPLE: ClassVar = (
        "robustness.py --dataset-config configs/shapes/mask_rcnn_tiny_shapes "
        "--ann ../data/shapes/annotations/instances_train.json --rates 0 0.2 0.4 --out robustness"
    )
    dataset_config: Path | None = added(
        "path of the configs up to _ce.py, _nl_1.py and so on; a folder named cityscapes, coco or "
        "voc means the noise of that dataset, else that of coco_format",
        None,
        "--dataset-config",
        metavar="FAMILY",
    )
    ann: Path | None = added("clean COCO annotations of the training set", metavar="TRAIN.json")
    rates: tuple[float, ...] = added("noise rates in [0, 1] (0 0.2 0.4 0.6)", (0.0, 0.2, 0.4, 0.6))
    kind: str = added("kind of noise (%(default)s)", KINDS[0], choices=KINDS)
    seeds: tuple[int, ...] = added("seeds, of noise and training (0)", (0,))
    methods: tuple[str, ...] = added(
        "ce, nl: the paper's two stages, sce, gce (ce nl)", ("ce", "nl"), choices=sorted(METHODS)
    )
    out: Path = added("folder of the runs, the noise and the results", required=True, metavar="DIR")
    plot_only: bool = added("only draw OUT/robustness.csv again", False, "--plot-only")
    train_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.plot_only and (self.dataset_config is None or self.ann is None):
            raise UserError(
                "--dataset-config FAMILY and --ann TRAIN.json are needed, except with --plot-only"
            )
        if bad := [rate for rate in self.rates if not 0 <= rate <= 1]:
            raise UserError(f"--rates {bad[0]:g}: a noise rate lies in [0, 1]")
        if seeds := [seed for seed in self.seeds if not 0 <= seed < 2**32]:
            raise UserError(f"--seeds {seeds[0]}: must be in [0, 2^32)")
        if clash := DECIDED_BY_STUDY & {word.split("=", 1)[0] for word in self.train_flags}:
            raise UserError(
                f"{min(clash)} behind --: robustness.py decides that itself; leave it out"
            )


def parse_robustness(argv: Sequence[str] | None = None) -> RobustnessFlags:
    """The flags before `--`, and as `train_flags` those behind it."""
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    return parse(RobustnessFlags, words[:end], train_flags=tuple(words[end + 1 :]))
