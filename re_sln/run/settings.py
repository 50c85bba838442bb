"""The settings of a training, a search and a table as typed fields; each field is its flag too.

A new setting is one field here (flag, type, default and help in one place) and its use.
"""

# ruff: noqa: RUF009  flag() makes a dataclass field

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from re_sln.run.presets import METHODS, NOISE_MODES, REAL_NOISE, name_of_method

TRAINING = ("train_cifar", "train_real")
NOISY = ("train_cifar", "tune")
REAL = ("train_real",)
ALL = (*TRAINING, "tune")


def flag(
    help: str,
    *,
    default: object = None,
    decides: bool = False,
    scripts: Sequence[str] = ALL,
    original: bool = False,
    **of_argparse: Any,
) -> Any:
    """A field of the settings that is a flag too.

    default: None where a preset fills it. decides: a run with another value is another run.
    scripts: which have the flag; for the others it has its default. original: published by re-sln.
    """
    known = {"decides": decides, "scripts": scripts, "original": original, "default": default}
    return field(metadata={**known, "argparse": {"help": help, **of_argparse}})


original_flag = partial(flag, original=True)


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """Which dataset, and where its noisy labels come from.

    noise_mode, p, custom_noise and make_new_custom_noise are None where nobody added noise.
    """

    dataset_name: str = original_flag(
        "what to train on (folder: your own pictures)", decides=True, required=True
    )
    noise_mode: str | None = original_flag(
        "kind of noise; not needed with --noise_file, or for folder, whose labels are then used "
        "unchanged",
        decides=True,
        scripts=NOISY,
        choices=NOISE_MODES,
    )
    p: float | None = original_flag(
        "noise rate in [0, 1]; the labels of this very rate are read (0.4)",
        decides=True,
        scripts=NOISY,
    )
    custom_noise: bool | None = original_flag(
        "read <mode><p>_custom.csv instead of the paper's <mode><p>.csv",
        default=False,
        decides=True,
        scripts=NOISY,
    )
    make_new_custom_noise: bool | None = original_flag(
        "make that file again, from --seed, as re-sln did (never taken from --config)",
        default=False,
        scripts=NOISY,
    )
    noise_file: str | None = flag(
        "noisy labels from a file, of any project: .npz .pt .csv .npy .json; FILE:COLUMN chooses "
        "one of several",
    )
    noise_type: str | None = flag(
        "whose labels: worse, aggre, random1, random2 or random3 of cifar10n (worse); noisy of "
        "cifar100n",
        decides=True,
        scripts=NOISY,
    )
    seed: int = original_flag(
        "seed of everything (0; the README's commands: 123)", default=0, decides=True
    )
    data_path: Path | None = flag(
        "where the data are ($DATA_ROOT, else data/ beside this script and in the root); of "
        "folder: the folder"
    )
    labels: Path | None = flag(
        "CSV filename,label of the pictures of folder, wherever they lie below --data_path",
        metavar="FILE.csv",
    )
    skip_broken: bool = flag(
        "leave out, by name, pictures that cannot be read (they are an error)", default=False
    )
    cache_dir: Path | None = flag(
        "where decoded pictures are kept for the next run, of folder at 32 pixels and animal-10n",
        metavar="DIR",
    )


