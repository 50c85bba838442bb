"""Shows 32 training images with their noisy labels: 16 clean ones, then 16 noisy ones.

    python viz.py digits --noise_mode sym --p 0.4 --seed 123     # viz/digits_sym_p_0.4_made.png
    python viz.py cifar10 --noise_mode sym --p 0.4 --custom_noise --seed 123
    python viz.py animal-10n --seed 123
    python viz.py folder --data_path my_images --labels labels.csv

Prints the noise rate and, where they are beside the labels, the rules of re-sln's generator. Images
are not augmented; the true class of a noisy one is in brackets.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln.run.config import add_flags, choose_labels
from re_sln.run.errors import exit_status
from re_sln.run.settings import LabelChoice
from shared.errors import UserError

DATASETS = ("cifar10", "cifar100", "cifar10n", "cifar100n", "digits", "animal-10n", "folder")
# Flags of train_cifar.py that a dataset has here, beside --seed and --data_path.
NOISE_FLAGS = {
    **dict.fromkeys(DATASETS, ("noise_mode", "p", "custom_noise", "noise_file")),
    **dict.fromkeys(("cifar10n", "cifar100n"), ("noise_type",)),
    "digits": ("noise_mode", "p", "noise_file"),
    "animal-10n": ("skip_broken", "cache_dir"),
    "folder": ("noise_mode", "p", "noise_file", "labels", "skip_broken", "cache_dir"),
}
LARGEST_SEED = 2**32 - 33  # legacy numpy takes 32 bits, and a panel adds its number


def parse(argv: Sequence[str] | None) -> LabelChoice:
    """The labels to show; --seed, which is of no noise here, says which images."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="viz.py",
        description="Show training images with their noisy labels.",
    )
    commands = parser.add_subparsers(
        dest="dataset_name", required=True, metavar="DATASET", help=", ".join(DATASETS)
    )
    for name in DATASETS:
        group = commands.add_parser(name).add_argument_group("which images")
        wanted = (*NOISE_FLAGS[name], "seed", "data_path")
        add_flags(group, [each for each in fields(LabelChoice) if each.name in wanted])
    given = vars(parser.parse_args(argv))
    if not 0 <= given["seed"] <= LARGEST_SEED:
        parser.error(f"--seed {given['seed']}: must be between 0 and {LARGEST_SEED}")
    try:
        return choose_labels(**given)
    except UserError as error:
        parser.error(str(error))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    choice = parse(argv)
    return exit_status(lambda: show(choice), trains=False)


def show(choice: LabelChoice) -> None:
    """Reads data and noise, says what they are and writes the picture."""
    from re_sln.analysis import panels, sample_figures
    from re_sln.run.data import load_images
    from re_sln.run.labels import noisy_training_set, rules_file
    from re_sln.run.launch import alone_only
    from shared.files import write_atomically

    alone_only("a picture is drawn once")
    data = load_images(choice)
    noise, images = noisy_training_set(choice, data, may_make=False)
    print(
        f"dataset: {choice.dataset_name}, {len(images)} training images, {data.num_classes} classes"
    )
    if noise.header.measured_rate is None:
        print("noise ratio: unknown, the labels are noisy by themselves")
    else:
        print(f"noise ratio: {noise.header.measured_rate:.4f}")
    if rules := rules_file(choice):
        followed = "" if choice.custom_noise else ", which the paper's labels need not follow"
        print(f"noise rules of re-sln's generator{followed}, {rules}:\n{rules.read_text().strip()}")
    chosen = panels.choose(noise, choice.seed)
    assert noise.indices is not None
    shown = [None if row is None else images[noise.indices[row]] for row in chosen]
    path = picture_path(choice)
    write_atomically(path, sample_figures.panels(shown, panels.titles(noise, chosen, data)))
    print(f"saved {path}")


def picture_path(choice: LabelChoice) -> Path:
    """`viz/<dataset>_<mode>_p_<p>_<custom|paper|made>.png`, or `viz/<dataset>_<noise file>.png`."""
    name = choice.dataset_name
    if choice.noise_type:
        name += f"_{choice.noise_type}"
    if choice.noise_file:
        name += f"_{Path(choice.noise_file).stem}"
    elif choice.noise_mode:
        source = (
            "custom" if choice.custom_noise else "paper" if name.startswith("cifar") else "made"
        )
        name += f"_{choice.noise_mode}_p_{choice.p}_{source}"
    return Path("viz") / f"{name}.png"


if __name__ == "__main__":
    sys.exit(main())
