"""A page of validation images: the ground truth, and what several trained models make of them.

    python tools/pictures.py configs/shapes/mask_rcnn_tiny_shapes_ce.py \
        clean/epoch_12.pth noisy/epoch_12.pth \
        --names "trained on clean labels" "on noisy labels" --images 4 --out page.png

Rows are images, evenly spread over the validation set; columns are the ground truth and the models.
See analysis/prediction_page.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from noisy_instseg.analysis.config import PicturesFlags
from noisy_instseg.run.device import choose_device
from noisy_instseg.run.errors import check_output, exit_status
from noisy_instseg.run.flags import parse
from shared.files import write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    flags = parse(PicturesFlags, argv)
    titles = flags.names or tuple(
        f"{path.absolute().parent.name}\n{path.stem}" for path in flags.checkpoints
    )

    def work() -> None:
        check_output("--out", flags.out, ".png")
        device = choose_device(flags.settings.device)

        from noisy_instseg.analysis import prediction_page, trained_model

        cfg = trained_model.load_config(flags.config, flags.settings, "val")
        dataset = trained_model.load_dataset(cfg, "val")
        indices = prediction_page.spread(len(dataset), flags.images)
        columns = [[prediction_page.ground_truth(dataset.get_data_info(i)) for i in indices]]
        for checkpoint in flags.checkpoints:
            model, names = trained_model.load_model(cfg, checkpoint, device)
            labels = prediction_page.labels_of(names, dataset, checkpoint)
            found = prediction_page.predict(model, cfg, dataset, indices, flags.score_thr, labels)
            columns.append(found)
        page = prediction_page.paint_page(dataset, indices, ["ground truth", *titles], columns)
        write_atomically(flags.out, page)
        print(f"wrote {flags.out}: {len(indices)} images, {len(titles)} models")

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
