"""Confidence-dependent noise, what SLN calls "dependent": wrong labels where a network was least
sure of the right one.

Chen, Ye, Chen, Zhao, Heng, "Beyond class-conditional assumption", AAAI 2021: WRN-28-10 learns the
clean labels for 150 epochs; the softmax outputs on the training images, averaged over the epochs,
give each image its most probable wrong class; the images where that class is most probable get it
as their label (`shared.noise.confidence_dependent`).

    python make_dependent_noise.py --dataset_name cifar10 --p 0.4 --out dependent0.4.npz
    python train_cifar.py --dataset_name cifar10 --noise_file dependent0.4.npz --method sln_mo_lc
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from re_sln import checkpoint
from re_sln.data import in_order, server_of, shuffled, stream_seed, torch_stream
from re_sln.networks import WideResNet
from re_sln.options import UsageError, autocast, choose_device, data_path, use_bfloat16
from re_sln.run import BAD_INPUT
from re_sln.train import NonFiniteLossError
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.formats.external import format_of, write_any
from shared.formats.noise_file import WITHOUT_TRUE_CLASS, label_hash, make
from shared.noise import GENERATOR, confidence_dependent

TEACHER = {
    "cifar10": (28, 10, 150),
    "cifar100": (28, 10, 150),
    "digits": (10, 1, 10),
}  # depth, width, epochs


def mean_probabilities(args: argparse.Namespace, data: ImageData) -> NDArray[np.float64]:
    """Softmax outputs (N, C) on the training images in eval mode, averaged over the epochs of the
    teacher's training.

    The state after each epoch is kept in `<out>.ckpt`; the same command goes on from there after a
    kill.
    """
    depth, width, epochs = TEACHER[args.dataset_name]
    epochs = args.n_epochs or epochs
    device = choose_device(args.device)
    low_precision = autocast(args.amp, device)
    torch.manual_seed(args.seed)
    net = WideResNet(data.num_classes, depth, width).to(
        device=device, memory_format=torch.channels_last
    )
    images = server_of(data, device)(data.train_images)
    labels = torch.tensor(data.train_labels, device=device)
    everything = torch.arange(len(labels), device=device)
    total = torch.zeros(len(labels), data.num_classes, dtype=torch.float64)
    known = {
        "dataset": data.name,
        "seed": args.seed,
        "epochs": epochs,
        "bf16": use_bfloat16(args.amp, device),
        "labels": label_hash(data.train_labels),
    }
    kept, done = unfinished(args.out), 0
    if kept.exists():
        state = checkpoint.load(kept, device)
        checkpoint.refuse_other_run(state["known"], known)
        net.load_state_dict(state["net"])
        total, done = state["total"].cpu(), state["epoch"]
    for epoch in tqdm(
        range(done + 1, epochs + 1),
        "epochs of the teacher",
        initial=done,
        total=epochs,
        disable=None,
    ):
        # Made anew in every epoch, as published: the momentum starts from nothing.
        lr = 0.1 * (0.2 if epoch > epochs * 2 // 5 else 1) * (0.2 if epoch > epochs * 4 // 5 else 1)
        optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=5e-4)
        batches = shuffled(everything, 128, torch_stream(device, args.seed, epoch, "shuffle"))
        net.train()
        for index, views in zip(
            batches, images.views(batches, stream_seed(args.seed, epoch, "augmentation"))
        ):
            with low_precision():
                logits = net(views)
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), labels[index]).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad(), low_precision():
            plain = images.plain(in_order(len(labels), images.evaluation_batch, device))
            probs = torch.cat([net(batch).float().softmax(dim=1) for batch in plain])
        if not probs.isfinite().all():
            raise NonFiniteLossError(f"epoch {epoch} of the teacher")
        total += probs.cpu().double()
        checkpoint.save(
            {"known": known, "net": net.state_dict(), "total": total, "epoch": epoch}, kept
        )
    return (total / epochs).numpy()


def unfinished(out: Path) -> Path:
    return out.with_name(f"{out.name}.ckpt")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description="Make confidence-dependent label noise from a teacher trained on clean labels.",
        epilog="Example: python make_dependent_noise.py --dataset_name digits --p 0.4 --out "
        "noise.npz",
    )
    parser.add_argument(
        "--dataset_name", choices=tuple(TEACHER), required=True, help="whose training labels"
    )
    parser.add_argument(
        "--p", type=float, default=0.4, help="share of wrong labels in [0, 1] (0.4)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="noise file to write: .npz .csv .pt .npy .json"
    )
    parser.add_argument("--seed", type=int, default=123, help="seed of the teacher (123)")
    parser.add_argument("--n_epochs", type=int, help="epochs of the teacher (150; digits: 10)")
    parser.add_argument(
        "--data_path", type=Path, help="where the data are ($DATA_ROOT, else data/)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    parser.add_argument(
        "--amp", choices=("auto", "off", "bf16"), default="auto", help="bfloat16 autocast (auto)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a teacher that diverges."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not 0.0 <= args.p <= 1.0:
        parser.error(f"--p {args.p}: a noise rate lies in [0, 1]; 40 percent is --p 0.4")
    if args.n_epochs is not None and args.n_epochs < 1:
        parser.error(f"--n_epochs {args.n_epochs}: must be at least 1")
    try:
        format_of(args.out)  # refused before the hours of training
        if args.out.exists():
            raise UsageError(f"{args.out} exists: choose another --out, or delete it")
        data = datasets.load(args.dataset_name, data_path(args))
        noisy = confidence_dependent(data.train_labels, mean_probabilities(args, data), args.p)
        noise = make(
            noisy,
            clean_labels=data.train_labels,
            dataset=data.name,
            split="train",
            seed=args.seed,
            num_classes=data.num_classes,
            kind="confidence",
            convention=WITHOUT_TRUE_CLASS,
            nominal_rate=args.p,
            generator=GENERATOR,
        )
        write_any(args.out, noise)
        unfinished(args.out).unlink(missing_ok=True)
    except NonFiniteLossError as error:
        print(
            f"stopped: the teacher's outputs are not finite ({error}); try --amp off",
            file=sys.stderr,
        )
        return 3
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on after the last whole epoch", file=sys.stderr)
        return 130
    print(
        f"wrote {args.out}: {len(noisy):,} labels, measured rate {noise.header.measured_rate:.4f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
