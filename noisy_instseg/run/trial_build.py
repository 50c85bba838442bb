"""Settings that no class takes are found before a run folder is made.

mmengine builds optimizer, loaders and loops after it has made the folder, and some of them after
minutes. What is cheap is built here; of the rest the names of the arguments are checked.
"""

import copy
import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from mmengine.config import Config

from noisy_instseg.run.datasets import parts_of
from shared.errors import UserError

GIVEN_LATER = {  # by the Runner
    "train_cfg": ("runner", "dataloader"),
    "val_cfg": ("runner", "dataloader", "evaluator"),
}
NOT_TAKEN = ("type", "priority", "_scope_")  # what registries take for themselves
DEFAULT_LOOPS = {"train_cfg": "EpochBasedTrainLoop", "val_cfg": "ValLoop"}


def check_settings(cfg: Config, network: Any) -> None:
    """Builds the optimizer and its schedule, a loader over nothing, datasets without reading.

    network: of the config, on any device. Raises UserError that names the place.
    """
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        _check_training(cfg, network)
        _check_data(cfg)
        _check_hooks(cfg)


def _check_training(cfg: Config, network: Any) -> None:
    from mmdet.registry import LOOPS
    from mmengine.optim import build_optim_wrapper

    settings = _copy(cfg, "optim_wrapper")
    optimizer = _tried("optim_wrapper", partial(build_optim_wrapper, network, settings))
    if clip := getattr(optimizer, "clip_grad_kwargs", None):  # a dict that only a step would read
        bind = inspect.signature(optimizer.clip_func).bind
        _tried("optim_wrapper.clip_grad", partial(bind, (), **clip))
    for place, schedule in _listed(cfg, "param_scheduler"):
        _try_schedule(place, schedule, optimizer)
    for name, default in DEFAULT_LOOPS.items():
        if cfg.get(name):
            loop = LOOPS.get(cfg[name].get("type", default))
            _check_names(name, loop, cfg[name], GIVEN_LATER[name])


def _check_data(cfg: Config) -> None:
    from mmdet.registry import DATASETS, METRICS
    from mmengine.runner import Runner

    for part in ("train", "val"):
        if cfg.get(f"{part}_dataloader"):
            loader = {**_copy(cfg, f"{part}_dataloader"), "dataset": [0] * 64}
            _tried(f"{part}_dataloader", partial(Runner.build_dataloader, loader, seed=0))
            _check_wrappers(f"{part}_dataloader.dataset", cfg[f"{part}_dataloader"].dataset)
    for one in parts_of(cfg, ("train", "val")):
        place = f"{one.name}_dataloader.dataset.{one.inner}".rstrip(".")
        settings = {**copy.deepcopy(dict(one.settings)), "lazy_init": True}
        _tried(place, partial(DATASETS.build, settings))
    for place, evaluator in _listed(cfg, "val_evaluator"):
        _check_names(place, METRICS.get(evaluator["type"]), evaluator)
        if evaluator["type"] == "CocoMetric":  # whose annotations take minutes to read
            without = {**copy.deepcopy(dict(evaluator)), "ann_file": None}
            _tried(place, partial(METRICS.build, without))


def _check_wrappers(place: str, dataset: Any) -> None:
    """The settings of what stands around a dataset, such as RepeatDataset's."""
    from mmdet.registry import DATASETS

    if "dataset" in dataset:
        if dataset["type"] != "SeededDataset":  # which the tools put around it
            _check_names(place, DATASETS.get(dataset["type"]), dataset)
            place = f"{place}.dataset"
        _check_wrappers(place, dataset["dataset"])


def _check_hooks(cfg: Config) -> None:
    from mmdet.registry import HOOKS

    for name, hook in (cfg.get("default_hooks") or {}).items():
        if hook:
            kind = HOOKS.get(hook["type"])
            _check_names(f"default_hooks.{name}", kind, hook)
            # those of mmengine take anything, and some stumble over it after the first epoch
            known = {key for one in kind.__mro__ for key in inspect.signature(one).parameters}
            if wrong := [key for key in hook if key not in known and key not in NOT_TAKEN]:
                raise UserError(
                    f"`default_hooks.{name}` of the config has {wrong[0]!r}, which {kind.__name__} "
                    f"does not know; it takes {', '.join(sorted(known - {'args', 'kwargs'}))}"
                )
    for place, hook in _listed(cfg, "custom_hooks"):
        _check_names(place, HOOKS.get(hook["type"]), hook)


def _listed(cfg: Config, name: str) -> Iterator[tuple[str, Any]]:
    """(place, settings) of one or several."""
    found = cfg.get(name) or []
    if isinstance(found, dict):
        yield name, found
    else:
        yield from ((f"{name}.{number}", one) for number, one in enumerate(found))


def _copy(cfg: Config, name: str) -> Any:
    return copy.deepcopy(cfg[name])  # building writes into what it is given


def _try_schedule(place: str, settings: Any, optimizer: Any) -> None:
    from mmengine.registry import PARAM_SCHEDULERS

    own = {
        key: value
        for key, value in copy.deepcopy(dict(settings)).items()
        if key != "convert_to_iter_based"
    }
    _tried(place, lambda: PARAM_SCHEDULERS.build({**own, "optimizer": optimizer.optimizer}))


def _check_names(place: str, kind: Any, settings: Any, later: tuple[str, ...] = ()) -> None:
    if kind is None:
        raise UserError(f"{place}.type is {settings.get('type')!r}, which nothing is called")
    given = {key: None for key in (*later, *settings) if key not in NOT_TAKEN}
    _tried(place, lambda: inspect.signature(kind).bind(**given))


def _tried(place: str, build: Any) -> Any:
    try:
        return build()
    except Exception as error:  # whatever a wrong setting of any class raises
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"`{place}` of the config cannot be built: {reason[-1]}; see the names given with "
            "--cfg-options"
        ) from error
