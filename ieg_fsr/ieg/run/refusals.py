"""What a command line cannot mean, refused before any data are read, with what it can mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING

from ieg.input.own_pictures import MEMORY_SIDE

if TYPE_CHECKING:
    from ieg.run.config import Config

PRETRAINED = "resnet50v1"  # the network that there are ImageNet weights for
WITHOUT_STEPS = ("cosine", "cosine_one")  # schedules that read no --decay_steps


def refuse_what_is_not_there(parser: argparse.ArgumentParser, config: Config) -> None:
    """Exits with a message for published flags that nothing implements."""
    if config.distribution_strategy == "tpu" or config.tpu:
        parser.error(
            "TPUs are not supported here: leave out --distribution_strategy and --tpu to use "
            "GPUs or the CPU"
        )
    if config.pretrained_ckpt or config.fix_network_features or config.dropout_rate:
        parser.error(
            "--pretrained_ckpt, --fix_network_features and --dropout_rate do nothing in the "
            "published networks: leave them out; for a start from ImageNet weights give "
            f"--network_name={PRETRAINED} --pretrained=imagenet"
        )
    if config.meta_partial_level != 0:
        parser.error(
            f"--meta_partial_level {config.meta_partial_level:g}: the published code forces 0 for "
            "fsr (the classifier alone is looked ahead), and no other method reads it: leave it out"
        )
    known = {item.name for item in fields(config)}
    for name in config.exp_path_pattern.split(",") if config.exp_path_pattern else ():
        if name not in known:
            parser.error(
                f"--exp_path_pattern names no flag {name!r}: expected flags without their dashes, "
                "such as seed,method"
            )


def refuse_two_units(
    parser: argparse.ArgumentParser, config: Config, typed: Collection[str]
) -> None:
    """Exits with a message for decay steps or epochs that another flag leaves unread.

    Says so of --max_iteration. typed: flags of the command line itself, for a config.yaml has all
    of them.
    """
    if {"max_epoch", "max_iteration"} <= set(typed):
        print(
            f"note: --max_epoch={config.max_epoch} says how long to train, as published, and "
            f"--max_iteration={config.max_iteration} is not read",
            file=sys.stderr,
        )
    if config.lr_schedule in WITHOUT_STEPS:
        return
    if config.max_epoch and "decay_steps" in typed:
        parser.error(
            "--decay_steps is not read with --max_epoch: give --decay_epochs, or --max_iteration "
            "instead of --max_epoch"
        )
    if not config.max_epoch and "decay_epochs" in typed:
        parser.error(
            "--decay_epochs is read with --max_epoch alone: give --max_epoch, or --decay_steps"
        )


def refuse_randaug_of_large_images(
    parser: argparse.ArgumentParser, config: Config, side: int
) -> None:
    """Exits with a message where --aug_type=randaug would be AutoAugment all the same.

    side: pixels of a side at which pictures of one's own are seen.
    """
    words = config.dataset.split("_")
    large = words[0] == "webvisionmini" or ("folder" in words and side > MEMORY_SIDE)
    if large and config.method == "ieg" and config.aug_type == "randaug":
        parser.error(
            f"--aug_type=randaug is for images of {MEMORY_SIDE} pixels; larger ones have "
            "AutoAugment's ImageNet policy: leave it out, or give --aug_type=default"
        )