@dataclass(frozen=True, kw_only=True)
class Config(LabelChoice):
    """All settings of one training, checked."""

    batch_size: int = original_flag("images a step (128; digits: 64, ResNet-50: 32)", decides=True)
    # Does not decide: a finished run may be prolonged.
    n_epochs: int = original_flag("epochs, counted from 1 (300; digits: 55, ResNet-50: 10)")
    lr: float = original_flag(
        "learning rate, constant (0.001; digits: 0.05); ResNet-50: a tenth after epoch 5",
        decides=True,
    )
    sigma: float = original_flag(
        "standard deviation of the noise on the targets; 0: cross-entropy",
        decides=True,
        scripts=TRAINING,
    )
    mo: bool = original_flag(
        "report the EMA model (the paper's momentum model), an average of the weights",
        default=False,
        decides=True,
    )
    lc_n_epoch: int = original_flag(
        "first epoch of label correction, -1: none (with --mo: 250, digits 44, ResNet-50 2, of a "
        "shorter run five sixths of it; without: -1)",
        decides=True,
    )
    method: str | None = flag(
        "sets --sigma, --mo and --lc_n_epoch as in the paper, unless given",
        scripts=TRAINING,
        choices=METHODS,
    )
    lc_form: str = flag(
        "label correction scores the targets that it corrected last (recursive, as published), or "
        "always the noisy labels (fixed)",
        decides=True,
        choices=("recursive", "fixed"),
    )
    lc_images: str = flag(
        "label correction scores the images as training shows them (augmented, as published), or "
        "as testing does (plain)",
        default="augmented",
        decides=True,
        choices=("augmented", "plain"),
    )
    ema_decay: float = flag("alpha of the EMA model (0.999; digits: 0.99)", decides=True)
    depth: int = flag("layers of the wide residual network, 6 n + 4 (28; digits: 10)", decides=True)
    width: int = flag("its widening factor (2; digits: 1)", decides=True)
    network: str | None = flag(
        "resnet50: of folder at 224 pixels; else the usual one of the data set", scripts=()
    )
    pretrained: str | None = flag(
        "what the ResNet-50 of clothing1m and folder starts from: imagenet (torchvision's weights, "
        "downloaded), none, or a file of such weights (imagenet)",
        scripts=REAL,
    )
    num_workers: int = flag(
        "processes that decode 224-pixel images, for each GPU (8)", scripts=REAL
    )
    val_fraction: float | None = flag(
        "share of a folder without test/ that is held out and tested on, with its labels as they "
        "are before noise is added here",
        decides=True,
        scripts=TRAINING,
    )
    limit_train: int | None = flag("train on that many images, evenly spread over the set")
    limit_test: int | None = flag(
        "test on that many images, evenly spread over the set; tune.py, which tests on what "
        "--val_size holds out, hands it on to the training with its config.yaml"
    )
    device: str = flag("auto, cpu, cuda, cuda:1, mps (auto)", default="auto")
    amp: str = flag(
        "bfloat16 autocast; auto: where the hardware has it (auto)",
        default="auto",
        choices=("auto", "off", "bf16"),
    )
    gpu_devices: Sequence[int] | None = flag(
        "train on these GPUs together, 0 1 2 3: the same as torchrun --nproc_per_node=4; "
        "--batch_size is that of all",
        scripts=TRAINING,
        nargs="+",
        type=int,
        metavar="N",
    )
    # Decides where it is given, see `prepare`.
    sync_bn: bool = flag(
        "of several processes: batch normalisation over the whole batch, not over the rows of each "
        "(GPU)",
        default=False,
        scripts=TRAINING,
    )
    compile: bool = flag(
        "torch.compile both networks (a little faster on a CPU, after a minute; GPU: not measured)",
        default=False,
    )
    output_dir: Path | None = flag("the run folder (runs/<exp_id>; of a search hp/hp_<time>)")
    resume: bool = flag(
        "continue the run in --output_dir, or the newest one with these settings", default=False
    )
    deterministic: bool = flag("only deterministic kernels (slower on a GPU)", default=False)
    export: Path | None = flag(
        "write label_quality.csv and corrected_labels.npz of a run folder again, and stop; takes "
        "all settings from the run but where things are, and --save_probs",
        scripts=TRAINING,
        metavar="RUN",
    )
    save_probs: bool = flag(
        "write pred_probs.npz too: class probabilities of the training and the test images",
        default=False,
        scripts=TRAINING,
    )
    wandb: bool = flag(
        "log to Weights & Biases; offline unless WANDB_MODE says otherwise",
        default=False,
        scripts=TRAINING,
    )

    @property
    def script(self) -> str:
        """The script that trains so, without .py."""
        own_files = self.has_resnet or self.dataset_name in REAL_NOISE
        return "train_real" if own_files else "train_cifar"

    @property
    def has_resnet(self) -> bool:
        """A ResNet-50 on 224-pixel images that stay on the disk; else a WRN on 32 pixels."""
        return self.network == "resnet50" or self.dataset_name == "clothing1m"

    @property
    def method_name(self) -> str:
        """ce, sln, sln_mo or sln_mo_lc."""
        return name_of_method(self.sigma, self.mo, self.lc_n_epoch)

    def deciding(self) -> dict[str, Any]:
        """The settings that decide every number of the run."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["decides"]}

    def record(self) -> dict[str, Any]:
        """What config.yaml says of the settings."""
        names = [f.name for f in fields(self) if f.name not in ("resume", "export")]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What runs many trainings, and where."""

    backend: str = flag(
        "Ray Tune, or one training after the other in this process, without Ray (ray)",
        default="ray",
        choices=("ray", "local"),
    )
    ray_address: str | None = flag(
        "a Ray cluster that is already running, host:port or auto; checkout, data and output at "
        "the same path on all its machines (starts Ray on this one)",
        metavar="ADDRESS",
    )
    trials_at_once: int | None = flag(
        "with Ray: how many side by side, sharing GPUs, else CPU cores (one for each GPU, else for "
        "each core)",
        metavar="N",
    )


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Training samples that a search holds out to choose by."""

    # DEVIATION(re_sln): validation images are shown as they are; the original augments them like
    # those of training.
    val_size: float = original_flag(
        "share of the training set held out to choose by (0.1)", default=0.1
    )
    augment_val: bool = flag("validate on augmented images, as the original does", default=False)


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Settings of a search for sigma: those of its trainings, whose own sigma is any of them."""

    training: Config
    held_out: HeldOut
    backend: Backend

    def record(self) -> dict[str, Any]:
        """What config.yaml says of the settings."""
        known = {**self.training.record(), **asdict(self.held_out), **asdict(self.backend)}
        return {name: value for name, value in known.items() if name != "sigma"}


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Settings of the paper's table."""

    dataset_names: Sequence[str]
    noise_modes: Sequence[str] | None  # None: all that exist for a dataset
    seeds: Sequence[int]
    of_all: Mapping[str, Any]  # settings that all trainings share, by flag; None: the preset's
    output_dir: Path
    backend: Backend
