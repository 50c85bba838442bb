"""Everything around the training loop: data and noise onto the device, the two peers, the run
folder, the final files.
"""

import argparse
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from instancegm import checkpoint, plots, report
from instancegm.data import DeviceImages, stream_seed
from instancegm.mixture import CleanFit, fit_clean_prob, normalise
from instancegm.networks import PreActResNet18
from instancegm.noisy_labels import KINDS, RATE_TOLERANCE, noise_for, subset
from instancegm.options import (
    FAR_END_OF_RATES,
    UsageError,
    autocast,
    choose_device,
    data_path,
    fill_presets,
    use_bfloat16,
)
from instancegm.train import Peer, Settings, TrainingSet, predict
from instancegm.vae import Vae
from shared import datasets
from shared.formats.noise_file import NoiseFile, NoiseFileError, label_hash, make, write

LOSS_EPOCHS = 5  # DivideMix averages the losses of so many epochs at a noise rate of 0.9
# Flags that decide every number of a run; --num_epochs is missing on purpose, a finished run may be
# prolonged.
DECIDING_FLAGS = (
    "dataset",
    "mode",
    "no_vae",
    "numerics",
    "guess_eval",
    "seed",
    "batch_size",
    "lr",
    "lr_drop",
    "vae_lr",
    "lambda_u",
    "p_threshold",
    "alpha",
    "T",
    "warm_up",
    "width",
    "z_dim",
    "r",
)


@dataclass
class Experiment:
    """A run in progress. `rows` and `losses` are all the state that the peers do not hold."""

    args: argparse.Namespace
    folder: Path
    device: torch.device
    settings: Settings
    train_set: TrainingSet
    test_images: DeviceImages
    test_labels: Tensor
    noise: NoiseFile  # of the N training samples; its `indices` are their positions in the dataset
    is_clean: NDArray[np.bool_] | None  # (N,), None where the truth is unknown
    peers: list[Peer]
    losses: list[
        list[NDArray[np.float32]]
    ]  # per peer, normalised, newest last: at most LOSS_EPOCHS of them
    identity: dict[str, Any]
    data_location: Path | None  # None: embedded
    log_prefix: Path
    rows: list[report.Row]

    @property
    def next_epoch(self) -> int:
        return len(self.rows)

    def predict_train_set(self) -> Tensor:
        """Logits of each network on the training images without augmentation: (P, N, C)."""
        return predict(
            [peer.net for peer in self.peers], self.train_set.images, self.settings.autocast
        )

    def clean_fits(self, epoch: int, logits: Tensor) -> list[CleanFit]:
        """The clean probability of every training sample by each network, from its logits (P, N, C)
        before the epoch.
        """
        kept = LOSS_EPOCHS if self.args.r == FAR_END_OF_RATES else 1
        for peer, peer_logits in enumerate(logits):
            per_sample = F.cross_entropy(peer_logits, self.train_set.noisy_labels, reduction="none")
            self.losses[peer] = [*self.losses[peer], normalise(per_sample.cpu().numpy())][-kept:]
        seeds = [
            stream_seed(self.args.seed, epoch, f"mixture {peer.number}") for peer in self.peers
        ]
        return [
            fit_clean_prob(np.mean(losses, axis=0), seed)
            for losses, seed in zip(self.losses, seeds)
        ]

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": len(self.rows) - 1,
            "peers": [peer.state_dict() for peer in self.peers],
            "losses": [[torch.from_numpy(values) for values in losses] for losses in self.losses],
            "rows": self.rows,
            "identity": self.identity,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise checkpoint.CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        checkpoint.refuse_other_run(state["identity"], self.identity)
        if len(state["rows"]) > self.args.num_epochs + 1:
            raise checkpoint.CheckpointError(
                f"the run has done epoch {len(state['rows']) - 1} already: --num_epochs "
                f"{self.args.num_epochs} cannot shorten it"
            )
        for peer, saved in zip(self.peers, state["peers"]):
            peer.load_state_dict(saved)
        self.losses = [[values.cpu().numpy() for values in losses] for losses in state["losses"]]
        self.rows = list(state["rows"])


