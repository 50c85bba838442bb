"""What each process of a run comes to: `two_ranks.py <bn|no_bn> FLAGS` trains by train_cifar.py's
flags and saves its state as <output_dir>-rank<r>.pt.

no_bn: with a small network without batch normalisation, whose figures do not depend on the ranks.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

import torch
from torch import nn

from re_sln import train_cifar
from re_sln.run import experiment
from re_sln.run.config import parse
from re_sln.run.errors import leave


def without_bn(num_classes: int, depth: int, width: int) -> nn.Module:
    convolution = nn.Conv2d(3, 4, 3, stride=4, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes))


def main(kind: str, flags: Sequence[str]) -> None:
    if kind == "no_bn":
        experiment.WideResNet = without_bn
    run = train_cifar.train(parse("train_cifar", flags))
    name = f"{run.folder}-rank{os.environ.get('RANK', '0')}.pt"
    torch.save({**run.state_dict(), "buffers": dict(run.learner.net.named_buffers())}, name)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
    leave(0)
