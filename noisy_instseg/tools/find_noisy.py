"""Which class labels of a training file are wrong? Judges them by the loss of a trained model.

    python tools/find_noisy.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py \
        work_dirs/mask_rcnn_tiny_shapes_nl_2/epoch_12.pth \
        --noise_file ../data/shapes/annotations/train_sn40.json --corrected better.json

writes label_quality.csv, a row an annotation, into the checkpoint's folder, where `make report`
finds it, and annotations that any tool here trains on. With the manifest of the noise (beside the
file, or --manifest) it says how many of the changed labels come first. See
analysis/noise_ranking.py, and ranking_files.py for what is written.
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
from shared.coco import manifest as coco_manifest
from shared.errors import UserError
from shared.files import write_atomically
from shared.formats import label_quality


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    flags = parse(FindNoisyFlags, argv)

    def work() -> None:
        out = flags.out or flags.checkpoint.parent / label_quality.TABLE
        check_output("--out", out, ".csv")
        check_output("--plot", flags.plot, ".png")
        check_output("--corrected", flags.corrected, ".json")
        check_output("--save_probs", flags.save_probs, ".npz")
        device = choose_device(flags.settings.device)

        from noisy_instseg.analysis import figures, noise_ranking, ranking_files, trained_model
        from noisy_instseg.run import class_names

        cfg = trained_model.load_config(flags.config, flags.settings, "train")
        path = trained_model.only_part(cfg, "train").annotations
        check_corrected(flags, path)
        source = coco_file.read(path)
        truth = noise_ranking.true_categories(source, path, flags.manifest)
        model, names = trained_model.load_model(cfg, flags.checkpoint, device)
        class_names.number_as_trained(cfg, names, flags.checkpoint, ["train"])
        ranking = noise_ranking.rank_training_set(model, cfg, source, truth)
        write_atomically(out, ranking_files.table(source, ranking))
        print(f"{noise_ranking.report(ranking)}\n\ntable: {out}")
        if flags.corrected is not None:
            write_atomically(flags.corrected, ranking_files.corrected(source, ranking))
            print(f"corrected: {flags.corrected} ({noise_ranking.corrections(ranking)})")
        if flags.save_probs is not None:
            write_atomically(flags.save_probs, ranking_files.probabilities(ranking))
            print(f"probabilities: {flags.save_probs}")
        if flags.plot is not None:
            title = f"Loss at the annotations of {path.name}"
            changed = ranking.annotations.changed
            figure = figures.draw_losses(title, ranking.losses, changed)
            write_atomically(flags.plot, figures.png(figure))
            print(f"picture: {flags.plot}")

    return exit_status(work)


def check_corrected(flags: FindNoisyFlags, annotations: Path) -> None:
    """Raises UserError if --corrected names a file that is read, or one that is there already."""
    if flags.corrected is None:
        return
    for source in (annotations, flags.manifest or coco_manifest.default_path(annotations)):
        coco_file.check_not_input(flags.corrected, source, "--corrected")
    if flags.corrected.exists() and not flags.force:
        raise UserError(
            f"--corrected {flags.corrected} exists: choose another name, or overwrite it with "
            "--force"
        )


if __name__ == "__main__":
    sys.exit(main())
