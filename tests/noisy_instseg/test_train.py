"""train.py: what it refuses before anything is written, what it stops at, and where its numbers
come from.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import SHAPES, environment, main, rows, run_script

from noisy_instseg.run import experiment, identity, training
from noisy_instseg.run.config import TrainFlags
from noisy_instseg.run.datasets import parts_of
from noisy_instseg.run.flags import parse
from shared.errors import UserError

SLOW = pytest.mark.training  # these wait for torch or mmdetection, as training does


def load(config: Path, *flags: str):
    return experiment.load(config, parse(TrainFlags, [str(config), *map(str, flags)]).settings)


@pytest.fixture
def one_epoch(stages: Path, tmp_path: Path) -> Path:
    """A run folder with the first epoch of stage 1 alone."""
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(stages / "tiny_nl_1" / "epoch_1.pth", folder)
    (folder / "metrics.jsonl").write_text(
        (stages / "tiny_nl_1" / "metrics.jsonl").read_text().splitlines()[0] + "\n"
    )
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere.py"], "nowhere.py: no such config"),
        (["CONFIG", "--data_root", "nowhere"], "nowhere"),
        (["CONFIG", "--noise_file", "nowhere.json"], "--noise_file nowhere.json: no such file"),
        (["CONFIG", "--noise_file", "CONFIG"], "expected COCO annotations"),
        (
            ["CONFIG", "--resume-from", "nowhere/epoch_1.pth"],
            "nowhere/epoch_1.pth: no such checkpoint",
        ),
        (
            ["CONFIG", "--resume-from", "STAGES/tiny_nl_1/epoch_9.pth"],
            "holds epoch_1.pth, epoch_2.pth",
        ),
        (["CONFIG", "--resume-from", "nowhere/latest.pth"], "holds no intact checkpoint"),
        (["CONFIG", "--resume-from", "CONFIG"], "the file is torn"),
        (
            ["CONFIG", "--resume-from", "STAGES/tiny_nl_1/epoch_2.pth"],
            "you probably meant tiny_nl_2.py",
        ),
        (
            ["CONFIG", "--work-dir", "STAGES/tiny_nl_1"],
            "already holds a run: continue it with --resume",
        ),
        (
            [
                "CONFIG",
                "--work-dir",
                "STAGES/tiny_nl_1",
                "--resume",
                "STAGES/tiny_nl_1/epoch_2.pth",
            ],
            "nothing to train",
        ),
        (
            [
                "CONFIG",
                "--work-dir",
                "STAGES/tiny_nl_1",
                "--resume",
                "STAGES/tiny_nl_1/epoch_1.pth",
            ],
            "up to epoch 2",
        ),
        (
            [
                "CONFIG",
                "--work-dir",
                "STAGES/tiny_nl_2",
                "--resume",
                "STAGES/tiny_nl_1/epoch_1.pth",
            ],
            "up to epoch 4",
        ),
        (["CONFIG", "--options", "trian_cfg.max_epochs=3"], "the config has no `trian_cfg`"),
        (["CONFIG", "--options", "data_root=elsewhere"], "give --data_root"),
        (["CONFIG", "--options", "param_scheduler.9.end=3"], "cannot be applied"),
        (["CONFIG", "--options", "train_dataloader.batch_size=[1,2"], "a bracket is open or too"),
        (["CONFIG", "--options", "train_cfg.max_epochs=0"], "train_cfg.max_epochs is 0"),
        (["CONFIG", "--options", "train_dataloader.batch_size=many"], "batch_size is 'many'"),
        (["CONFIG", "--options", "model.backbone.depht=18"], "the network cannot be built: "),
        (["CONFIG", "--options", "optim_wrapper.optimizer.lrr=0.1"], "`optim_wrapper` of the"),
        (["CONFIG", "--options", "optim_wrapper.clip_grad.max_nrm=1"], "an unexpected keyword"),
        (["CONFIG", "--options", "optim_wrapper.acumulative_counts=2"], "`optim_wrapper` of the"),
        (["CONFIG", "--options", "param_scheduler.1.gama=0.5"], "`param_scheduler.1` of the"),
        (["CONFIG", "--options", "train_cfg.val_intervall=2"], "`train_cfg` of the"),
        (["CONFIG", "--options", "val_cfg.fp=2"], "`val_cfg` of the"),
        (["CONFIG", "--options", "train_dataloader.batchsize=2"], "`train_dataloader` of the"),
        (["CONFIG", "--options", "val_dataloader.num_worker=2"], "`val_dataloader` of the"),
        (
            ["CONFIG", "--options", "train_dataloader.dataset.dataset.filter_config.min_size=2"],
            "unexpected keyword argument 'filter_config'",
        ),
        (["CONFIG", "--options", "train_dataloader.dataset.time=2"], "argument 'time'"),
        (["CONFIG", "--options", "val_evaluator.metrics=bbox"], "`val_evaluator` of the"),
        (["CONFIG", "--options", "val_evaluator.type=CocoMetrik"], "'CocoMetrik'"),
        (["CONFIG", "--options", "val_evaluator.metric=mAP"], "but got mAP"),
        (["CONFIG", "--options", "custom_imports.imports=[mine]"], "No module named 'mine'"),
        (["CONFIG", "--launcher", "pytorch"], "such as tools/dist_train.sh"),
        (
            ["CONFIG", "--options", "default_hooks.checkpoint.intervall=2"],
            "`default_hooks.checkpoint` of the",
        ),
        (
            ["CONFIG", "--options", "val_dataloader.dataset.metainfo.classes=circle"],
            "is the text 'circle'",
        ),
        (["CONFIG", "--device", "cuda"], "no usable GPU"),
        (["CONFIG", "--amp", "bf16"], "--amp bf16 needs a GPU"),
        (["CONFIG", "--options", "load_from=nowhere.pth"], "nowhere.pth: no such checkpoint"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(
    flags, message, train, stages, stage_configs, tmp_path, capsys
):
    before = sorted(stages.rglob("*"))
    names = {"CONFIG": str(stage_configs[0]), "STAGES": str(stages)}
    status = train(*["/".join(names.get(part, part) for part in flag.split("/")) for flag in flags])
    errors = capsys.readouterr().err
    assert status == 2, errors
    assert errors.startswith("error: ")
    assert message in errors
    assert "Traceback" not in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert sorted(stages.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "1"], "seed: 0 then, 1 now"),
        (["--limit_train", "4"], "training set.dataset.indices: None then, 4 now"),
        (["--options", "train_dataloader.batch_size=2"], "batch (images of a step): 4 then, 2 now"),
        (
            ["--options", "optim_wrapper.optimizer.lr=0.1"],
            "optim_wrapper.optimizer.lr: 0.002 then, 0.1 now",
        ),
        (["--options", "model.neck.out_channels=64"], "model.neck.out_channels: 32 then, 64 now"),
        (["--noise_file", "NOISE"], "training annotations (SHA-256)"),
        (["--options", "model.roi_head.bbox_head.loss_cls.loss_weight=2"], "1.0 then, 2 now"),
        (["--options", "val_dataloader.dataset.ann_file=VAL"], "validation annotations (SHA-256)"),
        (["--limit_test", "2"], "validation images: all then, 2 now"),
    ],
)
def test_only_the_same_run_goes_on(
    flags, message, train, one_epoch, stage_configs, data, tmp_path, capsys
):
    annotations = json.loads((data / "annotations" / "instances_train.json").read_text())
    annotations["annotations"][0]["category_id"] = annotations["categories"][-1]["id"]
    annotations["annotations"][1]["category_id"] = annotations["categories"][0]["id"]
    (tmp_path / "noise.json").write_text(json.dumps(annotations))
    validation = json.loads((data / "annotations" / "instances_val.json").read_text())
    del validation["annotations"][0]
    (tmp_path / "val.json").write_text(json.dumps(validation))
    names = {"NOISE": str(tmp_path / "noise.json"), "VAL": str(tmp_path / "val.json")}
    flags = ["=".join(names.get(part, part) for part in flag.split("=")) for flag in flags]
    files = sorted(one_epoch.iterdir())
    assert train(stage_configs[0], "--work-dir", one_epoch, "--resume", *flags) == 2
    assert message in capsys.readouterr().err
    assert sorted(one_epoch.iterdir()) == files


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        (["--no-validate", "--limit_test", "2"], "one"),
        (["--options", "model.roi_head.bbox_head.loss_cls.loss_weight=2"], "another"),
        (["--limit_test", "2"], "another"),
        (["--limit_test", "2"], "one of an earlier version"),
        (["--limit_test", "2"], "its own, by --resume-from"),
    ],
)
def test_only_its_own_folder_keeps_the_loss_and_the_validation_set(
    flags, where, one_epoch, stage_configs, tmp_path
):
    checkpoint = one_epoch / "epoch_1.pth"
    if where == "one of an earlier version":
        state = torch.load(checkpoint, weights_only=True)
        del state["meta"]["loss_and_validation"]
        torch.save(state, checkpoint)
    folder = tmp_path / "another" if where == "another" else one_epoch
    resume = ["--resume"] if where.startswith("one") else ["--resume-from", str(checkpoint)]
    words = ["--work-dir", str(folder), *resume, *flags]
    found = parse(TrainFlags, [str(stage_configs[0]), *words])
    cfg = experiment.load(found.config, found.settings)
    training.place(cfg, found)
    assert training.start_of(cfg, found) == training.Start(checkpoint)


@SLOW
def test_a_schedule_that_stage_1_would_end_is_refused(stage_configs, tmp_path, capsys):
    first, second = (tmp_path / path.name for path in stage_configs)
    for path, source in ((first, stage_configs[0]), (second, stage_configs[1])):
        path.write_text(
            source.read_text().replace("begin=0, end=4, milestones", "begin=0, milestones")
        )
    assert main("train_stages", first, second, "--work-dir", tmp_path / "runs") == 2
    errors = capsys.readouterr().err
    assert "param_scheduler.1.end: 2 then, 4 now" in errors
    assert "end=4 in both" in errors
    assert not (tmp_path / "runs").exists()
    assert main("train_stages", *stage_configs[::-1]) == 2
    assert "stage 2 would train nothing" in capsys.readouterr().err
    assert main("train_stages", *stage_configs, "--options", "train_cfg.max_epochs=3") == 2
    assert "stage 2 would train nothing" in capsys.readouterr().err


@pytest.mark.training
def test_a_loss_that_is_not_finite_stops_the_run(
    train, stage_configs, tmp_path, capsys, monkeypatch
):
    from noisy_instseg.run.hooks import RunRecordHook  # registers what it needs of mmdetection

    before = RunRecordHook.before_train_epoch

    def poison(hook: RunRecordHook, runner: Any) -> None:
        before(hook, runner)
        if runner.epoch == 1:  # the second
            torch.nn.init.constant_(runner.model.roi_head.bbox_head.fc_cls.bias, float("nan"))

    monkeypatch.setattr(RunRecordHook, "before_train_epoch", poison)
    assert train(stage_configs[0], "--no-validate") == 3
    errors = capsys.readouterr().err
    assert "epoch 2, iteration 1 of 2: loss nan, loss_cls nan" in errors
    folder = tmp_path / "work_dirs" / "tiny_nl_1"
    assert sorted(path.name for path in folder.glob("*.pth")) == ["epoch_1.pth"]
    assert [row["epoch"] for row in rows(folder)] == [1]
    assert "segm_mAP" not in rows(folder)[0]


@SLOW
def test_what_is_drawn_does_not_depend_on_the_workers(stage_configs):
    from mmengine.runner import Runner
    from mmengine.utils import import_modules_from_strings

    def batches(workers: int) -> list[torch.Tensor]:
        cfg = load(
            stage_configs[0],
            "--options",
            f"train_dataloader.num_workers={workers}",
            "train_dataloader.batch_size=2",
        )
        import_modules_from_strings(**cfg.custom_imports)
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        found = []
        for epoch in (0, 1):
            loader.dataset.epoch = epoch
            loader.batch_sampler.sampler.set_epoch(0)  # the same images in the same order
            found += [torch.stack(batch["inputs"]) for batch in loader]
        return found

    alone, helped = batches(0), batches(2)
    assert all(torch.equal(one, other) for one, other in zip(alone, helped, strict=True))
    first, second = alone[: len(alone) // 2], alone[len(alone) // 2 :]
    assert not all(
        torch.equal(one, other) for one, other in zip(first, second, strict=True)
    )  # other flips in another epoch


def test_the_config_in_a_run_folder_does_what_its_source_does(stages, stage_configs):
    source, copy = load(stage_configs[1]), load(stages / "tiny_nl_2" / "tiny_nl_2.py")
    assert identity.identify(copy) == identity.identify(source)
    assert (
        copy.train_dataloader.dataset.dataset.type == "RepeatDataset"
    )  # the seeds of the epoch reach it
    assert not copy.get("resume")
    assert copy.load_from is None  # stage 1's checkpoint, which the run began from


def test_the_config_in_a_run_folder_has_the_seed_and_the_data_of_its_run(stage_configs, tmp_path):
    run = load(stage_configs[0], "--seed", "7", "--limit_train", "4")
    run.dump(tmp_path / "copy.py")
    again = load(tmp_path / "copy.py")
    assert again.randomness.seed == 7
    assert identity.identify(again) == identity.identify(run)
    assert load(tmp_path / "copy.py", "--seed", "1").train_dataloader.dataset.seed == 1


def test_the_config_in_a_run_folder_has_the_flags_of_its_run(stage_configs, tmp_path, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    plain, path = load(stage_configs[0]), tmp_path / "copy.py"
    load(stage_configs[0], "--no-validate", "--deterministic", "--amp", "bf16").dump(path)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    again = load(path)
    assert again.randomness.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert (again.val_cfg, again.val_dataloader, again.val_evaluator) == (None, None, None)
    assert again.optim_wrapper.type == "AmpOptimWrapper"
    assert identity.identify(load(path, "--amp", "off")) == identity.identify(plain)
    settings = parse(TrainFlags, [str(path)]).settings
    tested = experiment.load(path, settings, ["val"])  # which such a run can be as well
    assert tested.val_dataloader == plain.val_dataloader
    assert tested.val_cfg.type == "ValLoop"
    assert not tested.randomness.deterministic
    load(path).dump(tmp_path / "third.py")
    assert load(tmp_path / "third.py").val_cfg is None


def test_a_run_says_what_made_it(stages, stage_configs, data):
    record = json.loads((stages / "tiny_nl_2" / "run.json").read_text())
    annotations = (data / "annotations" / "instances_train.json").read_bytes()
    assert record["training annotations (SHA-256)"] == hashlib.sha256(annotations).hexdigest()
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_evaluators_follow_their_data_set(stage_configs, data):
    cfg = load(stage_configs[0])
    file = str(data / "annotations" / "instances_val.json")
    assert cfg.val_evaluator.ann_file == file
    assert cfg.test_evaluator.ann_file == file
    assert cfg.test_dataloader == cfg.val_dataloader
    moved = load(
        stage_configs[0],
        "--noise_file",
        data / "annotations" / "instances_val.json",
        "--limit_test",
        "3",
        "--data_root",
        data,
    )
    assert [str(part.annotations) for part in parts_of(moved, ["train"])] == [file]
    assert moved.val_dataloader.dataset.indices == 3


def test_only_images_that_were_seen_are_evaluated():
    from noisy_instseg.run.hooks import EvaluatedImagesHook

    class Images(list):
        def get_data_info(self, index: int) -> dict[str, int]:
            return {"img_id": self[index]}

    metric = SimpleNamespace(img_ids=None)
    runner = SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=Images([3, 5])),
        val_evaluator=SimpleNamespace(metrics=[metric, object()]),
    )
    EvaluatedImagesHook().before_val(runner)
    assert metric.img_ids == [3, 5]


def test_data_are_looked_for_in_data_root(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(data.parent))
    cfg = load(SHAPES / "mask_rcnn_tiny_shapes_nl_1.py")
    assert cfg.val_evaluator.ann_file == str(data / "annotations" / "instances_val.json")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    (tmp_path / "data" / "shapes").mkdir(parents=True)  # here comes first, as in the original
    with pytest.raises(UserError, match="data/shapes"):
        load(SHAPES / "mask_rcnn_tiny_shapes_nl_1.py")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["config.py"], "usage: dist_train.sh"),
        (["config.py", "many"], "expected a number"),
        pytest.param(["config.py", "4096"], "this machine has no GPU", marks=SLOW),
        (["config.py", "0"], "config.py: no such config file"),
        pytest.param(["config.py", "2"], "config.py: no such config file", marks=SLOW),
    ],
)
def test_dist_train_refuses_what_cannot_work(arguments, message, tmp_path):
    done = run_script("dist_train.sh", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert environment()["CUDA_VISIBLE_DEVICES"] == ""
