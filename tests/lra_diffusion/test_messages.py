"""Every flag that a message names is accepted by the command that prints it."""

import argparse
import ast
import re

import pytest
from conftest import SCRIPTS

from lra_diffusion import compare
from lra_diffusion.run import config, tool_config

IN_MEMORY, ON_DISK = ["train_CIFAR"], ["train_Food101N", "train_Clothing1M", "train_WebVision"]
LRA = [*IN_MEMORY, *ON_DISK]
OWN_FILES = ["train_Food101N", "train_Clothing1M"]  # take pictures of one's own
TRAINING = [*LRA, "train_CE", "train_SimCLR", "make_pmd"]
FEATURES = [*LRA, "test_ILSVRC2012", "KNN_test", "plot"]
# Modules whose messages name flags: the scripts that print them, and the flags of other commands
# that they name, as in `python make_pmd.py --rate 0.35` or "the --output_dir of a training script".
PRINTED_BY = {
    "analysis/feature_space.py": (["KNN_test"], set()),
    "encoders/clip_tower.py": (FEATURES, set()),
    "encoders/frozen.py": (FEATURES, {"--dataset"}),
    "encoders/lite0.py": (FEATURES, set()),
    "method/retrieval.py": ([*LRA, "KNN_test"], set()),
    "run/checkpoint.py": (TRAINING, set()),
    "run/disk_data.py": (ON_DISK, set()),
    "run/device.py": ([*TRAINING, *FEATURES], set()),
    "run/errors.py": (TRAINING, set()),  # where `trains` says so
    "run/experiment.py": (LRA, set()),
    "run/features.py": ([*ON_DISK, "test_ILSVRC2012", "plot"], set()),
    "run/finished.py": ([*LRA, "test_ILSVRC2012"], set()),
    "run/image_files.py": ([*ON_DISK, "test_ILSVRC2012", "plot"], {"--shm-size"}),
    # Noise goes by name in the first two alone.
    "run/labels.py": (["train_CIFAR", "train_CE", *OWN_FILES], {"--rate", "--noise_type"}),
    "run/launch.py": ([*LRA, "train_CE"], {"--gpu_devices", "--nproc_per_node", "--standalone"}),
    "run/own_pictures.py": ([], {"--dataset"}),
    "run/pmd_labels.py": (["make_pmd"], set()),
    "run/pmd_teacher.py": (["make_pmd"], set()),
    "run/pretraining.py": (["train_SimCLR"], set()),
    "run/verdict.py": ([*LRA, "train_CE"], set()),
    # What is said of pictures of one's own.
    "run/report.py": (["train_CIFAR", *OWN_FILES], set()),
    # By parts of a parser; see the tests of run/config.py.
    "run/config.py": ([], set()),
    "run/dataset_flags.py": ([], set()),
    "run/tool_config.py": ([], set()),
    "run/folder.py": (TRAINING, {"--lr_horizon"}),  # where the run has one
    # The features of a run: KNN_test computes none of the user's own.
    "encoders/embeddings.py": (FEATURES, {"--fp_embed_train", "--fp_embed_test"}),
}


def messages(module):
    """The texts of a module, without what documents it."""
    tree = ast.parse((SCRIPTS / module).read_text())
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documents
    ]


def flags_in(module):
    return {flag for text in messages(module) for flag in re.findall(r"--[A-Za-z][\w-]*", text)}


@pytest.fixture(scope="module")
def accepted():
    """The flags of each script."""
    seen, parse = {}, argparse.ArgumentParser.parse_args

    def look(parser, *_args, **_keywords):
        raise LookupError({flag for action in parser._actions for flag in action.option_strings})

    parsers = {
        "train_CE": config.parse_ce,
        "train_SimCLR": tool_config.parse_simclr,
        "make_pmd": tool_config.parse_pmd,
        "KNN_test": tool_config.parse_knn,
        "plot": tool_config.parse_plot,
        "compare": compare.parse,
    }
    argparse.ArgumentParser.parse_args = look
    try:
        for script in config.SCRIPTS:
            parsers[script] = lambda argv, name=script: config.parse(name, argv)
        for script, read in parsers.items():
            with pytest.raises(LookupError) as caught:
                read([])
            seen[script] = caught.value.args[0]
    finally:
        argparse.ArgumentParser.parse_args = parse
    return seen


@pytest.mark.parametrize("module", PRINTED_BY)
def test_flags_in_messages_are_flags_of_the_command(module, accepted):
    scripts, elsewhere = PRINTED_BY[module]
    for script in scripts:
        assert flags_in(module) - elsewhere <= accepted[script], script


def test_no_module_with_such_messages_is_forgotten():
    modules = {str(path.relative_to(SCRIPTS)) for path in SCRIPTS.glob("*/*.py")}
    declared = {"run/fields.py", "run/flags.py", "run/schema.py", "run/tool_schema.py"}
    assert {module for module in modules - declared if flags_in(module)} == PRINTED_BY.keys()
