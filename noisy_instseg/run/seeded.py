"""Random draws as functions of (seed, epoch, stream, place).

So a run can stop anywhere and continue with the same draws.
"""

import random
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.dataset import RepeatDataset

STREAMS = {"item": 0, "network": 1}


# DEVIATION(noisy_instseg): Every draw follows from seed, epoch and place; the original continues
# with unseeded generators.
def stream_seed(seed: int, epoch: int, stream: str, place: int) -> int:
    """A 32-bit seed. place: the item of the training set, or the rank of the process."""
    return int(np.random.SeedSequence([seed, epoch, STREAMS[stream], place]).generate_state(1)[0])


def seed_all(seed: int) -> None:
    """Seeds Python, numpy and torch (all devices). seed: in [0, 2^32)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - mmdetection's transforms draw from the global generator
    torch.manual_seed(seed)


@DATASETS.register_module()
class SeededDataset(RepeatDataset):
    """The training set, whose augmentation depends on (seed, epoch, index) and on no worker.

    `epoch` is set by SeedHook before the workers of an epoch are started; they must not outlive it
    (persistent_workers).
    """

    def __init__(self, dataset: dict[str, Any], seed: int) -> None:
        self.seed, self.epoch = seed, 0
        super().__init__(dataset, times=1)

    def __getitem__(self, index: int) -> Any:
        seed = stream_seed(self.seed, self.epoch, "item", index)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        return super().__getitem__(index)
