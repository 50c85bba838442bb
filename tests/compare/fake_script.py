"""Stands for a training script: writes a run folder as re_sln does, an epoch at a time.

    fake_script.py FOLDER [--epochs N] [--seconds S] [--fail STATUS TIMES]

--fail: end with that exit status after an epoch, so many times; then train to the end.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shared.run_folder import locked

CONFIG = "{dataset_name: digits, sigma: 0.5, mo: true, lc_n_epoch: 2, n_epochs: %d, seed: %d}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--fail", type=int, nargs=2, default=(0, 0))
    parser.add_argument("--noise_file", type=Path)
    args = parser.parse_args(arguments)
    with locked(args.folder):
        return train(args)


def train(args: argparse.Namespace) -> int:
    seed = int(args.folder.name.rpartition("seed")[2])
    (args.folder / "config.yaml").write_text(CONFIG % (args.epochs, seed))
    if args.noise_file:
        shutil.copy(args.noise_file, args.folder / "noise.npz")
    log = args.folder / "metrics.jsonl"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    starts = args.folder / "starts"
    tried = len(starts.read_text()) if starts.exists() else 0
    starts.write_text("x" * (tried + 1))
    print(f"start {tried + 1}, after {done} epochs")
    status, times = args.fail
    for epoch in range(done + 1, args.epochs + 1):
        time.sleep(args.seconds)
        row = {"epoch": epoch, "accuracy": 50.0 + epoch + seed, "seconds": 2.0}
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if tried < times:
            print("a reason to fail", file=sys.stderr)
            return status
    (args.folder / "label_quality.csv").write_text("index\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
