"""How good a feature space f_p is: accuracy of k nearest neighbours with clean labels.

Chen et al., "Label-Retrieval-Augmented Diffusion Models for Learning from Noisy Labels", NeurIPS
2023.

    python KNN_test.py --data cifar10 --fp_encoder SimCLR --k 10          # the original's command line
    python KNN_test.py --data digits --fp_encoder SimCLR                  # after train_SimCLR.py --dataset digits

The bank is the training part (CIFAR: the first 45,000 images), the queries are the test images.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

import torch

from lra_diffusion import encoders
from lra_diffusion.clip_tower import TOWERS
from lra_diffusion.command_line import UsageError, add_flags, autocast, choose_device, report_errors
from lra_diffusion.data import CIFAR_NORMALISATION, evenly, on_device, split
from lra_diffusion.embeddings import embed
from lra_diffusion.knn import knn_accuracy
from shared import datasets


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="KNN_test.py",
        allow_abbrev=False,
        description="Accuracy of k nearest neighbours in the feature space f_p.",
    )
    add = parser.add_argument_group("the original's flags").add_argument
    add(
        "--batch_size",
        type=int,
        default=100,
        help="images encoded at once (100); changes nothing but the speed",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    add(
        "--num_workers",
        type=int,
        default=4,
        help="ignored: the images are in memory (as in the original)",
    )
    add("--k", type=int, default=10, help="neighbours (10)")
    add(
        "--data",
        choices=("cifar10", "cifar100", "digits", "folder"),
        default="cifar10",
        help="dataset (cifar10)",
    )
    add(
        "--fp_encoder",
        default="SimCLR",
        help="SimCLR, CLIP, or the name of a torchvision or timm model (SimCLR)",
    )
    ours = parser.add_argument_group("added here")
    ours.add_argument(
        "--CLIP_type",
        choices=list(TOWERS),
        default="ViT-L/14",
        help="of --fp_encoder CLIP (ViT-L/14)",
    )
    ours.add_argument(
        "--fp_weights",
        "--clip_weights",
        type=Path,
        help="the encoder's weights, a file or a folder",
    )
    add_flags(ours, "--data_path", "--limit_train", "--limit_test", "--amp")
    return parser


def measure(args: argparse.Namespace) -> float:
    """Prints and returns the accuracy in percent."""
    if min(args.k, args.batch_size, args.limit_train or 1, args.limit_test or 1) < 1:
        raise UsageError("--k, --batch_size, --limit_train and --limit_test: give 1 or more")
    device = choose_device(args.device)
    data = datasets.load(args.data, args.data_path)
    rows = split(data)[0]
    rows = rows[evenly(len(rows), args.limit_train)]
    tested = evenly(len(data.test_labels), args.limit_test)
    if args.k > len(rows):
        raise UsageError(f"--k {args.k}: there are {len(rows)} training images; give that or less")
    encoder = encoders.build(
        args.fp_encoder,
        dataset=args.data,
        normalisation=CIFAR_NORMALISATION,
        image_side=data.train_images.shape[1],
        device=device,
        clip_type=args.CLIP_type,
        weights=args.fp_weights,
        data_path=args.data_path,
    )
    features = []
    for pixels in (data.train_images[rows], data.test_images[tested]):
        images = on_device(data, pixels, device)
        images.evaluation_batch = args.batch_size
        features.append(embed(encoder, images, autocast(args.amp, device)))
    bank_labels, labels = (
        torch.tensor(part, device=device)
        for part in (data.train_labels[rows], data.test_labels[tested])
    )
    accuracy = knn_accuracy(features[0], bank_labels, features[1], labels, args.k)
    print(f"KNN accuracy: {accuracy:.2f}, feature space: {encoder.name}")
    return accuracy


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    return report_errors(measure, build_parser().parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
