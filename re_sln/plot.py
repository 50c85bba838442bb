"""Pictures of trained networks: prediction probabilities, a dissection of the samples by loss,
t-SNE, curves of several runs.

    python plot.py --exp_id "exp_2021-12-08 11:28:45.265396" --plot_type pred_probs       # a run of this folder, by its id
    python plot.py --exp_id runs/digits-sln_mo --plot_type sample_dissect                # any run folder
    python plot.py --exp_id runs/digits-ce runs/digits-sln_mo --plot_type curves --out curves.png

pred_probs and sample_dissect show the training set, randomly augmented as in training, to the
reported network (the momentum model if the run has one) and compare with the noisy labels of that
run. What differs from the original is in README.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from re_sln import curves, figures, options, runs
from re_sln.data import evenly, in_order, load_images, server_of, stream_seed
from re_sln.noisy_labels import is_noisy, noisy_training_set
from re_sln.run import BAD_INPUT
from re_sln.runs import Run
from shared.datasets.image_data import ImageData
from shared.files import write_atomically
from shared.formats.alignment import labels_for
from shared.formats.noise_file import NoiseFile, read

FILE_NAMES = {
    "pred_probs": "prediction-probabilities",
    "sample_dissect": "sample-dissection",
    "tsne": "tsne",
}
BATCH = 500
TSNE_SAMPLES = 2000


class Scores(NamedTuple):
    """What a network says of N training samples; is_clean is None where the truth is unknown."""

    confidence: NDArray[np.float32]  # (N,) largest softmax output
    losses: NDArray[np.float32]  # (N,) cross-entropy with the noisy label
    predicted: NDArray[np.int64]  # (N,)
    noise: NoiseFile


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="plot.py",
        description="Draw what a trained network makes of its samples.",
    )
    add = parser.add_argument
    add(
        "--exp_id",
        nargs="+",
        required=True,
        metavar="RUN",
        help="exp_id of a run of this folder (quoted: it has a space "
        "in it), or a run folder; for curves also a .csv with the columns epoch and accuracy",
    )
    add(
        "--plot_type",
        choices=[*FILE_NAMES, "curves"],
        required=True,
        help="what to draw; curves: all runs in one picture",
    )
    add("--out", type=Path, help="the picture of the curves (assets/curves.png)")
    add(
        "--data_path",
        type=Path,
        help="where the data are (where the run had them, else as in train_cifar.py)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    args = parser.parse_args(argv)
    if args.out is not None and args.plot_type != "curves":
        parser.error(
            f"--out is for --plot_type curves; {args.plot_type} is written to assets/<exp_id>/, "
            "or into the run "
            "folder that is given"
        )
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    args = parse(argv)
    try:
        found = [runs.find(name) for name in args.exp_id]
        if args.plot_type == "curves":
            path = args.out or Path("assets/curves.png")
            names = curve_names(args.exp_id, found)
            write_atomically(path, curves.compare(dict(zip(names, map(runs.read_rows, found)))))
            print(f"saved {path}")
        else:
            return max([_draw_to_file(run, args) for run in found])
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _draw_to_file(run: Run, args: argparse.Namespace) -> int:
    """The exit status; what cannot be drawn does not keep the other runs from it."""
    try:
        path = run.assets / f"{runs.title(_drawable(run))}-{FILE_NAMES[args.plot_type]}.png"
        write_atomically(path, draw(run, args))
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"saved {path}")
    return 0


def _drawable(run: Run) -> Run:
    """The run; UsageError if nothing but curves can be drawn of it."""
    if not run.settings:
        raise options.UsageError(
            f"{run.folder} is a curve without a network: give a run folder, or --plot_type curves"
        )
    if run.settings["dataset_name"] == "clothing1m":
        raise options.UsageError(
            f"{run.exp_id} is a ResNet-50 on Clothing1M, whose images stay on the disk: of it only "
            "--plot_type curves can be drawn"
        )
    return run


def curve_names(given: Sequence[str], found: Sequence[Run]) -> list[str]:
    """What the runs are called in a legend: by their settings, and by what was given where two have
    the same.
    """
    titles = [runs.title(run) if run.settings else run.exp_id for run in found]
    short = [Path(name).name for name in given]
    known_by = short if len(set(zip(titles, short))) == len(given) else given
    return [
        title if titles.count(title) == 1 else f"{title} ({name})"
        for title, name in zip(titles, known_by)
    ]


def draw(run: Run, args: argparse.Namespace) -> bytes:
    """One picture of one run."""
    title = runs.title(run)
    data_args = data_arguments(run, args.data_path)
    data = load_images(run.settings["dataset_name"], options.data_path(data_args))
    device = options.choose_device(args.device)
    if args.plot_type == "tsne":
        points, labels = mapped_features(run, data, device)
        return figures.feature_map(title, points, labels, data.class_names)
    scores = score(run, data, data_args, device)
    noisy = is_noisy(scores.noise)
    clean = scores.noise.clean_labels
    if args.plot_type == "pred_probs":
        return figures.prediction_probabilities(
            title, scores.confidence, None if noisy is None else ~noisy
        )
    given = scores.noise.noisy_labels
    return figures.sample_dissection(
        title,
        scores.losses,
        None if clean is None else given == clean,
        scores.predicted == (given if clean is None else clean),
    )


def data_arguments(run: Run, data_path: Path | None) -> argparse.Namespace:
    """The run's settings as flags that find its data and noise again, and make nothing anew."""
    recorded = run.settings.get("data_path") or run.settings.get("data_location")
    if data_path is None and recorded is not None and Path(recorded).exists():
        data_path = Path(recorded)
    absent = {"noise_mode": None, "p": None, "custom_noise": False, "noise_file": None}
    return argparse.Namespace(
        **{**absent, **run.settings, "data_path": data_path, "make_new_custom_noise": False}
    )


