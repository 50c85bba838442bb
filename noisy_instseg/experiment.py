"""From a config file and flags to the final mmengine config, before anything heavy is imported or
anything is written.

    cfg = experiment.load(Path("configs/shapes/mask_rcnn_tiny_shapes_nl_1.py"), args)

One place decides: evaluators take their annotation file from their data set, tests run on the
validation set (the published test set has no labels), the seed, the hooks and the training set's
wrapper are those of every run.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from noisy_instseg import data_checks
from noisy_instseg.errors import UserError
from noisy_instseg.options import EVALUATION_OPTIONS

ROOT = Path(__file__).absolute().parents[1]
MODULES = (
    "noisy_instseg.plugins",
    "noisy_instseg.seeded",
    "noisy_instseg.hooks",
    "noisy_instseg.roi_extractor",
)
OWN_KEYS = {
    "train_ann",
    "load_from",
    "work_dir",
    "compile",
    "find_unused_parameters",
    "auto_scale_lr",
    "optim_wrapper",
    "param_scheduler",
    "model_wrapper_cfg",
    "activation_checkpointing",
}
REPLACED = {  # keys that would have no effect -> what to give instead
    "resume": "--resume",
    "launcher": "--launcher",
    "randomness": "--seed and --deterministic",
    "data_root": "--data_root",
    "test_dataloader": "val_dataloader, which testing uses",
    "test_evaluator": "val_evaluator, which testing uses",
    "classes": (
        "train_dataloader.dataset.metainfo.classes and val_dataloader.dataset.metainfo.classes"
    ),
    "train_pipeline": "train_dataloader.dataset.pipeline",
    "test_pipeline": "val_dataloader.dataset.pipeline",
    "vis_backends": "--wandb",
    "visualizer": "--wandb",
}


def load(
    config_path: Path, options: argparse.Namespace, parts: Sequence[str] = ("train", "val")
) -> Config:
    """The final config. Raises UserError.

    options: flags as `options.parse` gives them; missing ones count as not given. parts: the data
    sets that have to be there; without "train" the config is one to test with.
    """
    cfg = read(config_path)
    train_ann = merge(cfg, getattr(options, "options", []))
    check_numbers(cfg)
    place_data(cfg, getattr(options, "data_root", None))
    if (noise_file := getattr(options, "noise_file", None) or train_ann) is not None:
        use_annotations(cfg, Path(noise_file))
    test_on_validation(cfg)
    limit(cfg, getattr(options, "limit_train", None), getattr(options, "limit_test", None))
    data_checks.adopt_classes(cfg, parts)
    seed = getattr(options, "seed", 0)
    cfg.randomness = dict(
        seed=seed, diff_rank_seed=False, deterministic=getattr(options, "deterministic", False)
    )
    set_amp(cfg, getattr(options, "amp", "off"))
    if getattr(options, "no_validate", False):
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    data_checks.check(cfg, [part for part in parts if cfg.get(f"{part}_dataloader")])
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        if loader is not None and not loader.get("num_workers"):
            loader.persistent_workers = False  # torch refuses it without workers
    if "train" in parts:
        set_up_training(cfg, seed, getattr(options, "wandb", False))
    else:
        set_up_test(cfg)
    import_own_modules(cfg)
    cfg.launcher = getattr(options, "launcher", "none")
    return cfg


def read(config_path: Path) -> Config:
    """A config file as it stands; its custom_imports wait until it is known that the run can start."""
    if not config_path.is_file():
        raise UserError(
            f"{config_path}: no such config file; those of this project are in "
            "noisy_instseg/configs"
        )
    try:
        cfg = Config.fromfile(config_path, import_custom_modules=False)
    except Exception as error:  # a config is code, so anything can go wrong in it
        raise UserError(
            f"{config_path}: cannot be read as a config: {type(error).__name__}: {error}"
        ) from error
    # formatting the text by yapf takes a second, and mmengine does it for every checkpoint
    cfg = Config(cfg._cfg_dict, cfg.text, cfg.filename, cfg.env_variables, format_python_code=False)
    for key in ("model", "train_dataloader", "val_dataloader", "val_evaluator", "train_cfg"):
        if cfg.get(key) is None:
            raise UserError(
                f"{config_path}: has no `{key}`; expected a config of mmdetection 3.x, such as "
                "those in configs/"
            )
    forget_run(cfg)
    return cfg


def forget_run(cfg: Config) -> None:
    """Takes away what an earlier run wrote into its copy of a config, so that the copy does what
    the original does.
    """
    while cfg.train_dataloader.dataset.get("type") == "SeededDataset":
        cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
    if cfg.pop("resume", False):
        cfg.load_from = None


def merge(cfg: Config, assignments: list[str]) -> str | None:
    """Applies KEY=VALUE texts; returns the value of train_ann, which is no setting of mmengine's."""
    changes = dict(assignment.split("=", 1) for assignment in assignments)
    values = {key.strip(): DictAction._parse_iterable(value) for key, value in changes.items()}
    for key in values:
        if key.split(".")[0] in REPLACED:
            raise UserError(
                f"--options {key}: would have no effect; give {REPLACED[key.split('.')[0]]}"
            )
        if key.split(".")[0] not in {*cfg, *OWN_KEYS}:
            raise UserError(
                f"--options {key}: the config has no `{key.split('.')[0]}`; it has "
                f"{', '.join(sorted(cfg))}"
            )
    train_ann = values.pop("train_ann", None)
    try:
        cfg.merge_from_dict(values)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"--options: cannot be applied: {error}") from error
    return train_ann


