"""Two processes train on picture files: Clothing1M in miniature, in its own layout."""

import shutil
from collections import Counter

import pytest
from conftest import ROOT, rows
from test_real_labels import clothing1m

from tests import ranks as launched

# A ResNet-50 takes twice as long, and crops of 224 pixels a minute.
SMALL = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from torchvision import models
from re_sln import train_real
from re_sln.method import disk_images
from re_sln.method.ranks import Ranks
from re_sln.run.errors import leave
from tests.ranks import watch

models.resnet50 = lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1])
disk_images.SHORTER_SIDE, disk_images.CROP = 72, 64
watch(Ranks, disk_images._Files)
leave(train_real.main())
"""
FLAGS = [
    *("--dataset_name", "clothing1m", "--data_path", ".", "--pretrained", "none"),
    *("--method", "sln_mo_lc", "--n_epochs", "2", "--lc_n_epoch", "1", "--batch_size", "8"),
    *("--num_workers", "1", "--device", "cpu", "--output_dir", "run"),
]


@pytest.mark.training
def test_two_processes_share_the_files_and_leave_what_one_does(tmp_path):
    clothing1m(tmp_path / "clothing1M")
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    done = launched.run(script, FLAGS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 processes, cpu" in done.stdout
    assert done.stdout.count("all models saved") == 1
    run, metrics = tmp_path / "run", rows(tmp_path / "run")
    assert [row["epoch"] for row in metrics] == [1, 2]
    assert {path.name for path in run.iterdir() if not path.name.startswith("events")} == {
        *("config.yaml", "config.yml", "metrics.jsonl", "noise.npz", "last.ckpt", "best.ckpt"),
        *("model.pth", "model_ema.pth", "label_quality.csv", "corrected_labels.npz", ".lock"),
        "loss_train_all",
    }
    assert (run / "label_quality.csv").read_text().count("\n") == 31

    items = launched.decoded(tmp_path)
    passes = {seed for _, _, seed in items} - {None}
    assert len(passes) == 4  # two epochs, and the label correction of each
    for seed in passes:
        of_pass = [item for item in items if item[2] == seed]
        assert Counter(rank for rank, _, _ in of_pass) == {0: 14, 1: 14}
        assert len({position for _, position, _ in of_pass}) == 28

    shutil.copy(tmp_path / launched.BEFORE, run / "last.ckpt")
    done = launched.run(script, [*FLAGS, "--num_workers", "0", "--resume"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed: epoch 1 of 2 is done" in done.stdout
    assert rows(run) == metrics
