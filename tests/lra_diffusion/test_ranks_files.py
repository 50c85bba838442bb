"""Two processes train on picture files: Food-101N in miniature, in its own layout."""

import shutil
from collections import Counter

import pytest
import timm
import torch
from conftest import ROOT, rows, verdicts
from test_disk import BACKBONE, TINY, food101n

from tests import ranks as launched

# Crops of 224 pixels take a minute.
SMALL = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from lra_diffusion import train_Food101N
from lra_diffusion.method.ranks import Ranks
from lra_diffusion.run import image_files
from lra_diffusion.run.errors import leave
from tests.ranks import watch

image_files.SHORTER_SIDE, image_files.CROP = 36, 32
watch(Ranks, image_files._Files)
leave(train_Food101N.main())
"""
FLAGS = [
    *(*TINY, "--data_path", "data", "--fp_encoder", BACKBONE, "--fp_weights", "backbone.pth"),
    *("--nepoch", "2", "--warmup_epochs", "1", "--batch_size", "51", "--output_dir", "run"),
]


@pytest.mark.training
def test_two_processes_share_the_files_and_leave_what_one_does(tmp_path):
    food101n(tmp_path / "data", verified=True)
    torch.save(timm.create_model(BACKBONE, num_classes=0).state_dict(), tmp_path / "backbone.pth")
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    done = launched.run(script, [*FLAGS, "--num_workers", "1"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 processes, cpu" in done.stdout
    run, metrics = tmp_path / "run", rows(tmp_path / "run")
    assert [(row["epoch"], row["images"]) for row in metrics] == [(1, 102), (2, 102)]
    assert {path.name for path in run.iterdir() if not path.name.startswith("events")} == {
        *("config.yaml", "noise.npz", "metrics.jsonl", "last.ckpt", "best.ckpt", ".lock"),
        *("label_quality.csv", "corrected_labels.npz", "LRA-diffusion_Food101N.pt"),
    }
    judged = verdicts(run)
    assert len(judged) == 102
    features = [path.name.split("_")[2] for path in (tmp_path / "data" / "embeddings").iterdir()]
    assert sorted(features) == ["test", "train", "val"]

    items = launched.decoded(tmp_path)
    passes = {seed for _, _, seed in items} - {None}
    assert len(passes) == 2
    for seed in passes:
        of_pass = [item for item in items if item[2] == seed]
        assert Counter(rank for rank, _, _ in of_pass) == {0: 50, 1: 52}  # of 51 25 and 26
        assert {position for _, position, _ in of_pass} == {*range(102)}

    shutil.copy(tmp_path / launched.BEFORE, run / "last.ckpt")
    done = launched.run(script, [*FLAGS, "--resume"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed: epoch 1 of 2 is done" in done.stdout
    assert rows(run) == metrics
    assert verdicts(run) == judged
