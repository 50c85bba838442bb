"""How fast Clothing1M's loader decodes pictures, and how long a step of training waits for it.

The pictures are generated: JPEGs of 256 x 256 of noise and gradients, about as large as the data
set's. Called by `make bench-instancegm`.
"""

import resource
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from instancegm.method.images import Batch, independent_batches, torch_stream
from instancegm.method.mixture import Split
from instancegm.method.peers import TrainingSet, build_peer
from instancegm.method.ranks import ALONE, Ranks
from instancegm.method.settings import Settings
from instancegm.method.train import co_divide_epoch
from instancegm.run.device import autocast
from instancegm.run.image_files import FileImages, FilePool
from instancegm.run.presets import of_dataset

CPU = torch.device("cpu")
RECIPE = of_dataset("instanceGM_clothing1M", "clothing1M")
SETTINGS = Settings(**{k: v for k, v in RECIPE.items() if k in Settings.__dataclass_fields__})
CLASSES = 14
STREAMS = (32, 32, 64)  # labelled, unlabelled, VAE: pictures of a step
VIEWS = (2, 2, 1)


def write_pictures(folder: Path, count: int) -> list[Path]:
    """`count` JPEGs of 256 x 256, about 20 kB each."""
    ramp = np.add.outer(np.arange(256), np.arange(256))[..., None] / 2

    def write(number: int) -> Path:
        random = np.random.default_rng(number)
        pixels = ramp * random.random(3) + random.integers(0, 24, (256, 256, 3))
        path = folder / f"{number:06}.jpg"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=75)
        return path

    with ThreadPoolExecutor() as pool:
        return list(pool.map(write, range(count)))


def decoding(count: int, workers: int) -> dict[str, float]:
    """One pass over `count` pictures in the batches of a step: speed and memory."""
    with tempfile.TemporaryDirectory() as folder:
        images = FileImages(
            FilePool(write_pictures(Path(folder), count), CPU, workers, upright=False), 0, count
        )
        index = torch.arange(count)
        order = torch_stream(CPU, 1, 0, "bench")
        streams = [independent_batches(index, size, order) for size in STREAMS]
        steps = images.views(streams, VIEWS, seed=1)
        next(steps)  # the workers have started
        start, wanted = time.perf_counter(), count // sum(STREAMS)
        for _ in islice(steps, wanted):
            pass
        seconds = time.perf_counter() - start
    here, there = (
        resource.getrusage(who).ru_maxrss / 2**20
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "pictures decoded/s": wanted * sum(STREAMS) / seconds,
        "peak memory, this process, GiB": here,
        "peak memory, largest worker, GiB": there,
    }


class _Timed:
    """`Images` that count the seconds which a caller waits for a batch."""

    def __init__(self, images: FileImages) -> None:
        self._images, self.waited = images, 0.0
        self.device, self.index_device = images.device, images.index_device
        self.evaluation_batch = images.evaluation_batch

    def __len__(self) -> int:
        return len(self._images)

    def plain(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        return self._images.plain(indices)

    def views(
        self,
        streams: Sequence[Iterable[Tensor]],
        counts: Sequence[int],
        seed: int,
        ranks: Ranks = ALONE,
    ) -> Iterator[tuple[Batch, ...]]:
        steps = self._images.views(streams, counts, seed, ranks)
        while True:
            start = time.perf_counter()
            step = next(steps, None)
            self.waited += time.perf_counter() - start
            if step is None:
                return
            yield step


def waiting_share(device: torch.device, workers: int, steps: int) -> dict[str, float]:
    """Steps of co-divide as Clothing1M trains: seconds of one, and the share spent waiting."""
    count = 32 * (steps + 1)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), 2 * count)
        pool = FilePool(paths, device, workers, upright=False)
        images = _Timed(FileImages(pool, 0, len(paths)))
        labels = torch.arange(len(paths), device=device) % CLASSES
        train_set = TrainingSet(images, labels, CLASSES)
        precision = autocast("auto", device)
        peers = [build_peer(SETTINGS, k, CLASSES, device, precision) for k in (1, 2)]
        everything = np.arange(len(paths))

        def epoch(labelled: int) -> float:
            split = Split(everything[:labelled], everything[labelled:], np.full(labelled, 0.8))
            images.waited, start = 0.0, time.perf_counter()
            co_divide_epoch(*peers, split, everything, train_set, SETTINGS, 2)
            return time.perf_counter() - start

        epoch(32)  # the workers start, kernels are chosen
        seconds = epoch(32 * steps)
    return {
        "seconds of a step of co-divide": seconds / steps,
        "share of it waiting for pictures, %": 100 * images.waited / seconds,
    }
