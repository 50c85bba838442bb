"""What tools/test.py does: a checkpoint's predictions on the validation set, and their AP."""

import json
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from noisy_instseg.run import class_names, experiment, run_folder
from noisy_instseg.run.config import EvaluateFlags
from noisy_instseg.run.device import is_first_process
from noisy_instseg.run.errors import check_output
from noisy_instseg.run.training import (
    import_modules,
    load_torch,
    network_without_weights,
    quiet,
    wrap_for_cpu,
)
from shared.files import write_atomically

TITLES = {"bbox": "box AP", "segm": "mask AP"}


def build(flags: EvaluateFlags) -> Any:
    """mmengine's Runner for what the flags ask, with the checkpoint's weights. Raises UserError."""
    check_output("--out", flags.out)  # before the work that goes into it
    options, evaluation = experiment.evaluation_options(flags.settings.options)
    cfg = experiment.load(flags.config, replace(flags.settings, options=options), parts=["val"])
    path = run_folder.find(flags.checkpoint.expanduser())
    # A folder of its own: mmengine writes the config there, which must not replace that of the
    # training run.
    cfg.work_dir = str(Path(flags.work_dir or Path("work_dirs", flags.config.stem), "test"))
    cfg.load_from, cfg.resume = str(path), False
    set_evaluators(cfg, flags, evaluation, results_of(flags).with_name(path.stem))
    load_torch(flags.settings)
    from mmengine.runner import Runner

    from noisy_instseg.run import checkpoints
    from noisy_instseg.run.hooks import ProgressHook

    import_modules(cfg)
    state = checkpoints.load(path)
    class_names.number_as_trained(cfg, checkpoints.class_names(state), path, ["val", "test"])
    checkpoints.check_weights(network_without_weights(cfg).state_dict(), state, path)
    wrap_for_cpu(cfg)
    runner = Runner.from_cfg(cfg)
    quiet(runner)
    runner.register_hook(ProgressHook())
    runner.load_or_resume()
    if flags.tmpdir is not None:
        gather_in(flags.tmpdir, runner.test_evaluator.metrics)
    if flags.fuse_conv_bn:
        from mmcv.cnn.utils import fuse_conv_bn

        runner.model = fuse_conv_bn(runner.model)
    return runner


def gather_in(folder: Path, metrics: Iterable[Any]) -> None:
    """Several processes put their parts into a new folder there, which mmengine removes again.

    CocoMetric takes no such setting from a config.
    """
    from mmengine.dist import broadcast_object_list

    folder.mkdir(parents=True, exist_ok=True)  # what forbids it is told before the work
    name = [f".parts-{uuid.uuid4().hex}"]
    broadcast_object_list(name)
    for metric in metrics:
        metric.collect_dir = str(folder / name[0])


def results_of(flags: EvaluateFlags) -> Path:
    """Where the metrics go."""
    path = run_folder.find(flags.checkpoint.expanduser())
    return Path(flags.work_dir or path.parent, f"{path.stem}.metrics.json")


def set_evaluators(
    cfg: Config, flags: EvaluateFlags, evaluation: dict[str, Any], prefix: Path
) -> None:
    """The flags about evaluation, as settings of mmengine's evaluators.

    evaluation: options of the evaluators; prefix: path and stem of COCO result files.
    """
    given = cfg.test_evaluator
    measured = [ConfigDict(one) for one in (given if isinstance(given, list) else [given])]
    for evaluator in measured:
        evaluator.metric = list(flags.metrics) or ["bbox", "segm"]
        evaluator.format_only = flags.format_only
        if flags.format_only:
            evaluator.outfile_prefix = str(prefix)
        evaluator.update(evaluation)
    # without --eval and --format-only there is nothing to measure: predictions are only stored or
    # painted
    cfg.test_evaluator = measured if flags.metrics or flags.format_only else []
    if flags.out is not None:
        cfg.test_evaluator.append(dict(type="DumpDetResults", out_file_path=str(flags.out)))
    for evaluator in cfg.test_evaluator:
        evaluator["collect_device"] = "gpu" if flags.gpu_collect else "cpu"
    if flags.show or flags.show_dir is not None:
        cfg.default_hooks.visualization = dict(
            type="DetVisualizationHook",
            draw=True,
            show=flags.show,
            test_out_dir=None if flags.show_dir is None else str(flags.show_dir.absolute()),
            score_thr=flags.show_score_thr,
        )


def report(metrics: dict[str, float], flags: EvaluateFlags) -> None:
    """With --eval, prints the AP and writes all metrics as JSON."""
    if not flags.metrics or not is_first_process():
        return
    results, named = results_of(flags), run_folder.plain_metrics(metrics, flags.metrics)
    document = {"config": str(flags.config), "checkpoint": str(flags.checkpoint), **named}
    write_atomically(results, (json.dumps(document, indent=2) + "\n").encode())
    for kind, words in TITLES.items():
        if (ap := named.get(f"{kind}_mAP")) is not None:
            print(f"{words} (COCO, IoU 0.50:0.95): {100 * ap:.1f} %")
    print(f"all metrics: {results}")
