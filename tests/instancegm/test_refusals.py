"""instanceGM.py given what cannot work: one message that says how to fix it."""

import sys

import pytest
from conftest import TINY


def test_missing_data_is_one_message_that_says_what_to_do(main, tmp_path, capsys):
    assert main("--dataset cifar10 --data_path", tmp_path) == 2
    message = capsys.readouterr().err
    for fix in ("make data-cifar10", "cifar-10-python.tar.gz", "DATA_MIRROR"):
        assert fix in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--noise_file", "nothing.pt"], "nothing.pt"),
        (["--num_class", "5"], "digits has 10 classes"),
        (["--device", "cuda:77"], "leave --device"),
        (["--evaluate", "nothing"], "nothing"),
        (["--output_dir", "a_file/run"], "a_file"),
    ],
)
def test_input_that_cannot_work_gets_one_message(main, tmp_path, capsys, flags, message):
    (tmp_path / "a_file").write_text("")
    assert main("--dataset", "digits", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_wandb_is_optional_and_its_absence_is_explained(main, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SystemExit, match="2"):
        main(*TINY, "--wandb", "--output_dir", "run")
    assert "pip install wandb" in capsys.readouterr().err