def method_name(args: argparse.Namespace) -> str:
    return "ce" if args.mode == "ce" else "dividemix" if args.no_vae else "instancegm"


def prepare(args: argparse.Namespace) -> Experiment:
    """Reads and checks everything, then builds the networks; nothing is written but the original's
    noise file.
    """
    device = choose_device(args.device, args.gpuid)
    _refuse_to_overwrite(args)
    _configure_torch(args, device)
    data = load_data(args)
    noise, noise_word = noise_for(args, data)
    if args.noise_file:
        take_over_rate_and_kind(args, noise)
    noise = subset(noise, evenly(len(noise.noisy_labels), args.limit_train))
    test_rows = evenly(len(data.test_labels), args.limit_test)
    images, test_images = data.train_images[noise.indices], data.test_images[test_rows]
    flip = data.name != "digits"  # a mirrored 2 is no digit
    train_set = TrainingSet(
        DeviceImages(images, device, flip=flip),
        torch.tensor(noise.noisy_labels, device=device),
        data.num_classes,
    )
    settings = Settings(
        batch_size=args.batch_size,
        warm_up=args.warm_up,
        lambda_u=args.lambda_u,
        alpha=args.alpha,
        temperature=args.T,
        numerics=args.numerics,
        guess_eval=args.guess_eval,
        seed=args.seed,
        autocast=autocast(args.amp, device),
    )
    identity = {
        **{name: getattr(args, name) for name in DECIDING_FLAGS},
        "bf16": use_bfloat16(args.amp, device),
        "data_sha256": _hash(
            images, data.train_labels[noise.indices], test_images, data.test_labels[test_rows]
        ),
        "noisy_labels_sha256": label_hash(noise.noisy_labels),
    }
    method = method_name(args)
    name = "_".join([data.name, report.rate_name(args.r), noise_word])
    peers = [
        build_peer(args, number, data.num_classes, device)
        for number in ((1,) if args.mode == "ce" else (1, 2))
    ]
    return Experiment(
        args=args,
        folder=_run_folder(
            args, "_".join([name, method, *([args.id] if args.id else []), f"seed{args.seed}"])
        ),
        device=device,
        settings=settings,
        train_set=train_set,
        test_images=DeviceImages(test_images, device),
        test_labels=torch.from_numpy(data.test_labels[test_rows]).to(device),
        noise=noise,
        is_clean=None if noise.clean_labels is None else noise.noisy_labels == noise.clean_labels,
        peers=peers,
        losses=[[] for _ in peers],
        identity=identity,
        data_location=data.location,
        log_prefix=Path("checkpoint") / (name if method == "instancegm" else f"{name}_{method}"),
        rows=[],
    )


def load_data(args: argparse.Namespace) -> datasets.ImageData:
    data = datasets.load(args.dataset, data_path(args), image_size=32)
    if args.num_class not in (None, data.num_classes):
        raise UsageError(
            f"--num_class {args.num_class}, but {data.name} has {data.num_classes} classes: "
            "leave the flag out"
        )
    return data


def build_peer(
    args: argparse.Namespace, number: int, num_classes: int, device: torch.device
) -> Peer:
    """A classifier with SGD and, unless it is left out, a VAE with Adam; the initial weights follow
    from the seed.
    """
    torch.manual_seed(stream_seed(args.seed, -1, f"weights {number}"))
    net = _place(PreActResNet18(num_classes, args.width), device)
    fused = device.type != "mps"
    net_optimizer = torch.optim.SGD(
        net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4, fused=fused
    )
    if args.no_vae or args.mode == "ce":
        return Peer(number, net, net_optimizer, None, None)
    # DEVIATION(instancegm): --vae_lr is obeyed; the original sets 0.001 again in every step.
    vae = _place(Vae(num_classes, args.z_dim, args.numerics), device)
    return Peer(
        number,
        net,
        net_optimizer,
        vae,
        torch.optim.Adam(vae.parameters(), lr=args.vae_lr, fused=fused),
    )


