"""A run of LRA-diffusion: everything around the training loop, built from its configuration.

`build` reads and checks all, computes features and neighbours, makes the networks and opens or
resumes the run folder; `Experiment` then records every epoch. Letters: N training images.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from tqdm import tqdm

from lra_diffusion.encoders import weights
from lra_diffusion.method.evaluate import EvaluationSet
from lra_diffusion.method.guide import Cached, Guide, OnTheFly
from lra_diffusion.method.networks import LargeResNet, NoisePredictor, SmallResNet, WeightAverage
from lra_diffusion.method.optimizers import Adam
from lra_diffusion.method.ranks import ALONE, Ranks
from lra_diffusion.method.retrieval import Bank, majority_vote
from lra_diffusion.method.train import Learner, TrainingSet
from shared.datasets import pretrained

from . import report
from .config import noise_source, run_name
from .data import load
from .device import autocast, choose_device, configure_torch, use_bfloat16
from .errors import UsageError, of_rank
from .features import Features, compute_features
from .folder import RunFolder, claimed, encode, may_publish, publish, reserved
from .launch import check_same, first_on_its_machine, joined
from .record import Row
from .schema import LabelConfig, TrainConfig
from .splits import RunData

# Settings that decide every number of a run, together with the hashes of what it reads.
DECIDING = (
    *("dataset", "nepoch", "batch_size", "warmup_epochs", "feature_dim", "k", "ddim_n_step"),
    *("diff_encoder", "width", "fp_queries", "bank_transform", "weighted", "exclude_self"),
    *("freeze_encoder", "batch_statistics", "ema_decay", "eval_weights", "lr", "lr_horizon"),
    *("select", "legacy", "seed", "limit_train", "limit_test"),
)
SHOWN = (
    *("k", "diff_encoder", "feature_dim", "nepoch", "batch_size", "warmup_epochs"),
    *("ddim_n_step", "seed"),
)
NO_WEIGHTS = (
    "Give a file of torchvision's weights with --pretrained FILE, or start from random ones with "
    "--pretrained none"
)


# ---- networks


def build_learner(
    config: TrainConfig,
    num_classes: int,
    feature_dim: int,
    device: torch.device,
    first_weights: Mapping[str, Tensor] | None = None,
    ranks: Ranks = ALONE,
) -> Learner:
    """Predictor and diffusion encoder, drawn from --seed, their EMA and their optimizer.

    first_weights: of the encoder, see `imagenet_weights`.
    """
    torch.manual_seed(config.seed)
    encoder = diffusion_encoder(config, first_weights).to(device)
    encoder = encoder.to(memory_format=torch.channels_last)
    predictor = NoisePredictor(num_classes, feature_dim, config.feature_dim).to(device)
    trained: list[nn.Module] = [predictor] if config.freeze_encoder else [predictor, encoder]
    if config.freeze_encoder:
        encoder.requires_grad_(False)
    parameters = [parameter for net in trained for parameter in net.parameters()]
    optimizer = Adam(parameters, lr=config.lr, fused=device.type != "mps")
    average = WeightAverage(trained, config.ema_decay)
    # DEVIATION(lra_diffusion): bfloat16 in the image encoders where the hardware has it; the
    # original is float32, its CLIP float16 on a GPU. Predictor, diffusion, losses, distances and
    # averages are float32.
    precision = autocast(config.amp, device)
    parallel = [ranks.parallel(net, config.sync_bn) for net in trained]
    called = (parallel[0], encoder if config.freeze_encoder else parallel[1])
    return Learner(predictor, encoder, average, optimizer, precision, ranks, called)


def diffusion_encoder(config: TrainConfig, first: Mapping[str, Tensor] | None) -> nn.Module:
    """A 32-pixel ResNet with random weights, or a 224-pixel one that starts from `first`."""
    if not config.diff_encoder.endswith("_l"):
        return SmallResNet(config.diff_encoder, config.feature_dim, config.width)
    name = config.diff_encoder.removesuffix("_l")
    net = LargeResNet(name, config.feature_dim)
    if first is not None:
        source = config.encoder_weights or name
        weights.load_into(net, first, source, NO_WEIGHTS, optional="myfc")
    return net


def imagenet_weights(config: TrainConfig) -> Mapping[str, Tensor] | None:
    """What the diffusion encoder starts from: a file, or torchvision's; None for random weights.

    Raises DownloadError or UsageError.
    """
    name, source = config.diff_encoder.removesuffix("_l"), config.encoder_weights
    if name == config.diff_encoder or source == "none":
        return None
    if source is not None:
        return weights.read(Path(source))
    if name in pretrained.NETWORKS:
        # A folder of one's own pictures is no place for other files.
        place = None if config.dataset == "folder" else config.data_path
        return weights.read(pretrained.imagenet_weights(name, place, flag="--pretrained FILE"))
    published = models.get_model_weights(name)["IMAGENET1K_V1"]
    state: weights.State = weights.downloaded(
        lambda: published.get_state_dict(check_hash=True, weights_only=True),
        f"--diff_encoder {config.diff_encoder}",
        NO_WEIGHTS,
        weights.PYTORCH,
    )
    return state


# ---- a run


def device_of(config: TrainConfig) -> torch.device:
    """--device, else the first of --gpu_devices that is there, else what the machine has.

    Of several processes, each takes its own.
    """
    if config.gpu_devices is None or config.device != "auto" or of_rank():
        return choose_device(config.device)
    there = [number for number in config.gpu_devices if number < torch.cuda.device_count()]
    device = choose_device(f"cuda:{there[0]}" if there else "auto")
    if not there:
        print(f"note: --gpu_devices {' '.join(map(str, config.gpu_devices))}: running on {device}")
    return device


def check_sync_bn(config: LabelConfig, device: torch.device, ranks: Ranks) -> None:
    """Raises UsageError where torch cannot do it."""
    if config.sync_bn and ranks.size > 1 and device.type != "cuda":
        raise UsageError(f"--sync_bn works on GPUs only, this is {device}: leave it out")


@dataclass
class Prepared:
    """What `method.train.train` takes, and what it is made of."""

    config: TrainConfig
    data: RunData
    features: Features
    learner: Learner
    train_set: TrainingSet
    test_sets: dict[str, EvaluationSet]
    fixed: Row  # figures that do not change from epoch to epoch
    bf16: bool  # are the encoders' forward passes in bfloat16?


@dataclass
class Experiment(Prepared):
    """A run in progress, and where it is recorded."""

    folder: RunFolder

    def record(self, row: Row) -> None:
        """Logs an epoch, keeps the model of the best one, and saves the state."""
        is_best = self.folder.log(row | self.fixed)
        if is_best:
            model = self.learner.model(row["weights"])
            publish(*self.model_places(), encode(*model, about=self._about()))
        self.folder.save(is_best)
        for line in report.epoch_lines(row, is_best, self.config.select, [*self.data.tested]):
            tqdm.write(line)

    def _about(self) -> dict[str, Any]:
        """What a model's file says of itself, so that it is not tested with another encoder."""
        return {"encoder": self.features.record, "classes": list(self.data.class_names)}

    def model_places(self) -> tuple[Path, Path]:
        """The model in the run folder, and where the published scripts write it."""
        return self.folder.places(f"{self.folder.name}.pt")

    def print_start(self) -> None:
        config, data = self.config, self.data
        about, held_out = f"LRA-diffusion on {config.dataset}", config.val_fraction is not None
        print("\n".join(report.start_lines(about, data, noise_source(config), held_out)))
        settings = dataclasses.asdict(config)
        print(f"features: {self.features.source[:80]}")
        print("settings: " + ", ".join(f"{name} {settings[name]}" for name in SHOWN))
        count, precision = self.folder.ranks.size, "bfloat16" if self.bf16 else "float32"
        print(
            f"{f'{count} processes, ' if count > 1 else ''}{data.train.images.device}, encoders in "
            f"{precision}; run folder {self.folder.path}"
        )
        votes = [
            f"{value:.2f} % ({name.removeprefix('knn_accuracy_')})"
            for name, value in self.fixed.items()
            if value is not None
        ]
        if votes:
            print(f"majority vote of the {config.k} nearest neighbours' labels: {', '.join(votes)}")
        if config.per_class and self.train_set.per_class != config.per_class:
            print(
                f"an epoch takes {self.train_set.per_class} images of each class, as many as the "
                "smallest has"
            )
        own, published = self.model_places()
        if not may_publish(own, published):
            print(f"note: {published} is of another run and stays; this run's model will be {own}")
        if config.nepoch <= config.warmup_epochs:
            print(
                f"note: all {config.nepoch} epochs are warm-up (--warmup_epochs "
                f"{config.warmup_epochs})"
            )
        for line in self.folder.resumed_lines():
            print(line)

    def print_end(self) -> None:
        rows, (own, published) = self.folder.rows, self.model_places()
        print("\n".join(report.end_lines(rows, self.config.select, [*self.data.tested])))
        if report.chosen(rows):
            model = published if may_publish(own, published) else own
            print(f"model: {model}; run folder: {self.folder.path}")


