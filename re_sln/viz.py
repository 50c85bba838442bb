"""Shows 32 training images with their noisy labels: 16 clean ones, then 16 noisy ones with the true
class in brackets.

    python viz.py digits --noise_mode sym --p 0.4 --seed 123                # viz/digits_sym_p_0.4_made.png, no download
    python viz.py cifar10 --noise_mode sym --p 0.4 --custom_noise --seed 123
    python viz.py animal-10n --seed 123

Prints the noise rate and, where they lie beside the labels, the rules of re-sln's generator. Images
are not augmented.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

import numpy as np
from numpy.typing import NDArray

from re_sln import figures, options
from re_sln.data import load_images
from re_sln.noisy_labels import is_noisy, noisy_training_set, rules_file
from re_sln.run import BAD_INPUT
from shared.datasets.image_data import ImageData
from shared.files import write_atomically
from shared.formats.noise_file import NoiseFile

PANELS = 32


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="viz.py",
        description="Show training images with their noisy labels.",
    )
    commands = parser.add_subparsers(
        dest="dataset_name",
        required=True,
        metavar="DATASET",
        help="cifar10, cifar100, digits or animal-10n",
    )
    for name in ("cifar10", "cifar100", "digits", "animal-10n"):
        command = commands.add_parser(name)
        add = command.add_argument
        if name != "animal-10n":
            add(
                "--noise_mode",
                choices=options.NOISE_MODES,
                help="kind of noise; not needed with --noise_file",
            )
            add(
                "--p",
                type=float,
                help="noise rate in [0, 1]; the labels of this very rate are read (0.4)",
            )
            if name != "digits":
                add(
                    "--custom_noise",
                    action="store_true",
                    help="read <mode><p>_custom.csv instead of the paper's labels",
                )
            add(
                "--noise_file",
                help="noisy labels from a file, of any project; FILE:COLUMN chooses one of several",
            )
        add(
            "--seed",
            type=int,
            default=0,
            help="which images are shown (0; the README's commands: 123)",
        )
        add(
            "--data_path",
            type=Path,
            help="where the data are ($DATA_ROOT, else data/ beside this script or in the root)",
        )
    args = parser.parse_args(argv)
    absent = {
        "noise_mode": None,
        "p": None,
        "custom_noise": False,
        "noise_file": None,
        "make_new_custom_noise": False,
    }
    for name, value in absent.items():
        vars(args).setdefault(name, value)
    if not 0 <= args.seed < 2**32 - PANELS:
        parser.error(f"--seed {args.seed}: lies between 0 and {2**32 - PANELS - 1}")
    if args.dataset_name != "animal-10n":
        options.check_noise(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    args = parse(argv)
    try:
        show(args)
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def show(args: argparse.Namespace) -> None:
    """Reads data and noise, says what they are and writes the picture."""
    data = load_images(args.dataset_name, options.data_path(args))
    noise, images = noisy_training_set(args, data, may_make=False)
    print(
        f"dataset: {args.dataset_name}, {len(images)} training images, {data.num_classes} classes"
    )
    if noise.header.measured_rate is None:
        print("noise ratio: unknown, the labels are noisy by themselves")
    else:
        print(f"noise ratio: {noise.header.measured_rate:.4f}")
    if rules := rules_file(args):
        followed = "" if args.custom_noise else ", which the paper's labels need not follow"
        print(f"noise rules of re-sln's generator{followed}, {rules}:\n{rules.read_text().strip()}")
    chosen = choose(noise, args.seed)
    assert noise.indices is not None
    shown = [None if row is None else images[noise.indices[row]] for row in chosen]
    path = picture_path(args)
    write_atomically(path, figures.panels(shown, titles(noise, chosen, data)))
    print(f"saved {path}")


def pick(pool: NDArray[np.int64], seed: int) -> int | None:
    """One of the pool (M,), as the original picks it: legacy numpy, and without replacement makes a
    difference there.
    """
    return int(np.random.RandomState(seed).choice(pool, 1, replace=False)[0]) if len(pool) else None


def choose(noise: NoiseFile, seed: int) -> list[int | None]:
    """The sample of each panel 1 ... 32, a row of the noise file: half of them clean, then noisy;
    all of them where the truth is unknown. None: there is none of that kind.
    """
    noisy = is_noisy(noise)
    everything = np.arange(len(noise.noisy_labels))
    pools = (
        [everything, everything]
        if noisy is None
        else [np.flatnonzero(~noisy), np.flatnonzero(noisy)]
    )
    return [pick(pools[number > PANELS // 2], seed + number) for number in range(1, PANELS + 1)]


def titles(noise: NoiseFile, chosen: Sequence[int | None], data: ImageData) -> list[str]:
    """`clean:<class>`, `dirty:<noisy class> (<true class>)`, `dirty:(<class>)` of a foreign image,
    or the class alone.
    """
    noisy = is_noisy(noise)
    names = data.class_names

    def title(row: int | None) -> str:
        if row is None:
            return ""
        given = str(names[noise.noisy_labels[row]])
        if noisy is None or noise.clean_labels is None:
            return given
        if not noisy[row]:
            return f"clean:{given}"
        if noise.open_set is not None and noise.open_set[row]:
            return f"dirty:({given})"
        return f"dirty:{given} ({names[noise.clean_labels[row]]})"

    return [title(row) for row in chosen]


def picture_path(args: argparse.Namespace) -> Path:
    """`viz/<dataset>_<mode>_p_<p>_<custom|paper|made>.png`, with a noise file `viz/<dataset>_<its
    name>.png`.
    """
    name = args.dataset_name
    if args.noise_file:
        name += f"_{Path(args.noise_file).stem}"
    elif args.noise_mode:
        source = "custom" if args.custom_noise else "made" if name == "digits" else "paper"
        name += f"_{args.noise_mode}_p_{args.p}_{source}"
    return Path("viz") / f"{name}.png"


if __name__ == "__main__":
    sys.exit(main())
