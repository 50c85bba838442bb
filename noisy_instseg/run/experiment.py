"""From a config file and flags to the final mmengine config.

    cfg = experiment.load(Path("configs/shapes/mask_rcnn_tiny_shapes_nl_1.py"), flags.settings)

Nothing heavy is imported and nothing written. One place decides: evaluators take their annotation
file from their dataset, tests run on the validation set (the published test set has no labels), the
seed, the hooks and the training set's wrapper are those of every run.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from noisy_instseg.run import data_checks
from noisy_instseg.run.config import Settings
from noisy_instseg.run.datasets import parts_of
from noisy_instseg.run.device import make_deterministic, world_size
from noisy_instseg.run.errors import say
from shared.errors import UserError

PROJECT = Path(__file__).absolute().parents[1]
OWN = "noisy_instseg."
MODULES = tuple(
    f"{OWN}{name}"
    for name in ("plugins", "run.seeded", "run.hooks", "run.roi_extractor", "run.coco_reader")
)
# mmdetection 2.2's names -> 3.x's
EVALUATION_OPTIONS = {"jsonfile_prefix": "outfile_prefix", "classwise": "classwise"}
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
    "resume": "train.py its --resume",
    "launcher": "train.py or test.py their --launcher",
    "randomness": "train.py its --seed and --deterministic",
    "data_root": "--data_root",
    "test_dataloader": "val_dataloader, which testing uses",
    "test_evaluator": "val_evaluator, which testing uses",
    "classes": "{train,val}_dataloader.dataset.metainfo.classes",
    "train_pipeline": "train_dataloader.dataset.pipeline",
    "test_pipeline": "val_dataloader.dataset.pipeline",
    "vis_backends": "train.py its --wandb",
    "visualizer": "train.py its --wandb",
}


def load(
    config_path: Path,
    settings: Settings,
    parts: Sequence[str] = ("train", "val"),
    trains: bool = False,
) -> Config:
    """The final config. Raises UserError.

    parts: the datasets that have to be there; without "train" the config is one to test with.
    trains: says first if the batch is not the published one.
    """
    cfg = read(config_path)
    recorded = forget_run(cfg)
    seed = (recorded.seed or 0) if settings.seed is None else settings.seed
    if {"train", "val"} <= set(parts):  # else nothing is trained, and it says nothing about testing
        settings = replace(
            settings,
            deterministic=settings.deterministic or recorded.deterministic,
            no_validate=settings.no_validate or recorded.no_validate,
        )
    train_ann = merge(cfg, settings.options)
    check_numbers(cfg)
    if trains:
        note_batch(cfg)
    place_data(cfg, settings.data_root)
    if (noise_file := settings.noise_file or train_ann) is not None:
        use_annotations(cfg, Path(noise_file))
    test_on_validation(cfg)
    limit(cfg, settings.limit_train, settings.limit_test)
    data_checks.adopt_classes(cfg, parts)
    cfg.randomness = dict(seed=seed, diff_rank_seed=False, deterministic=settings.deterministic)
    if settings.deterministic:
        make_deterministic()
    if settings.amp == "bf16":
        use_bfloat16(cfg)
    elif settings.amp == "off":
        use_float32(cfg)
    if settings.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    data_checks.check(cfg, [part for part in parts if cfg.get(f"{part}_dataloader")])
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        if loader is not None and not loader.get("num_workers"):
            loader.persistent_workers = False  # torch refuses it without workers
    if "train" in parts:
        set_up_training(cfg, seed, settings.wandb)
    else:
        set_up_test(cfg)
    import_own_modules(cfg)
    cfg.launcher = settings.launcher
    return cfg


def read(config_path: Path) -> Config:
    """A config file as it stands; its custom_imports wait until the run is sure to start."""
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
    if is_copy(cfg) and cfg.get("val_dataloader") is None:  # the run had --no-validate
        cfg.val_dataloader, cfg.val_evaluator = (
            cfg.get("test_dataloader"),
            cfg.get("test_evaluator"),
        )
    for key in ("model", "train_dataloader", "val_dataloader", "val_evaluator", "train_cfg"):
        if cfg.get(key) is None:
            raise UserError(
                f"{config_path}: has no `{key}`; expected a config of mmdetection 3.x, such as "
                "those in configs/"
            )
    return cfg


def is_copy(cfg: Config) -> bool:
    """Whether a run wrote the config into its folder."""
    loader = cfg.get("train_dataloader") or {}
    return bool(loader.get("dataset", {}).get("type") == "SeededDataset")


def forget_run(cfg: Config) -> Settings:
    """Takes away what a run wrote into its copy of a config, so that the copy repeats the run.

    The run's seed, --deterministic and --no-validate; 0 and without them for a config of no run.
    """
    seed, deterministic, no_validate = 0, False, False
    while is_copy(cfg):
        seed = cfg.train_dataloader.dataset.seed
        cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
        deterministic = (cfg.get("randomness") or {}).get("deterministic", False)
        no_validate = cfg.get("val_cfg") is None
    if no_validate:
        cfg.val_cfg = dict(type="ValLoop")
    if cfg.pop("resume", False):
        cfg.load_from = None
    if imports := cfg.get("custom_imports"):  # this package's are added by `import_own_modules`
        imports.imports = [name for name in imports.imports if not name.startswith(OWN)]
    return Settings(seed=seed, deterministic=deterministic, no_validate=no_validate)


def merge(cfg: Config, assignments: Sequence[str]) -> str | None:
    """Applies KEY=VALUE texts; the value of train_ann, which mmengine does not know."""
    values = dict(map(parse_option, assignments))
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
    train_ann: str | None = values.pop("train_ann", None)
    try:
        cfg.merge_from_dict(values)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"--options: cannot be applied: {error}") from error
    return train_ann


def parse_option(assignment: str) -> tuple[str, Any]:
    """Key and value of KEY=VALUE. Raises UserError."""
    key, _, text = assignment.partition("=")
    try:
        return key.strip(), DictAction._parse_iterable(text)
    except AssertionError as error:  # of brackets
        raise UserError(
            f"--options {assignment}: a bracket is open or too many: give a list as "
            f"'{key.strip()}=[1,2]', in quotes"
        ) from error


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


def note_batch(cfg: Config) -> None:
    """The learning rate belongs to the published batch: the first thing a run says."""
    line, is_published = describe_batch(cfg, world_size())
    if not is_published:
        say(f"note: {line}")


def describe_batch(cfg: Config, processes: int) -> tuple[str, bool]:
    """The images of a step, with the flags that make them the published number; whether they are.

    processes: of the run.
    """
    images = cfg.train_dataloader.get("batch_size", 1)
    batch = processes * images * cfg.optim_wrapper.get("accumulative_counts", 1)
    scaling = cfg.get("auto_scale_lr") or {}
    published = scaling.get("base_batch_size", batch)
    line = f"batch: {processes} process(es) x {images} image(s) = {batch} a step"
    if batch == published:
        return line, True
    if scaling.get("enable"):
        return f"{line}; the learning rate, made for {published}, is scaled to it", True
    return (
        f"{line}; the learning rate is made for {published}. To train as published: --cfg-options "
        f"train_dataloader.batch_size={max(1, published // processes)}; where memory does not "
        "allow that, scale the learning rate: --cfg-options auto_scale_lr.enable=True"
    ), False


# ---- data


def place_data(cfg: Config, given: Path | None) -> None:
    """Points every dataset to --data_root, or to where the config's data_root is found."""
    for part in parts_of(cfg, ("train", "val")):
        if given is not None:
            part.settings["data_root"] = str(given.expanduser())
        elif root := part.settings.get("data_root"):
            part.settings["data_root"] = str(_found(Path(root).expanduser()))


