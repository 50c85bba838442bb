"""What is special to past runs of this project, which shared.runs reads: stages and noise."""

from pathlib import Path
from typing import Any

from shared.coco import manifest as coco_manifest
from shared.runs.detectors import NL_AFTER_CE, at
from shared.runs.files import number, read_log
from shared.runs.reader import Run


def switch(run: Run) -> float | None:
    """Between which epochs the loss changed, such as 6.5; None where it never did."""
    if run.method != NL_AFTER_CE:
        return None
    own: float = read_log(run.folder)[0]["epoch"]  # stage 1 trained those before
    return own - 0.5


def is_whole(run: Run) -> bool:
    """Whether the rows begin with the first epoch: stage 1's, if there was one, were found."""
    return run.metric != "mask AP" or bool(run.rows[0]["epoch"] == 1)


def noise_rate(run: Run) -> float | None:
    """Share of changed training labels; None where nobody wrote it down.

    By the manifest beside the annotations; of other projects by the run's settings.
    """
    dataset: Any = at(run.config, "train_dataloader", "dataset")
    while isinstance(dataset, dict) and "dataset" in dataset:
        dataset = dataset["dataset"]
    if not isinstance(dataset, dict) or "ann_file" not in dataset:
        return number(run.config.get("measured_noise_rate"))
    manifest = coco_manifest.default_path(Path(dataset.get("data_root") or "", dataset["ann_file"]))
    return coco_manifest.read_manifest(manifest).realised_rate if manifest.is_file() else None