def network_from_state(
    state: dict[str, Tensor], num_classes: int, device: torch.device
) -> PreActResNet18:
    """A classifier as wide as the saved one, with its weights."""
    try:
        net = PreActResNet18(num_classes, width=len(state["conv1.weight"]))
        net.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise checkpoint.CheckpointError(
            f"the checkpoint's network does not fit {num_classes} classes: {error}"
        ) from error
    return _place(net, device)


def _place(module: nn.Module, device: torch.device) -> Any:
    return module.to(device=device, memory_format=torch.channels_last)


def _configure_torch(args: argparse.Namespace, device: torch.device) -> None:
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def take_over_rate_and_kind(args: argparse.Namespace, noise: NoiseFile) -> None:
    """With a noise file the rate is the file's, and so is the preset that goes with rate and kind.

    A contradicting --r is refused, for it would label the results wrongly.
    """
    nominal, measured = noise.header.nominal_rate, noise.header.measured_rate
    if "r" in args.given and args.r != nominal and abs(args.r - measured) > RATE_TOLERANCE:
        raise NoiseFileError(
            f"--r {args.r} contradicts {args.noise_file}, whose measured rate is "
            f"{measured:.4f}: leave --r out, or give "
            "the file that you mean"
        )
    if "r" not in args.given:
        args.r = round(measured, 2) if nominal is None else nominal
    args.noise_mode = next(
        (mode for mode, kind in KINDS.items() if kind == noise.header.kind), "file"
    )
    fill_presets(args)


def evenly(count: int, limit: int | None) -> NDArray[np.int64]:
    """Positions of `limit` samples spread evenly over `count`; image folders are sorted by class,
    so not the first ones.
    """
    if limit is None or limit >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).astype(np.int64)


def _hash(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _refuse_to_overwrite(args: argparse.Namespace) -> None:
    if (
        args.output_dir is not None
        and not args.resume
        and (args.output_dir / checkpoint.LAST).exists()
    ):
        raise checkpoint.CheckpointError(
            f"{args.output_dir} holds a run already: add --resume to continue it, or choose "
            "another --output_dir"
        )


def _run_folder(args: argparse.Namespace, name: str) -> Path:
    """The folder given, or runs/<name>, with a number after it if a run is there already and is not
    to be continued.
    """
    if args.output_dir is not None:
        return args.output_dir
    candidates = [Path("runs") / name] + [
        Path("runs") / f"{name}-{number}" for number in range(2, 1000)
    ]
    taken = [path for path in candidates if (path / checkpoint.LAST).exists()]
    if args.resume and taken:
        return taken[-1]
    return next(path for path in candidates if path not in taken)


def write_results(run: Experiment) -> None:
    """clean_prob.csv, corrected_labels.npz and plots.png of a finished run, and the original's
    final checkpoint.
    """
    logits = run.predict_train_set()
    fits = run.clean_fits(run.next_epoch, logits)
    predicted = logits.sum(dim=0).argmax(dim=1).cpu().numpy()
    given = run.noise.noisy_labels
    clean_prob = [fit.clean_prob for fit in fits]
    report.write_clean_prob(
        run.folder / "clean_prob.csv", run.noise.indices, given, clean_prob, predicted
    )
    corrected = np.where(np.mean(clean_prob, axis=0) > 0.5, given, predicted)
    header = run.noise.header
    write(
        run.folder / "corrected_labels.npz",
        make(
            corrected,
            indices=run.noise.indices,
            dataset=header.dataset,
            num_classes=header.num_classes,
            split="train",
            kind="corrected",
            clean_labels=run.noise.clean_labels,
        ),
    )
    title = (
        f"{method_name(run.args)} on {run.args.dataset}, noise rate {run.args.r:g}, seed "
        f"{run.args.seed}"
    )
    plots.draw(run.folder / "plots.png", title, run.rows, fits, run.is_clean)
    if len(run.peers) == 2:
        # DEVIATION(instancegm): each dataset has its own folder in saved; the original keeps
        # CIFAR-100 in saved/cifar10 too.
        saved = Path("saved") / run.args.dataset
        suffix = "" if method_name(run.args) == "instancegm" else f"_{method_name(run.args)}"
        checkpoint.save(
            checkpoint.published_form(run.state_dict()),
            saved / f"checkpoint_{run.args.r}{suffix}.tar",
        )
