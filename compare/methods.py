"""The eight methods: whose script trains each, with which flags on which kind of data set.

Three kinds have presets: `digits` (each project's own), `small` (up to SMALL images: narrow
networks and short schedules, found by trying on 2,000 images of CIFAR-10) and `paper` (larger sets,
CIFAR among them: what the papers set, for a GPU). Words in braces are filled in from the number of
images and of classes, see `Sizes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import UserError

SMALL = 10_000  # images up to which a set gets the presets of small ones
NEEDS_TRUST = ("l2r", "ieg")  # hold out images whose labels they trust
TRUSTED_PER_CLASS = 10  # so many, as in IEG's paper


@dataclass(frozen=True)
class Method:
    """A row of the table.

    flags: by kind of data set. seconds: of training and testing by kind, for 1,000 training images
    on two cores of an AMD EPYC: of digits as measured, `small` guessed from it. Kinds that are not
    there are not even that.
    """

    key: str  # as METHODS names it
    title: str
    project: str
    script: str  # from the root of the repository
    flags: dict[str, str]
    seconds: dict[str, float]


def _instancegm(key: str, title: str, flags: str, seconds: float) -> Method:
    narrow = f"{flags} --width 8 --num_epochs 24 --lr_drop 18"
    return Method(
        *(key, title, "instancegm", "instancegm/instanceGM.py"),
        {"digits": flags, "small": narrow, "paper": flags},
        {"digits": seconds, "small": seconds},
    )


def _ieg_fsr(
    key: str, title: str, flags: str, seconds: float, narrow: str = "", paper: str = ""
) -> Method:
    """narrow, paper: what these presets have besides the flags."""
    flags = f"--method={key} {flags}"
    narrow = (
        f"{flags} --network_name=wrn10-1 --max_iteration={{steps}} --lr_schedule=cosine_one "
        f"--eval_freq={{evaluate}} --batch_size={{batch}} {narrow}"
    )
    return Method(
        *(key, title, "ieg_fsr", "ieg_fsr/ieg/main.py"),
        {"digits": narrow, "small": narrow, "paper": f"{flags} {paper}"},
        {"digits": seconds, "small": seconds},
    )


_TRUSTED = "--probe_dataset_hold_ratio={trusted}"
METHODS = {
    method.key: method
    for method in (
        _instancegm("ce", "Cross-entropy", "--mode ce", seconds=21),
        _instancegm("instancegm", "InstanceGM", "", seconds=120),
        _instancegm("dividemix", "DivideMix", "--no-vae", seconds=80),
        Method(
            *("sln", "SLN+MO+LC", "re_sln", "re_sln/train_cifar.py"),
            {
                "digits": "--method sln_mo_lc",
                "small": "--method sln_mo_lc --batch_size 32 --n_epochs 40 --lc_n_epoch 33 "
                "--lr 0.02 --sigma 0.2 --ema_decay 0.99 --depth 10 --width 2",
                "paper": "--method sln_mo_lc",
            },
            {"digits": 56, "small": 90},
        ),
        Method(
            *("lra", "LRA-diffusion", "lra_diffusion", "lra_diffusion/train_CIFAR.py"),
            {
                "digits": "",
                "small": "--batch_size 32 --nepoch 60 --lr 5e-3 --warmup_epochs 2 "
                "--feature_dim 256 --width 16 --diff_encoder resnet18 --ema_decay 0.99 "
                "--fp_queries cached",
                "paper": "",
            },
            {"digits": 102, "small": 150},
        ),
        _ieg_fsr("l2r", "L2R", _TRUSTED, seconds=36),
        _ieg_fsr("ieg", "IEG", _TRUSTED, seconds=100),
        _ieg_fsr(
            *("fsr", "FSR", ""),
            seconds=30,
            narrow="--meta_start_epoch=5 --queue_bs={queue} --queue_capacity={small_capacity}",
            paper="--max_iteration=63500 --cos_t_mul=2 --queue_bs={large_queue} "
            "--queue_capacity={large_capacity}",
        ),
    )
}
# The encoder f_p that LRA-diffusion retrieves with, trained before it without labels.
ENCODER = "simclr"
ENCODER_SCRIPT = "lra_diffusion/train_SimCLR.py"
ENCODER_FLAGS = {
    "digits": "",
    "small": "--nepoch 30 --batch_size {pairs} --temperature 0.1 --arch resnet18 --width 16",
    "paper": "",
}


@dataclass(frozen=True)
class Sizes:
    """What the presets take from a data set of N images and C classes that are trained on.

    smallest: images of the smallest class, by the truest labels that are known.
    """

    samples: int  # N
    classes: int  # C
    smallest: int

    @property
    def trusted_per_class(self) -> int:
        """Samples of each class that L2R and IEG trust, of a small one at most a quarter."""
        return max(1, min(TRUSTED_PER_CLASS, self.smallest // 4))

    def fill(self, flags: str) -> list[str]:
        """The flags as words, with the sizes in place of the braces."""
        steps = max(400, 100 * round(self.samples * 0.28 / 100))  # 28 epochs of batches of 100
        trusted = self.trusted_per_class * self.classes
        queue, large = (self._divisible(count) for count in (100, 200))
        return flags.format(
            steps=steps,
            evaluate=steps // 20,
            # half a sample more, since the project rounds down
            trusted=f"{(trusted + 0.5) / self.samples:.6f}",
            batch=max(1, min(100, self.samples - trusted)),  # both are refused if more than the set
            pairs=min(64, self.samples),
            queue=queue,
            small_capacity=2 * queue,
            large_queue=large,
            large_capacity=10 * large,
        ).split()

    def _divisible(self, count: int) -> int:
        """The multiple of C nearest to count: FSR's queue has equal places for each class."""
        return self.classes * max(1, round(count / self.classes))


def chosen(names: Sequence[str]) -> list[Method]:
    """The methods of these names, or all, in the order of the table. Raises UserError."""
    if unknown := [name for name in names if name not in METHODS]:
        raise UserError(
            f"there is no method {unknown[0]!r}: choose some of {' '.join(METHODS)} (METHODS)"
        )
    return [method for key, method in METHODS.items() if not names or key in names]