def _found(data_root: Path) -> Path:
    """`data/cityscapes` here, else in $DATA_ROOT, this project's data/ or the repository's."""
    if data_root.is_absolute() or data_root.is_dir():
        return data_root
    places = [PROJECT / data_root, PROJECT.parent / data_root]
    if root := os.environ.get("DATA_ROOT"):
        places.insert(0, Path(root).expanduser() / data_root.relative_to(data_root.parts[0]))
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
    for part in parts_of(cfg, ["train"]):
        part.settings["ann_file"] = str(path.expanduser().absolute())


def test_on_validation(cfg: Config) -> None:
    """Evaluators read the annotations of their dataset, and testing uses the validation set."""
    evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
    annotations = str(next(parts_of(cfg, ["val"])).annotations)
    for evaluator in evaluators:
        if "ann_file" in evaluator or evaluator.get("type") == "CocoMetric":
            evaluator.ann_file = annotations
    # DEVIATION(noisy_instseg): tools/test.py evaluates the validation set; the original's configs
    # name Cityscapes' test file, which has no annotations.
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = cfg.get("test_cfg") or dict(type="TestLoop")


def limit(cfg: Config, train: int | None, test: int | None) -> None:
    """Keeps the first so many images; what is evaluated is what remains (EvaluatedImagesHook)."""
    for name, count in (("train", train), ("val", test)):
        if count is not None:
            for part in parts_of(cfg, [name]):
                part.settings["indices"] = count
    cfg.test_dataloader = cfg.val_dataloader


