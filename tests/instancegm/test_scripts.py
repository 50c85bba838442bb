"""The recipes behind `make`: which commands they run, for which variables. Nothing is trained."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, environment

from shared import datasets


def commands(name, **variables):
    environment = {"PATH": os.environ["PATH"], "PYTHON": "echo", **variables}
    script = ROOT / "instancegm" / "scripts" / f"{name}.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_digits_makes_noise_once_and_trains_the_baseline_and_the_method_on_it():
    run = "runs/instancegm-digits-0.3-seed1-no_vae_width_4"
    noise, baseline, method, compare = commands(
        "digits", RATE="0.3", SEED="1", ARGS="--no-vae --width 4"
    )
    train = (
        f"instancegm/instanceGM.py --dataset digits --seed 1 --resume --noise_file {run}/noise.npz"
    )
    assert noise == (
        f"-m shared noise make --dataset digits --kind pdn --rate 0.3 --out {run}/noise.npz"
    )
    assert baseline == f"{train} --mode ce --output_dir {run}/ce --width 4"
    assert method == f"{train} --output_dir {run}/instancegm --no-vae --width 4"
    assert compare == (
        f"-m instancegm.compare {run}/ce {run}/instancegm --plot {run}/comparison.png"
    )
    assert len(commands("digits", NOISE_FILE="a/b.npz")) == 3


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_cifar_takes_a_rate_or_a_file(dataset):
    train = f"instancegm/instanceGM.py --dataset {dataset} --seed 123 --resume"
    runs = f"--output_dir runs/instancegm-{dataset}"
    assert commands(dataset) == [f"{train} --r 0.5 {runs}-0.5-seed123"]
    assert commands(dataset, RATE="0.2", NOISE_FILE="a/b.npz") == [
        f"{train} --noise_file a/b.npz --r 0.2 {runs}-a_b.npz-seed123"
    ]


def test_own_pictures_are_written_once_and_trained_on_by_the_recipe_of_animal10n():
    run = "runs/instancegm-own-pictures-0.4-seed1"
    noise, pictures, baseline, method, _ = commands("own-pictures", SEED="1")
    assert noise.endswith(f"--exclude_true_class --rate 0.4 --out {run}/noise.npz")
    assert pictures == f"instancegm/scripts/write_pictures.py {run}/noise.npz {run}/pictures"
    assert f"--data_path {run}/pictures --seed 1 --resume" in method
    assert baseline.endswith(f"--mode ce --output_dir {run}/ce")


def test_own_pictures_may_have_the_labels_of_a_file():
    run = "runs/instancegm-own-pictures-a_b.csv-seed123-no_vae_amp_off"
    pictures, baseline, method, _ = commands(
        "own-pictures", NOISE_FILE="a/b.csv", ARGS="--no-vae --amp off"
    )
    assert pictures == f"instancegm/scripts/write_pictures.py a/b.csv {run}/pictures"
    assert baseline.endswith(f"--mode ce --output_dir {run}/ce --amp off")
    assert method.endswith(f"--output_dir {run}/instancegm --no-vae --amp off")


@pytest.mark.training
def test_pictures_are_written_with_the_labels_of_any_noise_file(tmp_path):
    digits = datasets.load("digits")
    noisy = (digits.train_labels + 1) % 10
    lines = [f"{clean},{label}" for clean, label in zip(digits.train_labels, noisy)]
    (tmp_path / "a.csv").write_text("\n".join(["label,label_noisy", *lines]))
    script = ROOT / "instancegm" / "scripts" / "write_pictures.py"

    def write(noise_file):
        command = [sys.executable, script, noise_file, tmp_path / "pictures"]
        return subprocess.run(command, env=environment(), capture_output=True, text=True)

    assert write(tmp_path / "none.csv").returncode == 2
    assert not (tmp_path / "pictures").exists()
    assert write(tmp_path / "a.csv").returncode == 0
    for number in (0, 7, 1441):
        assert (tmp_path / f"pictures/train/{noisy[number]}/{number:04}.png").exists()
    assert len(list((tmp_path / "pictures" / "train").rglob("*.png"))) == len(noisy)
    assert write(tmp_path / "a.csv").returncode == 0  # as a recipe that continues does
    corrected = f"{digits.train_labels[-1]},{digits.train_labels[-1]}"
    (tmp_path / "a.csv").write_text("\n".join(["label,label_noisy", *lines[:-1], corrected]))
    again = write(tmp_path / "a.csv")
    assert again.returncode == 2
    assert "pictures has other pictures or labels than " in again.stderr


def test_the_real_sets_take_seed_and_rate():
    assert commands("red", RATE="0.6", SEED="2") == [
        "instancegm/instanceGM_redMini.py --r 0.6 --seed 2 --resume "
        "--output_dir runs/instancegm-red-0.6-seed2"
    ]
    assert commands("animal10n", ARGS="--mode ce") == [
        "instancegm/instanceGM_animal10N.py --seed 123 --resume --saved True "
        "--output_dir runs/instancegm-animal10n-seed123-mode_ce --mode ce"
    ]
    assert commands("clothing1m") == [
        "instancegm/instanceGM_clothing1M.py --seed 123 --resume "
        "--output_dir runs/instancegm-clothing1m-seed123"
    ]
