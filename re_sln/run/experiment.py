"""A run: its networks, its data, its folder, and its state, which a checkpoint holds."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from re_sln.method.ema import MomentumModel
from re_sln.method.networks import WideResNet, resnet50
from re_sln.method.optimizers import SGD
from re_sln.method.ranks import ALONE, Ranks
from re_sln.method.train import Learner, Row, Settings
from re_sln.run import checkpoint
from re_sln.run.data import RunData, load_data
from re_sln.run.device import autocast, choose_device, configure_torch, use_bfloat16
from re_sln.run.errors import CheckpointError, UsageError
from re_sln.run.labels import nominal_rate
from re_sln.run.launch import check_same, first_on_its_machine, joined
from re_sln.run.places import pinned
from re_sln.run.record import read_config
from re_sln.run.settings import Config, HeldOut
from shared.datasets.pretrained import imagenet_weights
from shared.run_folder import is_locked, locked

N = TypeVar("N", bound=nn.Module)
FROM_SCRATCH = "none"  # of --pretrained


@dataclass
class Experiment:
    """A run in progress."""

    config: Config
    exp_id: str
    folder: Path
    device: torch.device
    settings: Settings
    data: RunData
    learner: Learner
    identity: dict[str, Any]  # what decides every number: another one is another run
    rows: list[Row] = field(default_factory=list)  # of the finished epochs

    @property
    def ranks(self) -> Ranks:
        return self.settings.ranks

    @property
    def is_tested(self) -> bool:
        return all(len(each.labels) for each in self.data.test_sets.values())

    @property
    def next_epoch(self) -> int:
        return len(self.rows) + 1

    @property
    def selects_by(self) -> str:
        """The figure whose best epoch is kept; Clothing1M has a clean validation set for that.

        It is None in every row of a run without test images.
        """
        return "accuracy_val_ema" if self.config.dataset_name == "clothing1m" else "accuracy"

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.learner.net.state_dict(),
            "average": self.learner.ema.net.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "targets": self.learner.targets,
            "rows": self.rows,
            "identity": self.identity,
            "ranks": self.ranks.size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        self._refuse_other_run(state["identity"])
        if len(state["rows"]) > self.config.n_epochs:
            raise CheckpointError(
                f"the run has done {len(state['rows'])} epochs already: --n_epochs "
                f"{self.config.n_epochs} cannot shorten it"
            )
        self.learner.net.load_state_dict(state["net"])
        self.learner.ema.net.load_state_dict(state["average"])
        checkpoint.load_optimizer(self.learner.optimizer, state["optimizer"])
        targets = state["targets"]
        self.learner.targets = None if targets is None else targets.to(self.device)
        self.rows = list(state["rows"])
        before, now = state.get("ranks", 1), self.ranks.size
        if before != now and not self.config.export:
            print(
                f"note: trained by {before} rank{'s' * (before > 1)} so far, by {now} from here "
                "on: batch normalisation sees other rows and sums are added in another order, so "
                "the figures are not those of an uninterrupted run"
            )

    def _refuse_other_run(self, saved: Mapping[str, Any]) -> None:
        try:
            checkpoint.refuse_other_run(saved, self.identity)
        except CheckpointError as error:
            first = saved.get("lc_n_epoch", -1)
            if -1 in (first, self.config.lc_n_epoch) or first == self.config.lc_n_epoch:
                raise
            raise CheckpointError(
                f"{error}. --lc_n_epoch follows from --n_epochs where it is not given: add "
                f"--lc_n_epoch {first} to prolong the run"
            ) from error


@contextmanager
def build(config: Config) -> Iterator[Experiment]:
    """The run, with --resume as far as it is; until the block ends no other process is in it.

    Of the processes that torchrun started the first one holds the folder for all.
    """
    with joined(_device(config)) as ranks:
        run = prepare(config, ranks=ranks)
        with locked(run.folder) if ranks.is_first else nullcontext():
            if ranks.is_first:  # another run may have been faster while the data were read
                _refuse_taken(config)
            if config.resume:
                _resume(run)
            yield run


def _device(config: Config) -> torch.device:
    there = [gpu for gpu in config.gpu_devices or () if gpu < torch.cuda.device_count()]
    return choose_device(config.device, *there[:1])


def prepare(config: Config, held_out: HeldOut | None = None, ranks: Ranks = ALONE) -> Experiment:
    """The run before its first epoch. held_out: the part of the training set to test on."""
    device = _device(config)
    check_sync_bn(config, ranks, device)
    if ranks.is_first:
        _refuse_taken(config)
    configure_torch(config.deterministic, device)
    goes_on = ranks.same(lambda: _has_checkpoint(config))
    with first_on_its_machine(ranks):
        # before a million images are looked at
        weights = None if goes_on else pretrained_weights(config)
        data = load_data(_of_this_process(config), device, held_out)
    config = replace(config, p=nominal_rate(config, data.noise))
    # DEVIATION(re_sln): bfloat16 where the hardware has it; the original is float32, its targets
    # and loss even float64.
    identity = config.deciding() | {"bf16": use_bfloat16(config.amp, device)} | data.hashes
    if config.pretrained == FROM_SCRATCH:
        identity["pretrained"] = FROM_SCRATCH
    if config.sync_bn:
        identity["sync_bn"] = True
    # These are in no identity, but one rank would wait for another in vain.
    more = {name: getattr(config, name) for name in ("n_epochs", "save_probs")}
    check_same(identity | more, ranks)
    folder, exp_id = ranks.same(lambda: find_folder(config, identity))
    return Experiment(
        config=config,
        exp_id=exp_id,
        folder=folder,
        device=device,
        settings=loop_settings(config, device, ranks),
        data=data,
        learner=build_learner(config, data.train_set.noisy.shape[1], device, weights, ranks),
        identity=identity,
    )


def check_sync_bn(config: Config, ranks: Ranks, device: torch.device) -> None:
    """torch has it for GPUs only. Raises UsageError."""
    if config.sync_bn and ranks.size > 1 and device.type != "cuda":
        raise UsageError(
            f"--sync_bn works on GPUs, and this is {device}: leave it out, or train in one process"
        )


def _of_this_process(config: Config) -> Config:
    """One process of a machine makes custom noise, the others read its file."""
    makes = config.make_new_custom_noise and os.environ.get("LOCAL_RANK", "0") == "0"
    return replace(config, make_new_custom_noise=makes)


def _resume(run: Experiment) -> None:
    """Continues from the newest checkpoint, which the first process reads for all."""
    state = run.ranks.same(lambda: checkpoint.load_newest(run.folder, "cpu"))
    if state is None:
        print(f"note: {run.folder} has no checkpoint; starting from the beginning")
    else:
        run.load_state_dict(state)


def _refuse_taken(config: Config) -> None:
    """Raises CheckpointError if --output_dir holds what this command would overwrite."""
    folder = config.output_dir
    if folder is None:
        return
    if "trials" in (read_config(folder) or {}):
        raise CheckpointError(f"{folder} holds a search of tune.py: choose another --output_dir")
    if not config.resume and (folder / checkpoint.LAST).exists():
        raise CheckpointError(
            f"{folder} holds a run already: add --resume to continue it, or choose another "
            "--output_dir"
        )


def loop_settings(config: Config, device: torch.device, ranks: Ranks = ALONE) -> Settings:
    """What the training loop takes of the settings."""
    return Settings(
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        learning_rate=partial(learning_rate, config),
        sigma=config.sigma,
        mo=config.mo,
        lc_n_epoch=config.lc_n_epoch,
        recursive=config.lc_form == "recursive",
        plain_scoring=config.lc_images == "plain",
        soft_predictions=config.has_resnet,
        seed=config.seed,
        autocast=autocast(config.amp, device),
        ranks=ranks,
    )


def learning_rate(config: Config, epoch: int) -> float:
    """Constant; of the ResNet-50 a tenth after epoch 5, as the authors have it."""
    return config.lr / 10 if config.has_resnet and epoch > 5 else config.lr


def _has_checkpoint(config: Config) -> bool:
    """Whether --resume finds a whole one, so that a ResNet-50 needs no other weights.

    On "meta" its tensors take no memory.
    """
    folder = config.output_dir if config.resume and config.has_resnet else None
    return folder is not None and checkpoint.load_newest(folder, "meta") is not None


def pretrained_weights(config: Config) -> Path | None:
    """The file that the ResNet-50 starts from; None: from random weights. Raises UserError."""
    if not config.has_resnet or config.pretrained == FROM_SCRATCH:
        return None
    if config.pretrained != "imagenet":
        path = Path(str(config.pretrained))
        if not path.is_file():
            raise UsageError(
                f"--pretrained {path}: no such file; give imagenet, {FROM_SCRATCH}, or a file of "
                "weights"
            )
        return path
    root = None if config.dataset_name == "folder" else pinned(config.data_path)
    return imagenet_weights("resnet50", root, flag="--pretrained FILE")


def build_learner(
    config: Config,
    num_classes: int,
    device: torch.device,
    weights: Path | None = None,
    ranks: Ranks = ALONE,
) -> Learner:
    """Network, EMA model and optimizer; of two networks drawn, both start from the second one.

    weights: of the ResNet-50, see `pretrained_weights`.
    """
    # DEVIATION(re_sln): CE and SLN start from the second network drawn, as SLN+MO does; re-sln
    # without --mo trains the first one. The authors' code keeps an EMA model in every run, as here.
    torch.manual_seed(config.seed)
    net, average = (_network(config, num_classes, device, weights) for _ in range(2))
    ema = MomentumModel(net, average, config.ema_decay)
    optimizer = SGD(
        net.parameters(),
        lr=config.lr,
        momentum=0.9,
        weight_decay=1e-3 if config.has_resnet else 5e-4,
        fused=device.type != "mps",
    )
    if config.compile:
        net.compile()
        average.compile()
    return Learner(net, ranks.parallel(net, config.sync_bn), ema, optimizer)


def on_device(net: N, device: torch.device) -> N:
    return net.to(device).to(memory_format=torch.channels_last)


def _network(
    config: Config, num_classes: int, device: torch.device, weights: Path | None
) -> nn.Module:
    net: nn.Module
    if config.has_resnet:
        net = resnet50(num_classes, weights)
    else:
        net = WideResNet(num_classes, config.depth, config.width)
    return on_device(net, device)


def same_run(recorded: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Whether a config.yaml is of that identity; what an older one does not name is None there."""
    known = recorded.get("identity") or {}
    return all(known.get(name) == identity.get(name) for name in {*known, *identity})


def find_folder(config: Config, identity: dict[str, Any]) -> tuple[Path, str]:
    """The run folder and the id: --output_dir, or the newest of equal settings, or a new one.

    A folder that a living process holds is not taken, unless it is --output_dir.
    """
    given = config.output_dir
    if config.resume:
        for folder in [given] if given else sorted(Path("runs").glob("exp_*"), reverse=True):
            recorded = read_config(folder) or {}
            if "exp_id" not in recorded:
                continue
            if given or (same_run(recorded, identity) and not is_locked(folder)):
                return folder, recorded["exp_id"]
    # DEVIATION(re_sln): the time in an id always has six digits after the point; the original
    # leaves out zeros.
    exp_id = f"exp_{datetime.now().isoformat(sep=' ', timespec='microseconds')}"
    return given or Path("runs") / exp_id, exp_id
