"""What a dataset's preset fills in where a flag is not given, and what --legacy changes."""

from typing import Any

# What the method's description and the published scripts set for each dataset.
PAPER: dict[str, Any] = {
    "batch_size": 200,
    "nepoch": 200,
    "warmup_epochs": 5,
    "feature_dim": 512,
    "k": 10,
    "diff_encoder": "resnet34",
    "width": 64,
    "fp_encoder": "SimCLR",
    "fp_queries": "augmented",
    "weighted": True,
    "exclude_self": False,
    "ema_decay": 0.9999,
    "lr": 1e-3,
    "eval_every": 5,
    "drop_last": False,
    "per_class": None,
    "num_workers": 4,
}
FILES = {
    **PAPER,
    "batch_size": 256,
    "nepoch": 300,
    "warmup_epochs": 1,
    "feature_dim": 1024,
    "diff_encoder": "resnet50_l",
    "fp_encoder": "CLIP",
    "eval_every": 1,
    "drop_last": True,
}
# Found by trying: a narrow network on few images, in less than two minutes on two cores.
DIGITS = {
    **PAPER,
    "batch_size": 32,
    "nepoch": 60,
    "lr": 5e-3,
    "warmup_epochs": 2,
    "feature_dim": 256,
    "width": 16,
    "diff_encoder": "resnet18",
    "ema_decay": 0.99,
    "fp_queries": "cached",
}
IN_MEMORY = ("cifar10", "cifar100", "digits", "folder")  # at 32 pixels
# CIFAR with the labels that people gave (`shared.datasets.human_noise`); no source has settings of
# its own for them.
HUMAN = {"cifar10n": "cifar10", "cifar100n": "cifar100"}
PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": PAPER,
    "cifar100": PAPER,
    **dict.fromkeys(HUMAN, PAPER),
    "digits": DIGITS,
    "folder": PAPER,
    "food101n": {**FILES, "nepoch": 100, "fp_queries": "cached", "exclude_self": True},
    "clothing1m": {**FILES, "k": 20, "fp_encoder": "CC", "weighted": False, "per_class": 10_000},
    "webvision": {**FILES, "k": 50, "weighted": False, "per_class": 500, "num_workers": 16},
}
# --legacy: what the published code does, whatever its paper says.
_FROZEN = {"freeze_encoder": True, "batch_statistics": True, "bank_transform": "train"}
LEGACY: dict[str, dict[str, Any]] = {
    **{name: {**_FROZEN, "lr_horizon": 1000} for name in (*IN_MEMORY, *HUMAN)},
    "food101n": {**_FROZEN, "lr_horizon": 200, "warmup_epochs": 10, "select": "test"},
    "clothing1m": {"warmup_epochs": 1},
    "webvision": {"warmup_epochs": 1},
}
# What else a script's preset has for own pictures: CC's network knows Clothing1M's classes.
OWN_PICTURES: dict[str, dict[str, Any]] = {"clothing1m": {"fp_encoder": "CLIP"}}
# The usual recipe of SimCLR on CIFAR; the authors of LRA-diffusion publish weights and not how they
# were made.
_SIMCLR: dict[str, Any] = {
    "nepoch": 500,
    "batch_size": 512,
    "lr": 1e-3,
    "temperature": 0.5,
    "arch": "resnet50",
    "width": 64,
    "hidden": 512,
}
# Found by trying: what two cores learn in less than a minute. Few images, so small batches for
# enough steps.
_SIMCLR_DIGITS = {
    **_SIMCLR,
    "nepoch": 12,
    "batch_size": 64,
    "temperature": 0.1,
    "arch": "resnet18",
    "width": 16,
    "hidden": 128,
}
SIMCLR = {
    "cifar10": _SIMCLR,
    "cifar100": _SIMCLR,
    "folder": _SIMCLR,
    "digits": _SIMCLR_DIGITS,
}
# The teacher of PMD noise; that of digits stops while it hesitates, as the published one does.
_TEACHER: dict[str, Any] = {"network": "resnet34", "width": 64, "lr": 1e-3, "epochs": 25}
TEACHERS: dict[str, dict[str, Any]] = {
    **{name: _TEACHER for name in IN_MEMORY},
    "digits": {"network": "resnet18", "width": 16, "lr": 5e-3, "epochs": 5},
}
