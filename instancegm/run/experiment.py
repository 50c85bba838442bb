"""A run: data, noisy labels and networks, built from the configuration."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from instancegm.method.mixture import LossHistory
from instancegm.method.peers import EvaluationSet, Peer, TrainingSet, build_peer
from instancegm.method.ranks import ALONE, Ranks
from instancegm.method.settings import Settings
from instancegm.method.signs import SILENT, SignsOfLife
from instancegm.run import checkpoint
from instancegm.run.config import Config
from instancegm.run.data import run_data
from instancegm.run.device import autocast, choose_device, configure_torch, use_bfloat16
from instancegm.run.errors import CheckpointError, UsageError
from instancegm.run.launch import check_same, first_on_its_machine
from instancegm.run.presets import of_dataset
from instancegm.run.published import setting_name
from instancegm.run.record import Row
from shared.datasets.pretrained import imagenet_weights
from shared.formats.noise_file import NoiseFile, label_hash
from shared.run_folder import locked

# Settings in the identity of every checkpoint. Later ones are in it where they differ from their
# default, so that older checkpoints stay valid. A finished run may be prolonged: num_epochs is not.
ALWAYS_IN_IDENTITY = (
    *("dataset", "r", "mode", "no_vae", "numerics", "guess_eval", "seed", "batch_size", "lr"),
    *("lr_drop", "vae_lr", "lambda_u", "p_threshold", "alpha", "T", "warm_up", "width", "z_dim"),
)


@dataclass
class Experiment:
    """A run in progress. `rows` and `history` are all the state that the peers do not hold."""

    config: Config
    folder: Path  # the one asked for; of the default names `RunFolder` takes a free one
    device: torch.device
    peers: list[Peer]
    train_set: TrainingSet
    tests: dict[str, EvaluationSet]  # "val" and "test", where there are such images
    history: LossHistory
    noise: NoiseFile  # of the N training samples; its `indices` are their positions in the dataset
    noise_word: str  # for the noise, in file names
    files: tuple[str, ...]  # N names of the training images; empty where they are no files
    class_names: tuple[str, ...]  # C
    data_location: Path | None  # None: embedded
    identity: dict[str, Any]  # what decides the numbers; a checkpoint of another one is refused
    rows: list[Row]
    ranks: Ranks  # whose first one has the run folder, and alone counts its `rows`

    @property
    def next_epoch(self) -> int:
        return len(self.rows)

    @property
    def data_word(self) -> str:
        """For the dataset, in names of files beside the run folder; sets of users have their own.

        Two of these may have the same name, rate and labels, so a hash of the data is in it.
        """
        if self.config.dataset != "folder" or self.data_location is None:
            return self.config.dataset
        name = re.sub(r"[^\w.-]", "_", self.data_location.resolve().stem)
        size = "" if self.config.image_size == 32 else self.config.image_size
        return f"folder{size}_{name}_{self.identity['data_sha256'][:8]}"

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": len(self.rows) - 1,
            "peers": [peer.state_dict() for peer in self.peers],
            "losses": [[torch.from_numpy(each) for each in past] for past in self.history.losses],
            "rows": self.rows,
            "identity": self.identity,
            "ranks": self.ranks.size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        checkpoint.refuse_other_run(state["identity"], self.identity)
        if len(state["rows"]) > self.config.num_epochs + 1:
            raise CheckpointError(
                f"the run has done epoch {len(state['rows']) - 1} already: --num_epochs "
                f"{self.config.num_epochs} cannot shorten it"
            )
        then, now = state.get("ranks", 1), self.ranks.size
        if then != now:
            print(
                f"note: the checkpoint is of {then} processes, and this run has {now}: batch "
                "normalisation sees other rows, so the numbers will not be those of a run that "
                "was not interrupted"
            )
        for peer, saved in zip(self.peers, state["peers"]):
            peer.load_state_dict(saved)
        self.history.losses = [[each.cpu().numpy() for each in past] for past in state["losses"]]
        self.rows = list(state["rows"])


def device_of(config: Config) -> torch.device:
    """That of this process; raises UsageError."""
    there = [gpu for gpu in config.gpu_devices or () if gpu < torch.cuda.device_count()]
    return choose_device(config.device, there[0] if there else config.gpuid)


def build(config: Config, signs: SignsOfLife = SILENT, ranks: Ranks = ALONE) -> Experiment:
    """Reads and checks everything, and builds the networks; `RunFolder` resumes.

    Nothing is written but the noise file that the original keeps with the data.
    """
    device = device_of(config)
    if config.sync_bn and ranks.size > 1 and device.type != "cuda":
        raise UsageError(f"--sync_bn is for GPUs, and this run is on {device}: leave it out")
    if ranks.is_first and config.output_dir is not None and config.output_dir.exists():
        with locked(config.output_dir):  # to refuse at once; it is locked for good later
            refuse_to_overwrite(config.output_dir, config.resume)
    configure_torch(config.deterministic, device)
    weights = _imagenet(config, ranks)  # whatever is missing is said before images are decoded
    data = run_data(config, device, signs, ranks)
    config, num_classes = data.config, len(data.class_names)
    identity = {
        **_deciding_settings(config),
        "bf16": use_bfloat16(config.amp, device),
        "data_sha256": data.sha256,
        "noisy_labels_sha256": label_hash(data.noise.noisy_labels),
    }
    # These are in no identity, but one rank would wait for another in vain.
    more = {name: getattr(config, name) for name in ("num_epochs", "save_probs")}
    check_same(identity | more, ranks)
    # DEVIATION(instancegm): bfloat16 where the hardware has it; the original is float32 throughout.
    # `--amp off` is too.
    precision = autocast(config.amp, device)
    peers = [
        build_peer(config, number, num_classes, device, precision, weights, ranks)
        for number in ((1,) if config.mode == "ce" else (1, 2))
    ]
    # Draws differ from epoch to epoch, so that their losses have no mean.
    keep = config.loss_epochs if config.num_batches is None else 1
    return Experiment(
        config=config,
        folder=config.output_dir or Path("runs") / run_name(config, data.noise_word),
        device=device,
        peers=peers,
        train_set=data.train_set,
        tests=data.tests,
        history=LossHistory(len(peers), keep),
        noise=data.noise,
        noise_word=data.noise_word,
        files=data.files,
        class_names=data.class_names,
        data_location=data.location,
        identity=identity,
        rows=[],
        ranks=ranks,
    )


def _imagenet(config: Config, ranks: Ranks) -> Path | None:
    """The file with ImageNet weights of the classifier, downloaded if need be.

    None: from scratch, or from a checkpoint that can be read. Raises UserError, saying where to get
    it.
    """
    if config.pretrained == "none" or ranks.same(lambda: _has_checkpoint(config)):
        return None
    if config.weights is not None and not config.weights.is_file():
        raise UsageError(
            f"--weights {config.weights}: no such file; without the flag they are downloaded"
        )
    # Not into a folder of own pictures, where a folder is a class.
    place = None if config.dataset == "folder" else config.where_data_is()
    with first_on_its_machine(ranks):
        return config.weights or imagenet_weights(config.network, place)


def _has_checkpoint(config: Config) -> bool:
    """Whether --resume finds a whole one; on "meta" its tensors take no memory."""
    folder = config.output_dir if config.resume else None
    return folder is not None and checkpoint.load_newest(folder, "meta") is not None


def _deciding_settings(config: Config) -> dict[str, Any]:
    values = config.recorded()
    implied = {"num_epochs", "loss_epochs"}  # the latter by noise and rate
    # Checkpoints of digits are older than --flip.
    usual = {"flip": of_dataset(config.script, config.dataset).get("flip", Settings.flip)}
    later = {
        field.name
        for field in fields(Settings)
        if field.name not in implied and values[field.name] != usual.get(field.name, field.default)
    }
    later |= {"pretrained"} if config.pretrained != "none" else set()
    return {name: values[name] for name in {*ALWAYS_IN_IDENTITY, *later}}


def refuse_to_overwrite(folder: Path, resume: bool) -> None:
    """Raises CheckpointError if a run is there that is not continued."""
    if not resume and (folder / checkpoint.LAST).exists():
        raise CheckpointError(
            f"{folder} holds a run already: add --resume to continue it, or choose another "
            "--output_dir"
        )


def run_name(config: Config, noise_word: str) -> str:
    """What a run folder is called where --output_dir does not say."""
    setting = setting_name(config.dataset, config, noise_word)
    parts = [setting, config.method, config.id, f"seed{config.seed}"]
    return "_".join(part for part in parts if part)
