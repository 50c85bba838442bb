"""The command `python -m shared data`: get a dataset or a published noise file, or list them."""

import argparse
from pathlib import Path

from shared.cli.common import SubParsers, add_command, say
from shared.errors import UserError

EXAMPLES = """\
examples:
  python -m shared data list
  python -m shared data cifar10 --path data
  python -m shared data shapes                     (generates the files)
  python -m shared data sln/cifar10/sym0.4.csv
  python -m shared data sln-noise                  (all noise files of SLN and re-sln)
  python -m shared data pmd-noise                  (all noise files of LRA-diffusion and PLC)
  python -m shared data cifar10n                   (CIFAR-10 and people's labels of it)
  python -m shared data resnet50                   (its ImageNet weights)
  DATA_MIRROR=/media/stick python -m shared data cifar100
                                   (takes the archive from there; the checksum is the same)
"""
# What is not downloaded, or not only
ABOUT = {
    "red_mini_imagenet": (
        "Red and Blue Mini-ImageNet, 100 classes with web noise at ten rates; `data "
        "red_mini_imagenet` says where to get it"
    ),
    "animal10n": (
        "Animal-10N, 55,000 animals; its publisher asks for a form, `data animal10n` says where"
    ),
    "clothing1m": "Clothing1M, a million clothes, read as files; its authors send it on request",
    "food101n": (
        "Food-101N, 310,009 dishes, and Food-101 for testing, read as files; `data food101n` says "
        "where to get both"
    ),
    "webvision": (
        "WebVision 1.0, pictures of a web search, read as files; `data webvision` says where to "
        "get it"
    ),
    "ilsvrc2012": (
        "validation images of ILSVRC2012, to test on; its publisher asks for a registration"
    ),
    "digits": "1,797 handwritten digits; comes with scikit-learn, nothing to get",
    "shapes": "500 pictures of eight shapes with COCO-format instances; generated in seconds",
    "folder": "your own images, see shared/datasets/image_folder.py; nothing to get",
}
EMBEDDED = ("digits", "folder")


def add_parser(commands: SubParsers) -> None:
    """Hang `data` under `commands`."""
    data = add_command(
        commands,
        "data",
        "get a dataset or a published noise file, or list what there is",
        "Find a dataset or a published noise file, or download it; every file is checked.",
        EXAMPLES,
    )
    data.add_argument("name", metavar="NAME", help="a dataset, a published noise file, or `list`")
    data.add_argument(
        "--path",
        type=Path,
        metavar="DIR",
        help="folder of the datasets; default: $DATA_ROOT, else data",
    )
    data.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    try:
        say(get(args.name, args.path))
    except UserError as error:  # the flag has another name here
        known = "--data_path; of ieg_fsr --dataset_dir"
        raise UserError(str(error).replace(known, "--path")) from error


def get(name: str, path: Path | None) -> str:
    """Fetch one dataset or published noise file, or a collection, and say where it is; or list."""
    from shared import datasets  # imports numpy and more, which --help can do without
    from shared.datasets import human_noise, pretrained, published_noise

    if name == "list":
        return list_all()
    if name in human_noise.HUMAN:
        known = human_noise.HUMAN[name]
        return "\n".join(get(part, path) for part in (known.dataset, known.published))
    if name in pretrained.NETWORKS:
        file = pretrained.imagenet_weights(name, path, flag=None)
        return f"the ImageNet weights of {name} are at {file}"
    if name in published_noise.COLLECTIONS:
        return "\n".join(map(str, published_noise.fetch_collection(name, path)))
    if name in EMBEDDED:
        return f"{name}: {ABOUT[name]}"
    if "/" in name:
        return f"{name} is at {published_noise.fetch_noise(name, path)}"
    if name not in (names := datasets.NAMES + datasets.FILE_NAMES):
        more = *human_noise.HUMAN, *pretrained.NETWORKS, *published_noise.COLLECTIONS
        raise UserError(
            f"unknown dataset {name!r}; choose one of {', '.join(names + more)}, or a file that "
            "`data list` names"
        )
    folder = datasets.fetch(name, path)
    return f"{name} is in {folder}{_rates(folder) if name == 'red_mini_imagenet' else ''}"


def _rates(folder: Path) -> str:
    """The noise rates of Mini-ImageNet that are there, and what they mean."""
    from shared.datasets import red_mini_imagenet

    lines = [
        f"\n  {colour}: {', '.join(map(str, rates))}"
        for colour in red_mini_imagenet.COLOURS
        if (rates := red_mini_imagenet.rates(folder, colour))
    ]
    return "".join([*lines, f"\n{red_mini_imagenet.RATE_MEANING}"])


def list_all() -> str:
    """Every dataset and published noise file, with its licence."""
    from shared import datasets
    from shared.datasets import human_noise, pretrained, published_noise

    lines = ["datasets"]
    for name in datasets.NAMES + datasets.FILE_NAMES:
        spec = datasets.CIFAR.get(name)
        about = f"{spec.megabytes} MB; licence: {spec.licence}" if spec else ABOUT.get(name, "")
        lines.append(f"  {name:<18} {about}")
    for name, human in human_noise.HUMAN.items():
        lines.append(f"  {name:<18} {human.dataset} and people's labels of it")
    lines += ["", "weights of networks that were trained on ImageNet"]
    lines += [f"  {name:<18} {weights.url}" for name, weights in pretrained.NETWORKS.items()]
    lines += ["", "published noise files, of the training images of CIFAR"]
    for name, sources in published_noise.COLLECTIONS.items():
        lines.append(f"  {name:<44} all files of {' and '.join(sources)}")
    for name, noise in published_noise.NOISE.items():
        lines.append(f"  {name:<44} {noise.dataset}, {noise.images}; licence: {noise.licence}")
    return "\n".join(lines)