@contextmanager
def build(config: TrainConfig) -> Iterator[Experiment]:
    """Everything of a run; nothing but the cache of features is written before all was checked.

    Other processes but the run's own are kept out of its folder until the block ends.
    """
    device = device_of(config)
    with joined(device) as ranks, reserved(config, ranks):
        run = prepare(config, device, ranks)
        name, identity = run_name(config), _identity(config, run.data, run.features, run.bf16)
        check_same(identity, ranks)
        with claimed(config, name, identity, ranks) as folder:
            if config.export:
                folder.read(run.learner)
            else:
                entries = _config_entries(config, run.data, folder, device)
                folder.open(run.learner, config, entries, run.data.noise)
            yield Experiment(**vars(run), folder=folder)


def prepare(config: TrainConfig, device: torch.device, ranks: Ranks = ALONE) -> Prepared:
    """All of a run but its folder."""
    check_sync_bn(config, device, ranks)
    configure_torch(config.deterministic, device)
    with first_on_its_machine(ranks):
        data = load(config, device)
        _check_k(config, len(data.train.labels))
        if config.select == "test" and "test" not in data.tested and not config.legacy:
            raise UsageError("--select test: there is no test set; leave it out")
        first_weights = imagenet_weights(config)  # what is missing is told before the long work
    bf16 = use_bfloat16(config.amp, device)
    # save_probs is in no identity, but one rank would wait for another in vain.
    decided = {name: getattr(config, name) for name in (*DECIDING, "sync_bn", "save_probs")}
    check_same({**decided, **data.hashes, "bf16": bf16}, ranks)
    data, features = compute_features(config, data, device, training=True, ranks=ranks)
    assert features.bank is not None  # as it is training
    labels, test_sets = data.train.labels, features.test_sets(data)
    bank = Bank(features.bank, bfloat16=bf16 and device.type == "cpu")
    guide: Guide
    if config.fp_queries == "cached":
        guide = Cached(features.bank, bank, labels, config.k, config.exclude_self, ranks)
    else:
        assert features.encoder is not None  # without one, queries are cached
        amp = autocast(config.amp, device)
        guide = OnTheFly(features.encoder, bank, labels, config.k, config.exclude_self, amp)
    per_class = config.per_class
    if per_class is not None:  # at most what the smallest class has
        sizes = labels.bincount()
        per_class = min(per_class, int(sizes[sizes > 0].min()))
    clean = None if data.clean is None else torch.tensor(data.clean, device=device)
    fixed: Row = {f"knn_accuracy_{name}": None for name in test_sets}
    for name, test_set in test_sets.items():
        if not len(test_set.labels):
            continue
        nearest = labels[bank.nearest_rows(test_set.features, config.k, ranks=ranks)]
        right = majority_vote(nearest, data.num_classes) == test_set.labels
        fixed[f"knn_accuracy_{name}"] = 100 * right.float().mean().item()
    dim = features.bank.shape[1]
    learner = build_learner(config, data.num_classes, dim, device, first_weights, ranks)
    train_set = TrainingSet(data.train.images, labels, clean, guide, per_class)
    return Prepared(config, data, features, learner, train_set, test_sets, fixed, bf16)


