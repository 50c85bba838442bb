"""What happens around the steps of a run: seeds, the stop at a NaN, metrics.jsonl, checkpoints.

mmengine calls hooks by priority; each of ours says why it stands where it does.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from noisy_instseg.run import checkpoints, run_folder, seeded
from noisy_instseg.run.errors import NonFiniteLossError
from noisy_instseg.run.progress import Progress
from shared.files import write_atomically

TIMING = ("seconds", "images_per_s")  # the only fields of a row that differ between two equal runs


@HOOKS.register_module()
class SeedHook(Hook):
    """Starts every epoch from its own seeds, of the augmentation and of the network's samplers."""

    priority = "VERY_HIGH"  # before anything of the epoch can draw

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_epoch(self, runner: Runner) -> None:
        runner.train_dataloader.dataset.epoch = runner.epoch
        seeded.seed_all(seeded.stream_seed(self.seed, runner.epoch, "network", get_rank()))


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops at the first loss, and before a checkpoint of weights, that are NaN or infinite."""

    priority = "HIGH"  # before checkpoint and metrics are written

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        losses = {name: _number(value) for name, value in (outputs or {}).items() if "loss" in name}
        if bad := [f"{name} {value}" for name, value in losses.items() if not math.isfinite(value)]:
            raise _not_finite(
                runner,
                f"epoch {runner.epoch + 1}, iteration {batch_idx + 1} of "
                f"{len(runner.train_dataloader)}: {', '.join(bad)}",
            )

    def after_train_epoch(self, runner: Runner) -> None:
        weights = [value.detach().sum() for value in runner.model.parameters()]
        if not torch.stack(weights).isfinite().all():
            raise _not_finite(
                runner,
                f"epoch {runner.epoch + 1}, after its last iteration: the network's weights",
            )


@HOOKS.register_module()
class EvaluatedImagesHook(Hook):
    """With --limit_test, COCO's evaluation must count the images that were seen, not all."""

    def before_val(self, runner: Runner) -> None:
        self._tell(runner.val_dataloader.dataset, runner.val_evaluator)

    def before_test(self, runner: Runner) -> None:
        self._tell(runner.test_dataloader.dataset, runner.test_evaluator)

    @staticmethod
    def _tell(dataset: Any, evaluator: Any) -> None:
        for metric in evaluator.metrics:
            if hasattr(metric, "img_ids") and hasattr(dataset, "get_data_info"):
                metric.img_ids = [
                    dataset.get_data_info(index)["img_id"] for index in range(len(dataset))
                ]


