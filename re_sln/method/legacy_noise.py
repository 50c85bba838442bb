"""The custom noise of re-sln, byte for byte: torch's generator, reseeded for every class.

    noisy_labels = legacy_noise(labels, "sym", 0.4, num_classes=10, seed=123)

Since every rule restarts the same stream, the j-th members of all classes flip together. For
independent draws use `shared.noise` (`python -m shared noise make --independent`). These draws are
torch's own, so they live here: shared/ does without torch.
"""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from shared.noise import ASYMMETRIC_MAPS

GENERATOR = "re_sln legacy 1"


def rules(mode: str, num_classes: int) -> Mapping[int, Sequence[int]]:
    """Source class -> the classes it flips to.

    sym: all others; asym: re-sln's maps, without deer -> horse on CIFAR-10.
    """
    if mode == "sym":
        return {
            source: [k for k in range(num_classes) if k != source] for source in range(num_classes)
        }
    class_map = (
        ASYMMETRIC_MAPS["cifar10_four_rules"] if num_classes == 10 else ASYMMETRIC_MAPS["cifar100"]
    )
    first = num_classes - 1  # the shipped rules files begin with the last class
    return {first: [class_map[first]]} | {source: [target] for source, target in class_map.items()}


def rules_csv(mode: str, rate: float, class_names: Sequence[str]) -> str:
    """`<mode><p>_noise_rules.csv` as re-sln writes it: source, targets, flip probability."""
    if mode == "openset":
        return f"src,dst,p\ncifar10,cifar100,{rate}\n"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["src", "dsts", "p"])
    for source, targets in rules(mode, len(class_names)).items():
        writer.writerow([class_names[source], [class_names[target] for target in targets], rate])
    return text.getvalue()


def legacy_noise(
    labels: NDArray[np.int64], mode: str, rate: float, num_classes: int, seed: int
) -> NDArray[np.int64]:
    """Noisy labels (N,) int64.

    labels: (N,) in [0, C); mode: sym or asym; rate: flip probability in [0, 1].
    """
    noisy = labels.copy()
    for source, targets in rules(mode, num_classes).items():
        members = np.flatnonzero(labels == source)
        generator = torch.Generator().manual_seed(seed)  # per rule, see above
        flips = torch.bernoulli(torch.full((len(members),), rate), generator=generator).bool()
        weights = torch.zeros(num_classes)
        weights[list(targets)] = 1 / len(targets)
        drawn = torch.multinomial(weights, len(members), replacement=True, generator=generator)
        noisy[members[flips.numpy()]] = drawn[flips].numpy()
    return noisy
