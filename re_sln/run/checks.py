"""What is refused before any data is read: combinations of settings that cannot work.

Everything here raises UsageError with what was found and what to do.
"""

from re_sln.run.errors import UsageError
from re_sln.run.presets import HUMAN_NOISE, METHOD_TABLE, NOISE_MODES, REAL_NOISE
from re_sln.run.settings import Backend, Config, HeldOut, LabelChoice, TableConfig

# Legacy numpy takes 32 bits, and open-set noise adds 123 to the seed.
SEED_LIMIT = 2**32 - 123


def check_noise(choice: LabelChoice) -> None:
    """Refuses noise that does not exist. Raises UsageError."""
    dataset, mode, p = choice.dataset_name, choice.noise_mode, choice.p
    if dataset in REAL_NOISE:
        return
    if dataset in HUMAN_NOISE:
        others = ("noise_mode", "p", "custom_noise", "make_new_custom_noise", "noise_file")
        given = {name: getattr(choice, name) for name in others}
        found = [f"--{k}" for k, v in given.items() if v is not None and v is not False]
        if found:
            raise UsageError(
                f"{', '.join(found)}: the labels of {dataset} are people's, and --noise_type says "
                "whose: leave out the rest"
            )
        return
    if choice.noise_type:
        raise UsageError(
            f"--noise_type {choice.noise_type} is for {' and '.join(HUMAN_NOISE)}, not for "
            f"{dataset}: leave it out, or choose one of these with --dataset_name"
        )
    modes = {"cifar10": NOISE_MODES, "cifar100": ("sym", "asym", "dependent")}.get(
        dataset, ("sym", "asym")
    )
    if choice.noise_file and (mode or choice.custom_noise or choice.make_new_custom_noise):
        raise UsageError(
            "--noise_file and --noise_mode both say where the noise comes from: drop one of them"
        )
    if dataset == "folder" and choice.data_path is None:
        raise UsageError(
            "--dataset_name folder needs --data_path: a folder of pictures with train/<class>/ "
            "(and test/<class>/) or <class>/, or an .npz"
        )
    if mode is None and not choice.noise_file:
        if dataset != "folder":
            raise UsageError(
                f"--noise_mode is missing: choose one of {', '.join(modes)}, or give a --noise_file"
            )
        if p is not None:
            raise UsageError(
                f"--p {p} says how much noise, but not which: add --noise_mode, or leave it out "
                "for labels that are noisy already"
            )
    elif mode is not None and mode not in modes:
        raise UsageError(
            f"--noise_mode {mode} does not exist for {dataset}: choose one of {', '.join(modes)}, "
            "or give a --noise_file"
        )
    if choice.make_new_custom_noise and not choice.custom_noise:
        raise UsageError(
            "--make_new_custom_noise makes the noise that --custom_noise trains on: give both"
        )
    if mode == "dependent" and choice.custom_noise:
        raise UsageError(
            "--custom_noise exists for sym, asym and openset; for dependent noise leave it out "
            "(the paper's file), or make some with make_dependent_noise.py and give it with "
            "--noise_file"
        )
    if mode == "openset" and not choice.custom_noise:
        raise UsageError(
            "the paper's openset noise was never published: add --custom_noise (made from --seed), "
            "or choose sym, asym or dependent"
        )
    if choice.custom_noise and dataset in ("digits", "folder"):
        raise UsageError(
            f"--custom_noise names a file of CIFAR; for {dataset} --noise_mode makes the labels: "
            "leave it out"
        )
    if p is not None and not 0.0 <= p <= 1.0:
        raise UsageError(f"--p {p}: a noise rate lies in [0, 1]; 40 percent is --p 0.4")


