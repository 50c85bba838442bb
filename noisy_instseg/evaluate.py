"""Evaluates a checkpoint on the validation set; tools/test.py is its face."""

import argparse
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from noisy_instseg import experiment, run_folder
from noisy_instseg.command_line import check_output
from noisy_instseg.run import (
    device_and_processes,
    import_modules,
    network_without_weights,
    quiet,
    wrap_for_cpu,
)
from shared.files import write_atomically


def evaluate(args: argparse.Namespace) -> None:
    """Does what the flags ask for with a checkpoint's predictions."""
    args.options, evaluation = experiment.evaluation_options(args.options)
    if args.out is not None:
        check_output("--out", args.out, args.out.suffix)  # before the work that goes into it
    cfg = experiment.load(args.config, args, parts=["val"])
    path = run_folder.find(args.checkpoint.expanduser())
    # A folder of its own: mmengine writes the config there, which must not replace that of the
    # training run.
    cfg.work_dir = str(Path(args.work_dir or Path("work_dirs", args.config.stem), "test"))
    cfg.load_from, cfg.resume = str(path), False
    results = Path(args.work_dir or path.parent, f"{path.stem}.metrics.json")
    set_evaluators(cfg, args, evaluation, str(results.with_name(path.stem)))
    device_and_processes(args)
    metrics = run(cfg, args, path)
    if args.eval and run_folder.is_first_process():
        report(metrics, results, args)


def set_evaluators(
    cfg: Config, args: argparse.Namespace, evaluation: dict[str, Any], prefix: str
) -> None:
    """The flags about evaluation, as settings of mmengine's evaluators.

    prefix: path and stem of COCO result files.
    """
    evaluators = (
        cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    )
    evaluators = [ConfigDict(evaluator) for evaluator in evaluators]
    for evaluator in evaluators:
        evaluator.metric = args.eval or ["bbox", "segm"]
        evaluator.format_only = args.format_only
        if args.format_only:
            evaluator.outfile_prefix = prefix
        evaluator.update(evaluation)
    # without --eval and --format-only there is nothing to measure: predictions are only stored or
    # painted
    cfg.test_evaluator = evaluators if args.eval or args.format_only else []
    if args.out is not None:
        cfg.test_evaluator.append(dict(type="DumpDetResults", out_file_path=str(args.out)))
    for evaluator in cfg.test_evaluator:
        evaluator["collect_device"] = "gpu" if args.gpu_collect else "cpu"
        if args.tmpdir is not None:
            evaluator["collect_dir"] = str(args.tmpdir)
    if args.show or args.show_dir is not None:
        shown = None if args.show_dir is None else str(args.show_dir.absolute())
        cfg.default_hooks.visualization = dict(
            type="DetVisualizationHook",
            draw=True,
            show=args.show,
            test_out_dir=shown,
            score_thr=args.show_score_thr,
        )


def run(cfg: Config, args: argparse.Namespace, path: Path) -> dict[str, float]:
    """Runner.test, on a network that is known to fit the checkpoint."""
    from mmengine.runner import Runner

    from noisy_instseg import checkpoints

    import_modules(cfg)
    state = checkpoints.load(path)
    checkpoints.check_weights(network_without_weights(cfg).state_dict(), state, path)
    wrap_for_cpu(cfg)
    runner = Runner.from_cfg(cfg)
    quiet(runner)
    runner.load_or_resume()
    if args.fuse_conv_bn:
        from mmcv.cnn.utils import fuse_conv_bn

        runner.model = fuse_conv_bn(runner.model)
    return runner.test()


def report(metrics: dict[str, float], results: Path, args: argparse.Namespace) -> None:
    """Prints the AP and writes all metrics as JSON."""
    named = run_folder.plain_metrics(metrics, args.eval)
    document = {"config": str(args.config), "checkpoint": str(args.checkpoint), **named}
    write_atomically(results, (json.dumps(document, indent=2) + "\n").encode())
    for kind, words in (("bbox", "box AP"), ("segm", "mask AP")):
        if f"{kind}_mAP" in named:
            print(f"{words} (COCO, IoU 0.50:0.95): {100 * named[f'{kind}_mAP']:.1f} %")
    print(f"all metrics: {results}")
