"""The command line of `shared`: `python -m shared noise make|add|info|convert|compare` and `python
-m shared data`.
"""

import argparse
import sys
from pathlib import Path

from shared import datasets
from shared.cli import noise as noise_cli
from shared.datasets import published_noise
from shared.datasets.download import DownloadError

EPILOG = """\
examples:
  python -m shared data list
  python -m shared data cifar10
  python -m shared data pmd-noise                              (all noise files of LRA-diffusion and PLC)
  python -m shared noise make --dataset cifar10 --kind pdn --rate 0.5 --out 0.5_pdn.npz
  python -m shared noise info 0.5_pdn.npz
`python -m shared noise make --help` explains the kinds of noise.
"""
DATA_EPILOG = """\
examples:
  python -m shared data list
  python -m shared data cifar10 --path data
  python -m shared data shapes                                 (generates the files)
  python -m shared data sln/cifar10/sym0.4.csv
  python -m shared data sln-noise                              (all noise files of SLN and re-sln)
  python -m shared data pmd-noise                              (all noise files of LRA-diffusion and PLC)
  DATA_MIRROR=/media/stick python -m shared data cifar100      (takes the archive from there; the checksum is the same)
"""
OTHER_DATA = {
    "animal10n": (
        "Animal-10N, 55,000 animals; its publisher asks for a form, `data animal10n` says where"
    ),
    "clothing1m": "Clothing1M, a million clothes, read as files; its authors send it on request",
    "food101n": (
        "Food-101N, 310,009 dishes, and Food-101 for testing, read as files; `data "
        "food101n` says where to get both"
    ),
    "webvision": (
        "WebVision 1.0, pictures of a web search, read as files; `data webvision` says "
        "where to get it"
    ),
    "ilsvrc2012": (
        "validation images of ILSVRC2012, to test on; its publisher asks for a registration"
    ),
    "digits": "1,797 handwritten digits; comes with scikit-learn, nothing to get",
    "shapes": (
        "500 pictures of eight shapes with COCO-format instances; generated in seconds, "
        "nothing to get"
    ),
    "folder": "your own images, see shared/datasets/image_folder.py; nothing to get",
}
EMBEDDED = ("digits", "folder")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 2 with one message on stderr for what the user can mend."""
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stdout = None  # else Python complains at exit
        return 0
    except (
        ValueError,
        OSError,
        DownloadError,
    ) as error:  # NoiseFileError and DatasetError are ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options; each sets `run`."""
    parser = argparse.ArgumentParser(
        prog="python -m shared",
        description="Label noise and datasets, for every project of this repository.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    noise_cli.add_parser(commands)
    data = commands.add_parser(
        "data",
        help="get a dataset or a published noise file, or list what there is",
        description="Find a dataset or a published noise file, or download it; every file is "
        "checked.",
        epilog=DATA_EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data.add_argument("name", metavar="NAME", help="a dataset, a published noise file, or `list`")
    data.add_argument(
        "--path",
        type=Path,
        metavar="DIR",
        help="folder of the datasets; default: $DATA_ROOT, else data",
    )
    data.set_defaults(run=run_data)
    return parser


def run_data(args: argparse.Namespace) -> None:
    """Fetch one dataset or published noise file and say where it is; or list them."""
    if args.name == "list":
        print(_list_of_data())
    elif args.name in published_noise.COLLECTIONS:
        for path in published_noise.fetch_collection(args.name, args.path):
            print(path)
    elif args.name in EMBEDDED:
        print(f"{args.name}: {OTHER_DATA[args.name]}")
    elif "/" in args.name:
        print(f"{args.name} is at {published_noise.fetch_noise(args.name, args.path)}")
    else:
        print(f"{args.name} is in {datasets.fetch(args.name, args.path)}")


def _list_of_data() -> str:
    lines = ["datasets"]
    for name in datasets.NAMES + datasets.FILE_NAMES:
        spec = datasets.CIFAR.get(name)
        about = (
            OTHER_DATA.get(name, "")
            if spec is None
            else f"{spec.megabytes} MB; licence: {spec.licence}"
        )
        lines.append(f"  {name:<10} {about}")
    lines += ["", "published noise files, of the training images of CIFAR"]
    for name, sources in published_noise.COLLECTIONS.items():
        lines.append(f"  {name:<44} all files of {' and '.join(sources)}")
    for name, noise in published_noise.NOISE.items():
        lines.append(f"  {name:<44} {noise.dataset}, {noise.images}; licence: {noise.licence}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
