"""What `check-gpu` runs of each project: a short run of the real script, and its benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Project:
    """In all words {folder} is the project's own and {device} that of the check.

    first: commands that make what the run needs; figure: of the last row, to tell precisions apart;
    lacks: part -> why the project has none; lacks_on_cpu: the same on a CPU.
    """

    script: str
    run: tuple[str, ...]
    bench: tuple[str, ...]
    on_cpu: tuple[str, ...] = ("--limit_train=96", "--limit_test=40")
    first: tuple[tuple[str, ...], ...] = ()
    folder_flag: str = "--output_dir"
    resumes: tuple[str, ...] = ("--resume",)
    bf16: str = "--amp=bf16"
    float32: str = "--amp=off"
    figure: str = "accuracy"
    lacks: Mapping[str, str] = field(default_factory=dict)
    lacks_on_cpu: Mapping[str, str] = field(default_factory=dict)


STAND_IN = {"waiting": "nothing to wait for on a CPU (tests/*/test_no_waiting.py stands in)"}
PROJECTS = {
    "instancegm": Project(
        "instanceGM.py",
        (
            *("--dataset=digits", "--r=0.4", "--width=16", "--num_epochs=4", "--warm_up=2"),
            "--device={device}",
        ),
        bench=("--steps=5", "--pictures=500", "--device={device}"),
        lacks_on_cpu=STAND_IN,
    ),
    "re_sln": Project(
        "train_cifar.py",
        (
            *("--dataset_name=digits", "--noise_mode=sym", "--p=0.4", "--method=sln_mo_lc"),
            *("--n_epochs=6", "--lc_n_epoch=4", "--device={device}"),
        ),
        bench=("--steps=3", "--device={device}"),
        lacks_on_cpu=STAND_IN,
    ),
    "lra_diffusion": Project(
        "train_CIFAR.py",
        (
            *("--dataset=digits", "--noise_file={folder}/noise.npz", "--cut_labels"),
            *("--fp_weights={folder}/simclr", "--cache_dir={folder}/embeddings"),
            *("--nepoch=4", "--warmup_epochs=1", "--device={device}"),
        ),
        bench=("--turns=2", "--only", "retrieval", "training", "--device={device}"),
        first=(
            (
                *("lra_diffusion/make_pmd.py", "--dataset=digits", "--rate=0.35"),
                *("--out={folder}/noise.npz", "--device={device}"),
            ),
            (
                *("lra_diffusion/train_SimCLR.py", "--dataset=digits", "--nepoch=2"),
                *("--output_dir={folder}/simclr", "--device={device}"),
            ),
        ),
        lacks_on_cpu=STAND_IN,
    ),
    "ieg_fsr": Project(
        "ieg/main.py",
        (
            *("--dataset=digits_uniform_0.4", "--method=ieg", "--network_name=wrn10-1"),
            *("--max_iteration=60", "--eval_freq=20"),
        ),
        bench=("--steps=5",),
        on_cpu=("--limit_train=200", "--limit_test=40", "--batch_size=20"),
        resumes=(),
        bf16="--mixed_precision",
        float32="--nomixed_precision",
        lacks={"waiting": "a step is one call of a graph (a test counts them)"},
    ),
    "noisy_instseg": Project(
        "tools/train.py",
        (
            "noisy_instseg/configs/shapes/mask_rcnn_tiny_shapes_ce.py",
            *("--data_root={folder}/shapes", "--limit_train=64", "--limit_test=16"),
            *("--cfg-options", "train_cfg.max_epochs=3", "train_dataloader.dataset.times=1"),
            "--device={device}",
        ),
        bench=("--steps=500", "--training_steps=20", "--device={device}"),
        on_cpu=("--limit_train=16", "--limit_test=4"),
        first=(("-m", "shared", "data", "shapes", "--path={folder}"),),
        folder_flag="--work-dir",
        figure="segm_mAP",
        lacks={"waiting": "mmdetection's samplers and its log read values in every step"},
        lacks_on_cpu={"bf16": "refused without a GPU"},
    ),
}