def check_numbers(cfg: Config) -> None:
    """What mmengine and torch would divide by, or silently do nothing with. Raises UserError."""
    found = {
        "train_cfg.max_epochs": cfg.train_cfg.get("max_epochs"),
        "train_cfg.val_interval": cfg.train_cfg.get("val_interval", 1),
        "train_dataloader.batch_size": cfg.train_dataloader.get("batch_size", 1),
        "train_dataloader.dataset.times": cfg.train_dataloader.dataset.get("times", 1),
        "val_dataloader.batch_size": cfg.val_dataloader.get("batch_size", 1),
    }
    for name, value in found.items():
        if type(value) is not int or value < 1:
            raise UserError(
                f"{name} is {value!r}: give a whole number from 1 on, as in --cfg-options {name}=1"
            )


# ---- data


def datasets_of(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The innermost data sets below wrappers such as RepeatDataset and ConcatDataset."""
    parts = dataset.get("datasets") or ([dataset["dataset"]] if "dataset" in dataset else [])
    if not parts:
        yield dataset
    for part in parts:
        yield from datasets_of(part)


def annotation_file(dataset: ConfigDict) -> Path:
    """The file of an innermost data set, as mmengine joins it."""
    return Path(dataset.get("data_root") or "", dataset.get("ann_file", ""))


def place_data(cfg: Config, given: Path | None) -> None:
    """Points every data set to --data_root, or to where the config's data_root is found."""
    for part in ("train", "val"):
        for dataset in datasets_of(cfg[f"{part}_dataloader"].dataset):
            if given is not None:
                dataset.data_root = str(given.expanduser())
            elif dataset.get("data_root"):
                dataset.data_root = str(_found(Path(dataset.data_root).expanduser()))


def _found(data_root: Path) -> Path:
    """`data/cityscapes` here, else in $DATA_ROOT, in this project's data/ or in the repository's;
    else unchanged.
    """
    if data_root.is_absolute() or data_root.is_dir():
        return data_root
    places = [ROOT / "noisy_instseg" / data_root, ROOT / data_root]
    if os.environ.get("DATA_ROOT"):
        places.insert(
            0,
            Path(os.environ["DATA_ROOT"]).expanduser() / data_root.relative_to(data_root.parts[0]),
        )
    return next((place for place in places if place.is_dir()), data_root)


def use_annotations(cfg: Config, path: Path) -> None:
    """Trains on the annotation file `path`, wherever the images are."""
    if not path.expanduser().is_file():
        raise UserError(
            f"--noise_file {path}: no such file; noisy_labels_SN_*.py and noisy_labels_AN_*.py "
            "make one"
        )
    if path.suffix.lower() != ".json":
        raise UserError(
            f"--noise_file {path}: expected COCO annotations (.json), as noisy_labels_*.py "
            "write them"
        )
    for dataset in datasets_of(cfg.train_dataloader.dataset):
        dataset.ann_file = str(path.expanduser().absolute())


def test_on_validation(cfg: Config) -> None:
    """One source of truth: evaluators read the annotations of their data set, and testing uses the
    validation set.
    """
    evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
    first = next(datasets_of(cfg.val_dataloader.dataset))
    for evaluator in evaluators:
        if "ann_file" in evaluator or evaluator.get("type") == "CocoMetric":
            evaluator.ann_file = str(annotation_file(first))
    # DEVIATION(noisy_instseg): tools/test.py evaluates the validation set; the original's configs
    # name Cityscapes' test file, which has no annotations.
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = cfg.get("test_cfg") or dict(type="TestLoop")


def limit(cfg: Config, train: int | None, test: int | None) -> None:
    """Keeps the first so many images of a set; what is evaluated is what remains, see
    EvaluatedImagesHook.
    """
    for part, count in (("train", train), ("val", test)):
        if count is not None:
            for dataset in datasets_of(cfg[f"{part}_dataloader"].dataset):
                dataset.indices = count
    cfg.test_dataloader = cfg.val_dataloader


# ---- what every run has


def set_amp(cfg: Config, amp: str) -> None:
    """bf16: autocast around the forward passes of training.

    Losses and RoIAlign stay in float32; bfloat16 needs no scaling.
    """
    if amp == "bf16":
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.dtype = "bfloat16"
        cfg.optim_wrapper.loss_scale = 1.0
        for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
            cfg.model.roi_head[extractor].type = "Float32RoIExtractor"


def set_up_training(cfg: Config, seed: int, wandb: bool) -> None:
    """The seeded training set, our hooks, the backends of the log; told to the config, so that its
    dump repeats the run.
    """
    cfg.train_dataloader.dataset = ConfigDict(
        type="SeededDataset", seed=seed, dataset=cfg.train_dataloader.dataset
    )
    cfg.train_dataloader.persistent_workers = False  # workers are told the epoch when they start
    # Several processes have a batch norm each, whose statistics mmengine leaves apart: the epoch's
    # mean goes to all.
    add_hooks(
        cfg,
        dict(type="SeedHook", seed=seed),
        dict(type="FiniteLossHook"),
        dict(type="EvaluatedImagesHook"),
        dict(type="SyncBuffersHook"),
    )
    set_backends(cfg, "LocalVisBackend", "TensorboardVisBackend")
    if wandb:
        cfg.visualizer.vis_backends.append(
            dict(type="WandbVisBackend", init_kwargs=dict(project="noisy-instseg"))
        )


def set_up_test(cfg: Config) -> None:
    """Nothing of training is built."""
    cfg.train_cfg = cfg.train_dataloader = cfg.optim_wrapper = cfg.param_scheduler = (
        cfg.auto_scale_lr
    ) = None
    add_hooks(cfg, dict(type="EvaluatedImagesHook"))
    set_backends(cfg, "LocalVisBackend")


def add_hooks(cfg: Config, *hooks: dict[str, Any]) -> None:
    """Beside the config's own; those that a dumped config brings along are replaced."""
    names = {hook["type"] for hook in hooks}
    cfg.custom_hooks = [
        hook for hook in cfg.get("custom_hooks") or [] if hook["type"] not in names
    ] + list(hooks)


def set_backends(cfg: Config, *backends: str) -> None:
    """Where the log goes.

    Without a name, for mmengine would take the second stage's visualizer for the first's.
    """
    cfg.visualizer = dict(
        type="DetLocalVisualizer", vis_backends=[dict(type=backend) for backend in backends]
    )


def import_own_modules(cfg: Config) -> None:
    """The registries know our classes wherever the config is used."""
    imports = cfg.get("custom_imports") or ConfigDict(imports=[], allow_failed_imports=False)
    imports.imports = [
        *imports.imports,
        *(module for module in MODULES if module not in imports.imports),
    ]
    cfg.custom_imports = imports


def identify(cfg: Config) -> dict[str, Any]:
    """What has to stay the same for a run to be continued, stage 2 included: all but the loss and
    the number of epochs.

    Plain values, as a checkpoint brings them back.
    """
    plain = cfg.to_dict()
    model, loader = plain["model"], plain["train_dataloader"]
    model["roi_head"]["bbox_head"].pop("loss_cls", None)
    model["backbone"].pop("init_cfg", None)
    dataset = loader["dataset"]
    dataset = dataset["dataset"] if dataset["type"] == "SeededDataset" else dataset
    sets = list(datasets_of(dataset))
    digests = [_digest(annotation_file(ConfigDict(part))) for part in sets]
    for part in sets:
        for key in (
            "ann_file",
            "data_root",
        ):  # data may move, as long as the annotations stay what they are
            part.pop(key, None)
    for scheduler in (schedulers := plain.get("param_scheduler") or []):
        if scheduler.get(
            "by_epoch", True
        ):  # what mmengine fills in, and the checkpoint hands on to the second stage
            scheduler.setdefault("end", plain["train_cfg"].get("max_epochs"))
    world = int(os.environ.get("WORLD_SIZE", 1))
    identity = {
        "seed": cfg.randomness.seed,
        "training annotations (SHA-256)": ", ".join(digests),
        "batch (images of a step)": world * loader.get("batch_size", 1),
        "model": model,
        "training set": dataset,
        "optim_wrapper": plain["optim_wrapper"],
        "param_scheduler": schedulers,
    }
    return json.loads(json.dumps(identity, default=str))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def evaluation_options(assignments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Splits test.py's --options into settings of the config and mmdetection 2.2's options of the
    evaluation.
    """
    known = [text for text in assignments if text.split("=", 1)[0] in EVALUATION_OPTIONS]
    values = dict(text.split("=", 1) for text in known)
    parsed = {
        EVALUATION_OPTIONS[key]: DictAction._parse_iterable(value) for key, value in values.items()
    }
    return [text for text in assignments if text not in known], parsed
