"""Hooks of the configs in test_two_processes.py: each process tells its weights, and one dies."""

import hashlib
import os
import signal
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class TellWeights(Hook):
    """Leaves a hash of the network's whole state, of each process after each epoch."""

    priority = "LOWEST"  # after everything that an epoch ends with

    def after_train_epoch(self, runner) -> None:
        digest = hashlib.sha256()
        for name, value in sorted(runner.model.state_dict().items()):
            digest.update(name.encode() + value.numpy().tobytes())
        path = Path(runner.work_dir, f"weights-{runner.epoch + 1}-of-{get_rank()}.txt")
        path.write_text(digest.hexdigest())


@HOOKS.register_module()
class Die(Hook):
    """Kills the process of rank $DIES in the second step of the second epoch."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if os.environ.get("DIES") == str(get_rank()) and runner.epoch == batch_idx == 1:
            Path(runner.work_dir, "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
