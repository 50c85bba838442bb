"""Two processes train on picture files: Clothing1M in miniature, in its own layout."""

import shutil
from collections import Counter

import pytest
import trees
from conftest import ROOT, rows

from tests import ranks as launched

# Crops of 224 pixels take a minute.
SMALL = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from instancegm import instanceGM_clothing1M
from instancegm.method import peers
from instancegm.method.ranks import Ranks
from instancegm.method.vae import Vae
from instancegm.run import image_files
from instancegm.run.errors import leave
from tests.ranks import watch

image_files.SHORTER_SIDE, image_files.CROP = 72, 64
peers.Vae = lambda classes, z_dim, numerics, size: Vae(classes, z_dim, numerics, 64)
watch(Ranks, image_files._Crops)
leave(instanceGM_clothing1M.main())
"""
FLAGS = [
    *("--data_path", "clothes", "--pretrained", "none", "--width", "4", "--batch_size", "4"),
    *("--num_batches", "4", "--limit_test", "6", "--num_epochs", "1", "--warm_up", "1"),
    *("--num_workers", "1", "--device", "cpu", "--output_dir", "run"),
]


@pytest.mark.training
def test_two_processes_share_the_files_and_leave_what_one_does(tmp_path):
    trees.clothing1m(tmp_path / "clothes", per_class=2)
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    done = launched.run(script, FLAGS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 processes, cpu" in done.stdout
    run, metrics = tmp_path / "run", rows(tmp_path / "run")
    assert [row["phase"] for row in metrics] == ["warm_up", "co_divide"]
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "noise.npz", "metrics.jsonl", "tensorboard", "last.ckpt", "best.ckpt"),
        *("best_net1.ckpt", "best_net2.ckpt", "clean_prob.csv", "label_quality.csv"),
        *("corrected_labels.npz", "plots.png", ".lock"),
    }
    assert (run / "label_quality.csv").read_text().count("\n") == 29
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == {
        *("clothing1m.txt", "clothing1m_net1.pth.tar", "clothing1m_net2.pth.tar")
    }

    items = launched.decoded(tmp_path)
    views = [(seed[0], rank, position) for rank, position, count, seed in items if count]
    passes = list(dict.fromkeys(seed for seed, _, _ in views))
    assert len(passes) == 4  # of two networks in two epochs
    for each in passes[:2]:  # the warm-up, which draws every picture
        of_pass = [view[1:] for view in views if view[0] == each]
        assert Counter(rank for rank, _ in of_pass) == {0: 14, 1: 14}
        assert {position for _, position in of_pass} == {*range(28)}

    shutil.copy(tmp_path / launched.BEFORE, run / "last.ckpt")
    done = launched.run(script, [*FLAGS, "--num_workers", "0", "--resume"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed: epoch 0 of 1 is done" in done.stdout
    assert rows(run) == metrics