def training_set(
    run: Run, data: ImageData, args: argparse.Namespace
) -> tuple[NoiseFile, NDArray[np.uint8]]:
    """The labels that the run was trained on, and its N images (N, H, W, 3)."""
    kept = run.folder / "noise.npz"
    if not kept.is_file():  # a run of the original
        noise, images = noisy_training_set(args, data, may_make=False)
        return noise, images[noise.indices]
    noise = read(kept)
    rows, _ = labels_for(
        noise, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
    )
    if noise.open_set is None or not noise.open_set.any():
        return noise, data.train_images[rows]
    found, images = noisy_training_set(args, data, may_make=False)
    assert found.open_set is not None and found.indices is not None  # noqa: PT018
    flags = dict(zip(found.indices.tolist(), found.open_set.tolist()))
    if [flags.get(row) for row in rows.tolist()] != noise.open_set.tolist():
        raise options.UsageError(
            f"the open-set files in the data folder were made anew since {run.exp_id} was "
            "trained, and "
            "replace other images: put the old ones back"
        )
    return noise, images[rows]


@torch.no_grad()
def score(run: Run, data: ImageData, args: argparse.Namespace, device: torch.device) -> Scores:
    """The reported network in eval mode on one random view of each training image."""
    noise, images = training_set(run, data, args)
    source = server_of(data, device)(images)
    net = runs.load_model(run).to(device).eval()
    # DEVIATION(re_sln): the run's seed decides the random views; the original draws others at every
    # call.
    views = source.views(
        in_order(len(images), BATCH, device), stream_seed(run.settings["seed"], 0, "plot")
    )
    logits = torch.cat([net(batch) for batch in views]).cpu()
    if logits.shape[1] != data.num_classes:
        raise options.UsageError(
            f"the network of {run.exp_id} knows {logits.shape[1]} classes, {data.name} has "
            f"{data.num_classes}: is --data_path that of another data set?"
        )
    losses = F.cross_entropy(logits, torch.tensor(noise.noisy_labels), reduction="none")
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    return Scores(confidence.numpy(), losses.numpy(), predicted.numpy(), noise)


@torch.no_grad()
def mapped_features(
    run: Run, data: ImageData, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """t-SNE of what the classifier sees of test images that are evenly spread over the test set:
    (M, 2), labels (M,).
    """
    from sklearn.manifold import TSNE  # slow to import, and only needed here

    rows = evenly(len(data.test_labels), TSNE_SAMPLES)
    source = server_of(data, device)(data.test_images[rows])
    net = runs.load_model(run).to(device).eval()
    seen = (
        torch.cat(
            [net.features(batch) for batch in source.plain(in_order(len(rows), BATCH, device))]
        )
        .cpu()
        .numpy()
    )
    perplexity = min(30.0, (len(rows) - 1) / 3)
    points = TSNE(
        perplexity=perplexity, init="pca", random_state=run.settings["seed"]
    ).fit_transform(seen)
    return points, data.test_labels[rows]


if __name__ == "__main__":
    sys.exit(main())