class RunRecordHook(Hook):
    """metrics.jsonl, one row an epoch, and what a checkpoint needs to continue the same run.

    A row is complete after the epoch's evaluation, its checkpoint is written before. So the
    checkpoint carries the row, and a run killed in between evaluates again when it is resumed.
    """

    # after_train_epoch: before the checkpoint hook, so that the row is in the checkpoint
    priority = "NORMAL"

    def __init__(self, identity: Mapping[str, Any], loss_and_validation: Mapping[str, Any]) -> None:
        self.identity, self.loss_and_validation = dict(identity), dict(loss_and_validation)
        self.row: dict[str, Any] = {}

    # ---- an epoch

    def before_train_epoch(self, runner: Runner) -> None:
        self.started, self.images, self.steps = time.perf_counter(), 0, 0
        self.sums: dict[str, float] = {}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        self.steps += 1
        self.images += len(data_batch["inputs"])
        for name, value in (outputs or {}).items():
            self.sums[name] = self.sums.get(name, 0.0) + _number(value)

    def after_train_epoch(self, runner: Runner) -> None:
        names = sorted(self.sums)
        means = torch.tensor([self.sums[name] / self.steps for name in names], dtype=torch.float64)
        all_reduce(means, "mean")
        lr = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        seconds = time.perf_counter() - self.started
        speed = round(self.images * get_world_size() / seconds, 2)
        self.row = {
            "epoch": runner.epoch + 1,
            "lr": lr,
            **dict(zip(names, means.tolist())),
            "seconds": round(seconds, 3),
            "images_per_s": speed,
        }
        runner.message_hub.update_info("row", self.row)
        if not _evaluates(runner, runner.epoch + 1):
            self._write(runner, {})

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self.row:
            self._write(runner, metrics or {})

    def _write(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Completes the row and appends it."""
        row, self.row = self.row, {}
        timing = {name: row.pop(name) for name in TIMING}
        if _evaluates(runner, row["epoch"]):
            kinds = [
                kind
                for metric in runner.val_evaluator.metrics
                for kind in getattr(metric, "metrics", [])
            ]
            row |= run_folder.plain_metrics(metrics, kinds)
        if hasattr(self, "started"):
            timing["seconds"] = round(time.perf_counter() - self.started, 3)
        if get_rank() == 0:
            run_folder.append_row(Path(runner.work_dir), row | timing)

    # ---- resuming

    def before_train(self, runner: Runner) -> None:
        """Keeps the rows up to the epoch that is resumed; evaluates it if that was interrupted."""
        rows = [
            row
            for row in run_folder.read_rows(Path(runner.work_dir))
            if row["epoch"] <= runner.epoch
        ]
        saved = runner.message_hub.get_info("row") or {}
        # else that row stands in stage 1's folder
        here = Path(runner.work_dir, f"epoch_{runner.epoch}.pth").exists()
        late = (
            here
            and saved.get("epoch") == runner.epoch
            and saved["epoch"] not in [row["epoch"] for row in rows]
        )
        decided = [late]  # by the first process alone, for it writes the file the others read
        broadcast_object_list(decided)
        if get_rank() == 0:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write_atomically(Path(runner.work_dir, run_folder.METRICS), text.encode())
        if decided[0]:
            self.row = dict(saved)
            if _evaluates(runner, runner.epoch):
                runner.val_loop.run()
            else:
                self._write(runner, {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["meta"][checkpoints.IDENTITY] = self.identity
        checkpoint["meta"][checkpoints.LOSS_AND_VALIDATION] = self.loss_and_validation
        checkpoint["meta"][checkpoints.PROCESSES] = get_world_size()
        checkpoints.make_plain(checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoints.restore_history(checkpoint)


class ProgressHook(Hook):
    """Signs of life within an epoch, and within evaluation and testing."""

    priority = "VERY_LOW"  # nothing waits for it

    def before_train_epoch(self, runner: Runner) -> None:
        self._begin(f"epoch {runner.epoch + 1}", runner.train_dataloader)

    def before_val_epoch(self, runner: Runner) -> None:
        self._begin(f"evaluation after epoch {runner.epoch}", runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        self._begin("testing", runner.test_dataloader)

    def _begin(self, title: str, loader: Any) -> None:
        self.progress, self.started = Progress(title, len(loader), "step"), time.perf_counter()
        self.images = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        self._step(data_batch, (outputs or {}).get("loss"))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._step(data_batch)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._step(data_batch)

    def _step(self, batch: Any, loss: Any = None) -> None:
        self.images += len(batch["inputs"]) * get_world_size()

        def more() -> str:
            speed = f"{self.images / (time.perf_counter() - self.started):,.1f} images/s"
            return speed if loss is None else f"loss {_number(loss):.3g}, {speed}"

        self.progress.step(more)

    def after_train_epoch(self, runner: Runner) -> None:
        self.progress.close()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.progress.close()

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.progress.close()


def _not_finite(runner: Runner, place: str) -> NonFiniteLossError:
    there = run_folder.epochs_in(Path(runner.work_dir))
    kept = (
        f"The checkpoint of the last good epoch is {there[0][1]}"
        if there
        else "No epoch was completed, so there is no checkpoint yet"
    )
    return NonFiniteLossError(
        f"not finite ({place}). {kept}. A lower learning rate may help, in a new --work-dir: "
        "--cfg-options optim_wrapper.optimizer.lr=... or optim_wrapper.clip_grad.max_norm=10"
    )


def _number(value: Any) -> float:
    """mmengine's log waits for the device at every step already, so this costs nothing more."""
    return float(value.detach() if isinstance(value, torch.Tensor) else value)


def _evaluates(runner: Runner, epoch: int) -> bool:
    """Whether the train loop evaluates after this epoch."""
    if runner.val_loop is None or epoch < runner.val_begin:
        return False
    return bool(epoch % runner.val_interval == 0 or epoch == runner.max_epochs)
