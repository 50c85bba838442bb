"""What each script and data set sets where no flag is given; the spellings of the paper's flags."""

from dataclasses import dataclass, field
from typing import Any

from instancegm.method.settings import Settings

# DEVIATION(instancegm): lambda_u and p_threshold follow DivideMix for symmetric and asymmetric
# noise; the original leaves them at 25 and 0.5 unless told otherwise. DivideMix (ICLR 2020,
# appendix) tuned lambda_u per rate for symmetric noise and sets 0 for asymmetric noise; the first
# row whose bound the rate does not exceed counts. Instance-dependent noise is InstanceGM's own
# case: 25 at every rate.
SYMMETRIC_LAMBDA_U = {
    "cifar100": ((0.35, 25.0), (1.0, 150.0)),
    "default": ((0.35, 0.0), (0.85, 25.0), (1.0, 50.0)),
}
# Labels by people (CIFAR-N): its authors found 25 wrong for DivideMix and took less, in the
# camera-ready version, after asking DivideMix's: "see how it works with lambda=0"
# (github.com/UCSC-REAL/cifar-10-100n, issue 7). InstanceGM reports nothing on them.
HUMAN_LAMBDA_U = 0.0
# At this rate DivideMix raises the threshold and averages losses over five epochs.
FAR_END_OF_RATES = 0.9

SMALL_SETS = ("cifar10", "cifar100", "digits")  # which come as arrays, not as files of pictures
HUMAN = ("cifar10n", "cifar100n")  # labelled by people, in several ways
REAL = ("red_blue", "animal10N", "clothing1M")  # noisy by themselves; nothing is put on top

# Of a data set, whatever script trains on it
DATASETS: dict[str, dict[str, Any]] = {
    "cifar100": {"warm_up": 30},
    "cifar100n": {"warm_up": 30},
    # Three minutes on two cores; and a mirrored 2 is no digit.
    "digits": {"num_epochs": 24, "lr_drop": 18, "width": 8, "flip": False},
}


@dataclass(frozen=True)
class Script:
    """A script of the paper: its data sets, its settings, its flags."""

    title: str
    example: str
    datasets: tuple[str, ...]  # the first one is the default
    flags: tuple[str, ...] = ()  # of fields that not every script has
    strict: bool = False  # unknown flags are an error; else they are ignored, as in the original
    settings: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)  # more of them for its own set alone


ON_IMAGENET = ("pretrained", "weights", "normalise")
SCRIPTS = {
    "instanceGM": Script(
        title="train on instance-dependent label noise",
        example="python instanceGM.py --dataset digits --r 0.4",
        datasets=("cifar10", "cifar100", "cifar10n", "cifar100n", "digits", "folder"),
        flags=("noise_type",),
    ),
    "instanceGM_redMini": Script(
        title="train on Red Mini-ImageNet, whose wrong labels come from the web",
        example="python instanceGM_redMini.py --r 0.4",
        datasets=("red_blue",),
        flags=("colour",),
        settings={
            **{"r": 0.2, "warm_up": 30, "z_dim": 64, "vae_lr": 1e-4},
            **{"label_prior_weight": 3e-4, "latent_prior_weight": 3e-4},
        },
    ),
    "instanceGM_animal10N": Script(
        title="train on Animal-10N, or on pictures of your own at 64 pixels",
        example="python instanceGM_animal10N.py --saved True",
        datasets=("animal10N", "folder"),
        flags=("saved", *ON_IMAGENET),
        settings={
            **{"network": "vgg19_bn", "image_size": 64, "crop_padding": 0, "z_dim": 64},
            **{"lr": 0.002, "warm_up": 40, "lr_drop": 50},
            **{"noisy_label_weight": 8e-5, "label_prior_weight": 8e-5, "latent_prior_weight": 8e-5},
        },
        own={"r": 0.08, "p_threshold": 0.08},  # the threshold is the set's noise rate
    ),
    "instanceGM_clothing1M": Script(
        title="train on Clothing1M, or on pictures of your own at 224 pixels",
        example="python instanceGM_clothing1M.py --data_path /data/clothing1M",
        datasets=("clothing1M", "folder"),
        flags=("num_batches", "redraw_vae", "num_workers", *ON_IMAGENET),
        strict=True,
        settings={
            **{"network": "resnet50", "image_size": 224, "batch_size": 32, "lr": 0.002},
            **{"weight_decay": 1e-3, "num_epochs": 80, "warm_up": 1, "lr_drop": 40},
            **{"alpha": 0.5, "lambda_u": 0.0, "unlabelled_loss": False},
            **{"label_prior_weight": 6e-6, "latent_prior_weight": 6e-6},
            **{"confidence_penalty": True, "pretrained": "imagenet"},
        },
        own={"num_batches": 1000, "id": "clothing1m"},
    ),
}


def of_dataset(script: str, dataset: str) -> dict[str, Any]:
    """The settings of a script on a data set, before any noise is known."""
    preset = SCRIPTS[script]
    own = preset.own if dataset == preset.datasets[0] else {}
    return {**preset.settings, **own, **DATASETS.get(dataset, {})}


def of_noise(script: str, dataset: str, noise_mode: str, rate: float) -> dict[str, Any]:
    """The settings that follow from the kind of noise and its rate as well."""
    values = {
        **{name: getattr(Settings, name) for name in ("lambda_u", "p_threshold", "loss_epochs")},
        **of_dataset(script, dataset),
    }
    if dataset in REAL:
        return values
    if noise_mode == "asym":
        values["lambda_u"] = 0.0
    elif noise_mode == "human":
        values["lambda_u"] = HUMAN_LAMBDA_U
    elif noise_mode == "sym":
        bounds = SYMMETRIC_LAMBDA_U.get(dataset, SYMMETRIC_LAMBDA_U["default"])
        values["lambda_u"] = next(value for bound, value in bounds if rate <= bound)
        if rate >= FAR_END_OF_RATES:
            values["p_threshold"] = 0.6
    if rate == FAR_END_OF_RATES:
        values["loss_epochs"] = 5
    return values


# Published flags; the values are their spellings where these are not just --<name>.
PUBLISHED: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "data_path": (),
    # DEVIATION(instancegm): -r sets the noise rate; the original drops it unseen and trains at 0.5.
    "r": ("--r", "-r"),
    "noise_mode": (),
    "num_epochs": (),
    "batch_size": (),
    "lr": ("--lr", "--learning_rate"),
    "vae_lr": ("--vae_lr", "--vae_learning_rate"),
    "lambda_u": (),
    "p_threshold": (),
    "alpha": (),
    "T": (),
    "z_dim": (),
    "num_class": (),
    "seed": (),
    "gpuid": (),
    "id": (),
    "saved": (),
    "num_batches": (),
}
SPELLINGS = {**PUBLISHED, "no_vae": ("--no-vae",)}


def spellings(name: str) -> tuple[str, ...]:
    """The flags of a field, the usual one first."""
    return SPELLINGS.get(name) or (f"--{name}",)
