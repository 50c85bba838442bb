"""Rank the annotations of a training file by the loss of a trained model: wrong labels come first.

    python tools/find_noisy.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py \
        work_dirs/mask_rcnn_tiny_shapes_nl_2/epoch_12.pth \
        --noise_file data/shapes/annotations/train_sn40.json --plot losses.png

With the manifest of the noise (beside the file, or --manifest) it says how many of the changed
labels come first. See analysis/noise_ranking.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from noisy_instseg.analysis.config import FindNoisyFlags
from noisy_instseg.run.device import choose_device
from noisy_instseg.run.errors import check_output, exit_status
from noisy_instseg.run.flags import parse
from shared.coco import file as coco_file
from shared.files import write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    flags = parse(FindNoisyFlags, argv)

    def work() -> None:
        check_output("--out", flags.out, ".csv")
        check_output("--plot", flags.plot, ".png")
        device = choose_device(flags.settings.device)

        from noisy_instseg.analysis import figures, noise_ranking, trained_model
        from noisy_instseg.run import class_names

        cfg = trained_model.load_config(flags.config, flags.settings, "train")
        path = trained_model.only_part(cfg, "train").annotations
        source = coco_file.read(path)
        changed = noise_ranking.changed_ids(source, path, flags.manifest)
        model, names = trained_model.load_model(cfg, flags.checkpoint, device)
        class_names.number_as_trained(cfg, names, flags.checkpoint, ["train"])
        ranking = noise_ranking.rank_training_set(model, cfg, source, changed)
        write_atomically(flags.out, noise_ranking.encode_csv(ranking))
        print(f"{noise_ranking.report(ranking)}\n\nranking: {flags.out}")
        if flags.plot is not None:
            title = f"Loss at the annotations of {path.name}"
            picture = figures.losses_of_labels(title, ranking.losses, ranking.changed)
            write_atomically(flags.plot, picture)
            print(f"picture: {flags.plot}")

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
