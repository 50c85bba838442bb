"""What the paper and re-sln used, by dataset and noise."""

NOISE_MODES = ("sym", "asym", "openset", "dependent")
METHODS = ("ce", "sln", "sln_mo", "sln_mo_lc")
PAPER_RATE = 0.4  # --p where it is not given
REAL_NOISE = ("animal-10n", "clothing1m")  # nobody added it, so it has no kind and no rate
HUMAN_NOISE = ("cifar10n", "cifar100n")  # CIFAR with the labels that people gave (CIFAR-N)
# What `shared` calls the images, where it has another name for them.
IMAGES_OF = {"animal-10n": "animal10n", "cifar10n": "cifar10", "cifar100n": "cifar100"}
PAPER: dict[str, float] = {
    "batch_size": 128,
    "n_epochs": 300,
    "lr": 0.001,
    "lc_n_epoch": 250,
    "ema_decay": 0.999,
    "depth": 28,
    "width": 2,
}
# Found by trying: within these epochs cross-entropy memorises the wrong labels of the digits, as it
# does on CIFAR-10 within 300.
DIGITS: dict[str, float] = {
    "batch_size": 64,
    "n_epochs": 55,
    "lr": 0.05,
    "lc_n_epoch": 44,
    "ema_decay": 0.99,
    "depth": 10,
    "width": 1,
}
PRESETS: dict[str, dict[str, float]] = {
    "cifar10": PAPER,
    "cifar100": PAPER,
    "cifar10n": PAPER,
    "cifar100n": PAPER,
    "folder": PAPER,
    "animal-10n": PAPER,
    # The authors' own recipe (they train ResNet-50, so depth and width do not matter).
    "clothing1m": {**PAPER, "batch_size": 32, "n_epochs": 10, "lc_n_epoch": 2},
    "digits": DIGITS,
}
# Of the authors' README and re-sln's runs; elsewhere 0.5.
SIGMAS = {
    ("cifar10", "sym"): 1.0,
    ("cifar100", "sym"): 0.2,
    ("cifar100", "asym"): 0.2,
    ("cifar100", "dependent"): 0.1,
    ("clothing1m", None): 0.2,
}
METHOD_TABLE = """the methods are
  ce         --sigma 0                 --lc_n_epoch -1
  sln        --sigma above 0           --lc_n_epoch -1
  sln_mo     --sigma above 0   --mo    --lc_n_epoch -1
  sln_mo_lc  --sigma above 0   --mo    --lc_n_epoch between 1 and n_epochs - 1"""


def correction_epoch(dataset_name: str, n_epochs: int) -> int:
    """First epoch of label correction: the preset's, of a run too short for it after 5/6 of it."""
    usual = int(PRESETS[dataset_name]["lc_n_epoch"])
    return usual if usual < n_epochs else max(1, min(round(n_epochs * 5 / 6), n_epochs - 1))


def name_of_method(sigma: float, mo: bool, lc_n_epoch: int) -> str:
    return "ce" if sigma == 0 else "sln" + "_mo" * bool(mo) + "_lc" * (lc_n_epoch != -1)


def sigma_for(dataset_name: str, noise_mode: str | None) -> float:
    """The paper's sigma; for noise it does not have, 0.2 on CIFAR-100, elsewhere 0.5."""
    usual = 0.2 if dataset_name in ("cifar100", "cifar100n") else 0.5
    return SIGMAS.get((dataset_name, noise_mode), usual)
