"""A run of an earlier version can be continued and evaluated."""

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.training

OLD_RUN = Path(__file__).parent / "data" / "old_run"  # up to epoch 2; its metrics up to epoch 4
FLAGS = [
    *("--dataset", "digits", "--r", "0.9", "--noise_mode", "sym", "--limit_train", "64"),
    *("--limit_test", "40", "--width", "1", "--batch_size", "16", "--warm_up", "1", "--no-vae"),
    *("--amp", "off", "--lr", "0.001", "--num_epochs", "4", "--output_dir", "run", "--resume"),
]


@pytest.mark.parametrize("flags", [FLAGS, ["--config", "config.yaml", *FLAGS[-5:]]])
def test_an_old_run_goes_on_from_where_it_was(main, tmp_path, capsys, flags):
    """Its epochs stay as they were; the order of images in later ones is today's."""
    (tmp_path / "run").mkdir()
    shutil.copy(OLD_RUN / "checkpoint.pt", tmp_path / "run" / "last.ckpt")
    shutil.copy(OLD_RUN / "config.yaml", tmp_path)
    assert main(*flags) == 0
    assert "resumed: epoch 2 of 4 is done" in capsys.readouterr().out
    old = [json.loads(line) for line in (OLD_RUN / "metrics.jsonl").read_text().splitlines()]
    new = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert new[:3] == old[:3]
    assert [row["epoch"] for row in new] == [0, 1, 2, 3, 4]
    # The same split of the same networks; training then takes other batches.
    for name in ("lr", "n_labelled_1", "n_labelled_2", "auc_1", "auc_2"):
        assert new[3][name] == pytest.approx(old[3][name], rel=0.02)
    assert new[3]["loss_1"] == pytest.approx(old[3]["loss_1"], rel=0.2)


def test_an_old_run_is_evaluated(main, tmp_path, capsys):
    shutil.copy(OLD_RUN / "checkpoint.pt", tmp_path / "last.ckpt")
    assert main("--evaluate", "last.ckpt", "--limit_test", 40, "--amp", "off") == 0
    accuracy = json.loads((OLD_RUN / "metrics.jsonl").read_text().splitlines()[2])["accuracy"]
    assert f"test accuracy {accuracy:.2f} %" in capsys.readouterr().out
