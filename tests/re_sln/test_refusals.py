"""Run folders that a command must not take, and how a run is prolonged."""

import pytest
import yaml
from conftest import TINY


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_training_does_not_overwrite_a_search(more, main, tmp_path, capsys):
    settings = tmp_path / "hp" / "config.yaml"
    settings.parent.mkdir()
    settings.write_text(yaml.safe_dump({"exp_id": "hp_1", "trials": ["a", "b"]}))
    before = settings.read_text()
    assert main(*TINY, "--method", "ce", "--output_dir", "hp", *more) == 2
    assert "hp holds a search of tune.py: choose another --output_dir" in capsys.readouterr().err
    assert settings.read_text() == before
    assert [path.name for path in settings.parent.iterdir()] == ["config.yaml"]


@pytest.mark.training
def test_a_run_with_label_correction_is_prolonged_by_the_advice_of_its_refusal(main, capsys):
    flags = [*TINY, "--method", "sln_mo_lc", "--output_dir", "run"]
    assert main(*flags) == 0
    longer = [*flags, "--n_epochs", 6, "--resume"]
    assert main(*longer) == 2
    error = capsys.readouterr().err
    assert "lc_n_epoch: 2 then, 5 now" in error
    assert "add --lc_n_epoch 2 to prolong the run" in error
    assert main(*longer, "--lc_n_epoch", 2) == 0
    assert main(*flags, "--n_epochs", 6, "--lc_n_epoch", 2, "--seed", 9, "--resume") == 2
    assert "prolong" not in capsys.readouterr().err
