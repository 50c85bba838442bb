"""instanceGM.py given what cannot work: one message that says how to fix it."""

import ast
import re
import sys

import pytest
import torch
from conftest import ROOT, TINY

from instancegm.analysis import compare
from instancegm.method.networks import PreActResNet18
from instancegm.run.config import build_parser
from instancegm.run.presets import SCRIPTS


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
        pytest.param(  # builds the networks first
            ["--output_dir", "a_file/run"], "a_file", marks=pytest.mark.training
        ),
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


# Of uv, in an advice that spells the whole command, and of torchrun
OF_OTHER_COMMANDS = {"--python", "--standalone", "--nproc_per_node"}
BELONGS_TO_COMPARE = ("compare.py", "runs.py", "figures.py")


def flags_in_messages(path):
    """The flags in a module's texts, docstrings aside."""
    tree = ast.parse(path.read_text())
    statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    docstrings = {id(node) for node in statements if isinstance(node, ast.Constant)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and id(node) not in docstrings:
            yield from re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", text)


@pytest.mark.parametrize("name", ["training scripts", "compare.py"])
def test_every_flag_that_a_message_names_is_one_of_its_command(name):
    known = {*compare.build_parser()._option_string_actions}
    if name != "compare.py":  # messages about flags of one script are tested one by one
        known = {
            flag for script in SCRIPTS for flag in build_parser(script)[0]._option_string_actions
        }
    named = {}
    for path in (ROOT / "instancegm").rglob("*.py"):
        of_compare = path.parent.name == "analysis" and path.name in BELONGS_TO_COMPARE
        if of_compare == (name == "compare.py"):
            named |= {flag: path.name for flag in flags_in_messages(path)}
    assert named
    unknown = {flag: where for flag, where in named.items() if flag not in known}
    assert {*unknown} <= OF_OTHER_COMMANDS, unknown


def save_published(path, classes):
    path.parent.mkdir(parents=True)
    net = PreActResNet18(classes, width=2).state_dict()
    torch.save({"epoch": 3, "net1_state_dict": net, "net2_state_dict": net}, path)
    return path


def test_evaluate_knows_the_dataset_of_a_published_checkpoint_by_its_place(main, tmp_path, capsys):
    path = save_published(tmp_path / "saved" / "digits" / "checkpoint_0.4.tar", 10)
    assert main("--evaluate", path, "--limit_test 20") == 0
    assert f"note: {path} is taken to be of digits; --dataset" in capsys.readouterr().out
    for folder, classes, name in (("cifar10", 100, "CIFAR-100"), ("mine", 10, "CIFAR-10")):
        path = save_published(tmp_path / "saved" / folder / "checkpoint_0.5.tar", classes)
        assert main("--evaluate", path, "--data_path", tmp_path / "none") == 2
        output = capsys.readouterr()
        assert f"taken to be of {name.lower().replace('-', '')};" in output.out
        assert name.lower().replace("-", "") in output.err.lower().replace("-", "")
    assert main("--evaluate", path, "--dataset digits --limit_test 9") == 0
    path = save_published(tmp_path / "saved" / "folder_x_1" / "checkpoint_0.5.tar", 3)
    assert main("--evaluate", path) == 2
    assert "--data_path" in capsys.readouterr().err


def test_evaluate_of_another_number_of_classes_asks_for_the_dataset(main, tmp_path, capsys):
    path = save_published(tmp_path / "saved" / "digits" / "checkpoint_0.4.tar", 7)
    assert main("--evaluate", path) == 2
    error = capsys.readouterr().err
    assert "does not fit 10 classes; is it of another --dataset?" in error
    assert len(error.splitlines()) == 1