def _check_k(config: TrainConfig, count: int) -> None:
    available = count - config.exclude_self
    if config.k > available:
        raise UsageError(
            f"--k {config.k}: there are {available} images to retrieve from; give a smaller --k, "
            "or raise --limit_train"
        )


def _identity(config: TrainConfig, data: RunData, features: Features, bf16: bool) -> dict[str, Any]:
    """All that decides the numbers of a run."""
    settings, source = dataclasses.asdict(config), config.encoder_weights
    if source not in (None, "none"):  # the file, wherever it lies
        source = weights.sha256_of_file(Path(str(source)))
    more = {"bf16": bf16, "fp_encoder": features.source, "encoder_weights": source}
    more |= {"sync_bn": True} if config.sync_bn else {}
    return {name: settings[name] for name in DECIDING} | more | data.hashes


def _config_entries(
    config: TrainConfig, data: RunData, folder: RunFolder, device: torch.device
) -> Mapping[str, Any]:
    """The run's config.yaml."""
    settings, of_this_command = dataclasses.asdict(config), ("resume", "eval_only", "export")
    features = config.fp_encoder if config.fp_embed_train is None else "embeddings"
    return {
        "name": folder.name,
        "method": f"LRA-diffusion ({features})",
        **{key: value for key, value in settings.items() if key not in of_this_command},
        "measured_noise_rate": data.noise.header.measured_rate,
        "data_location": None if data.location is None else data.location.resolve(),
        "device_used": str(device),
        "threads": torch.get_num_threads(),
        "ranks": folder.ranks.size,
        "identity": folder.identity,
    }
