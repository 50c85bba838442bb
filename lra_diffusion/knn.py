"""Classification by the k nearest neighbours in a feature space, to judge an encoder: what
KNN_test.py prints.

Letters: N bank rows, Q queries, D width of the feature, C classes.
"""

import torch
from torch import Tensor

from lra_diffusion.retrieval import Bank

TEMPERATURE = 0.5


# DEVIATION(lra_diffusion): KNN_test weights near neighbours more; the original's sign is wrong,
# exp(+d/0.5), so that farther ones count more.
def weighted_votes(distances: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Sums of exp(-d / 0.5) by class, up to a factor for each row: (Q, C).

    distances: (Q, k); labels: (Q, k) int64.
    """
    # The nearest one counts 1: features that are not of unit length lie so far apart that all would
    # underflow to 0.
    weights = torch.exp(-(distances - distances[:, :1]) / TEMPERATURE)
    return torch.zeros(len(labels), num_classes, device=labels.device).scatter_add_(
        1, labels, weights
    )


def knn_predictions(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, k: int, num_classes: int
) -> Tensor:
    """Classes (Q,) int64 that the k nearest of the bank (N, D) vote for; all of the bank if it has
    fewer than k.
    """
    distances, index = Bank(bank).nearest(queries, min(k, len(bank)))
    return weighted_votes(distances, bank_labels[index], num_classes).argmax(dim=1)


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int = 10
) -> float:
    """In percent. bank_labels: (N,), labels: (Q,), int64."""
    num_classes = int(torch.maximum(bank_labels.max(), labels.max())) + 1
    predicted = knn_predictions(bank, bank_labels, queries, k, num_classes)
    return 100 * (predicted == labels).float().mean().item()
