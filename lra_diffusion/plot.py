"""Pictures of a finished run: how right the retrieved labels are, and how the labels of test images
emerge from nothing.

    python plot.py runs/LRA-diffusion_SimCLR_digits-1-0.35_2026-11-21_08-30-47

Writes retrieval.png (where the true labels are known) and trajectories.png into the run folder, or
into --out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from lra_diffusion import model_file, options, report
from lra_diffusion.command_line import UsageError, add_flags, configure_torch, report_errors
from lra_diffusion.data import evenly
from lra_diffusion.experiment import Data, check_model, device_of, load_data, make_settings
from lra_diffusion.figures import ddim_trajectories, retrieval_quality
from lra_diffusion.retrieval import Bank
from lra_diffusion.sampling import LabelSampler
from lra_diffusion.train import EvaluationSet, Settings, embed_images
from shared.files import write_atomically
from shared.formats import noise_file

NEIGHBOURS = 50  # as far as the quality of retrieval is drawn
SAMPLES = 6  # test images whose trajectory is drawn


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plot.py",
        allow_abbrev=False,
        description="Draw the retrieved labels and the reverse diffusion of a finished run.",
        epilog="example: python plot.py runs/mine",
    )
    parser.add_argument("run", type=Path, help="run folder of a training script")
    parser.add_argument("--out", type=Path, help="folder of the pictures (the run folder)")
    add_flags(parser, "--device")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    return report_errors(draw, build_parser().parse_args(argv))


def draw(asked: argparse.Namespace) -> None:
    """Reads the run, its data and its model, and writes the pictures."""
    args = flags_of(asked.run)
    args.device = asked.device
    device = device_of(args)
    configure_torch(args.deterministic, device)
    path = asked.run / f"{options.run_name(args)}.pt"
    model = model_file.load(path, device)
    noise = asked.run / "noise.npz"
    data = load_data(
        args, device, training=True, noise=noise_file.read(noise) if noise.exists() else None
    )
    check_model(model, data, path)
    out, title = (
        asked.out or asked.run,
        f"{data.encoder.name if data.encoder else 'given'} features, {data.sets.name}",
    )
    if data.sets.clean is not None:
        labels = torch.tensor(data.sets.train.labels, device=device)
        count = min(max(NEIGHBOURS, args.k), len(labels) - 1)
        index = (
            Bank(data.bank)
            .nearest(data.bank, count, torch.arange(len(labels), device=device), progress=True)
            .index
        )
        picture = retrieval_quality(
            f"Retrieved labels: {title}",
            labels[index].cpu().numpy(),
            data.sets.train.labels,
            data.sets.clean,
            min(args.k, count),
        )
        write_atomically(out / "retrieval.png", picture)
        print(f"wrote {out / 'retrieval.png'}")
    write_atomically(
        out / "trajectories.png",
        trajectories(
            f"Labels by reverse diffusion: {title}", model, data, make_settings(args, device)
        ),
    )
    print(f"wrote {out / 'trajectories.png'}")


def flags_of(folder: Path) -> argparse.Namespace:
    """The flags of a run by its config.yaml."""
    config = report.read_config(folder)
    if config is None or config.get("script") not in options.DATASETS:
        raise UsageError(
            f"{folder}: no config.yaml of a training script; give the run folder that "
            "train_CIFAR.py printed"
        )
    parser = options.build_parser(config["script"])
    paths = {action.dest for action in parser._actions if action.type is Path}
    known = {
        name: Path(value) if name in paths and value is not None else value
        for name, value in config.items()
    }
    return argparse.Namespace(
        **{**vars(parser.parse_args([])), **known, "resume": False, "eval_only": None}
    )


def trajectories(title: str, model: model_file.Model, data: Data, settings: Settings) -> bytes:
    """The picture of SAMPLES test images, right and wrong ones if there are both."""
    test_set = list(data.tests.values())[-1]
    points = _points(model, test_set, settings)
    predicted = (1 - points[-1]).abs().argmin(dim=1)
    wrong = (predicted != test_set.labels).nonzero()[:, 0][: SAMPLES // 3]
    right = (predicted == test_set.labels).nonzero()[:, 0]
    rows = torch.cat(
        [right[torch.from_numpy(evenly(len(right), SAMPLES - len(wrong))).to(right.device)], wrong]
    )
    [pixels] = test_set.images.plain([rows])
    mean, std = (
        torch.tensor(values, device=pixels.device)[:, None, None]
        for values in test_set.images.normalisation
    )
    images = (
        ((pixels * std + mean).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    )
    times = [*settings.steps.times.flip(0).tolist(), 0]
    return ddim_trajectories(
        title,
        images,
        points[:, rows].cpu().numpy(),
        times,
        test_set.labels[rows].cpu().numpy(),
        predicted[rows].cpu().numpy(),
        data.sets.class_names,
    )


def _points(model: model_file.Model, test_set: EvaluationSet, settings: Settings) -> Tensor:
    """(S + 1, M, C) of all test images."""
    [embeddings] = embed_images([model.encoder], test_set.images, settings)
    return LabelSampler(model.predictor, settings.steps).trajectory(embeddings, test_set.features)


if __name__ == "__main__":
    sys.exit(main())