def check_numbers(config: Config) -> None:
    at_least = {"batch_size": 1, "n_epochs": 1, "sigma": 0, "seed": 0, "width": 1}
    at_least |= {"limit_train": 2, "limit_test": 1, "num_workers": 0}
    for name, low in at_least.items():
        value = getattr(config, name)
        if value is not None and not value >= low:
            raise UsageError(f"--{name} {value}: must be at least {low}")
    if config.seed >= SEED_LIMIT:
        raise UsageError(f"--seed {config.seed}: must be below {SEED_LIMIT}")
    if config.val_fraction is not None and not 0 < config.val_fraction < 1:
        raise UsageError(f"--val_fraction {config.val_fraction}: lies between 0 and 1, as 0.1")
    if not config.lr > 0:
        raise UsageError(f"--lr {config.lr}: must be greater than 0")
    if not 0 <= config.ema_decay < 1:
        raise UsageError(f"--ema_decay {config.ema_decay}: lies in [0, 1); the paper has 0.999")
    if config.depth < 10 or (config.depth - 4) % 6:
        raise UsageError(
            f"--depth {config.depth}: a wide residual network has 6 n + 4 layers: 10, 16, 22, ..."
        )


def check_devices(config: Config) -> None:
    """Refuses two places at once for the processes of a run. Raises UsageError."""
    gpus, device = config.gpu_devices, config.device
    if gpus is not None and device not in ("auto", "cuda"):
        raise UsageError(f"--gpu_devices and --device {device} both say where: drop one of them")


def method_problem(config: Config) -> str | None:
    """Why sigma, MO and LC are not a valid combination, with those that are; None if they are."""
    lc, last = config.lc_n_epoch, config.n_epochs - 1
    if lc != -1 and last < 1:
        return (
            f"--n_epochs {config.n_epochs}: label correction needs an epoch before it: give at "
            "least 2, or --lc_n_epoch -1 for none"
        )
    wanted = f"--sigma {config.sigma:g}{' --mo' if config.mo else ''} --lc_n_epoch {lc}"
    if lc != -1 and not 1 <= lc <= last:
        return (
            f"--lc_n_epoch {lc} is not between 1 and {last} (--n_epochs {config.n_epochs}): give "
            "such an epoch, -1 for no label correction, or leave it out"
        )
    if (config.sigma == 0 and (config.mo or lc != -1)) or (lc != -1 and not config.mo):
        return f"{wanted} is not a valid combination; {METHOD_TABLE}"
    if config.method not in (None, config.method_name):
        return f"{wanted} is {config.method_name}, not --method {config.method}: drop one of them"
    return None


def check_held_out(held_out: HeldOut) -> None:
    if not 0 < held_out.val_size < 1:
        raise UsageError(
            f"--val_size {held_out.val_size}: a share of the training set, between 0 and 1"
        )


def check_backend(backend: Backend, device: str) -> None:
    if backend.backend == "local" and (backend.ray_address or backend.trials_at_once):
        raise UsageError(
            "--ray_address and --trials_at_once are Ray's: drop them, or --backend local"
        )
    if backend.trials_at_once is not None and backend.trials_at_once < 1:
        raise UsageError(f"--trials_at_once {backend.trials_at_once}: must be at least 1")
    if backend.backend == "ray" and device.startswith("cuda:"):
        raise UsageError(
            f"--device {device}: Ray assigns the GPUs itself, say --device cuda; "
            f"CUDA_VISIBLE_DEVICES={device[5:]} in front of the command leaves it only that one"
        )


def check_table(table: TableConfig) -> None:
    if "digits" in table.dataset_names and "dependent" in (table.noise_modes or ()):
        raise UsageError(
            "--noise_mode dependent comes as files of CIFAR: leave out digits, or give it a "
            "command of its own"
        )
    for seed in table.seeds:
        if not 0 <= seed < SEED_LIMIT:
            raise UsageError(f"--seeds {seed}: must be between 0 and {SEED_LIMIT - 1}")
    n_epochs = table.of_all["n_epochs"]
    if n_epochs is not None and n_epochs < 2:
        raise UsageError(
            f"--n_epochs {n_epochs}: label correction needs an epoch before it, so at least 2"
        )