# ---- what every run has


def use_bfloat16(cfg: Config) -> None:
    """Autocast around the forward passes of training; bfloat16 needs no scaling.

    Losses and RoIAlign stay in float32.
    """
    cfg.optim_wrapper.update(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=1.0)
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        cfg.model.roi_head[extractor].type = "Float32RoIExtractor"


def use_float32(cfg: Config) -> None:
    """The reverse of `use_bfloat16`, for the copy of a run that had it."""
    if cfg.optim_wrapper.get("type") == "AmpOptimWrapper":
        cfg.optim_wrapper.type = "OptimWrapper"
        for key in ("dtype", "loss_scale"):
            cfg.optim_wrapper.pop(key, None)
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        if cfg.model.roi_head[extractor].type == "Float32RoIExtractor":
            cfg.model.roi_head[extractor].type = "SingleRoIExtractor"


def set_up_training(cfg: Config, seed: int, wandb: bool) -> None:
    """The seeded training set, our hooks, the log; in the config, so its dump repeats the run."""
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
    for key in ("train_cfg", "train_dataloader", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
    cfg.auto_scale_lr = None
    add_hooks(cfg, dict(type="EvaluatedImagesHook"))
    set_backends(cfg, "LocalVisBackend")


def add_hooks(cfg: Config, *hooks: dict[str, Any]) -> None:
    """Beside the config's own; those that a dumped config brings along are replaced."""
    names = {hook["type"] for hook in hooks}
    kept = [hook for hook in cfg.get("custom_hooks") or [] if hook["type"] not in names]
    cfg.custom_hooks = [*kept, *hooks]


def set_backends(cfg: Config, *backends: str) -> None:
    """Where the log goes; without a name, or mmengine takes stage 2's visualizer for stage 1's."""
    cfg.visualizer = dict(
        type="DetLocalVisualizer", vis_backends=[dict(type=backend) for backend in backends]
    )


def import_own_modules(cfg: Config) -> None:
    """The registries know our classes wherever the config is used."""
    imports = cfg.get("custom_imports") or ConfigDict(imports=[], allow_failed_imports=False)
    imports.imports = [*MODULES, *imports.imports]
    cfg.custom_imports = imports


def evaluation_options(assignments: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Splits test.py's --options: settings of the config, mmdetection 2.2's of the evaluation."""
    rest, found = [], {}
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        if key in EVALUATION_OPTIONS:
            _, found[EVALUATION_OPTIONS[key]] = parse_option(assignment)
        else:
            rest.append(assignment)
    return tuple(rest), found
