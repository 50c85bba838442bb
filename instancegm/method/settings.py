"""The hyper-parameters of the method; the defaults are those of the published CIFAR-10 script.

Plain data, imported before torch. A field made by `setting` is also a flag of the command line: its
meaning is the help text, `allowed` the interval of its values. Plain fields follow from the data
set and its noise; see the presets in `run/config.py`.
"""

# ruff: noqa: RUF009  (`setting` makes a field)

from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["instancegm", "ce"]
Numerics = Literal["original", "paper"]
Network = Literal["preact_resnet18", "vgg19_bn", "resnet50"]


def setting(default: Any, meaning: str, allowed: str = "", choices: tuple[str, ...] = ()) -> Any:
    """A field of a configuration that users can set. allowed: an interval such as "(0, 1]"."""
    return field(
        default=default, metadata={"meaning": meaning, "allowed": allowed, "choices": choices}
    )


@dataclass(frozen=True)
class VaeWeights:
    """Weights w2, w3, w4 of the generative loss; the defaults are those of the CIFAR script."""

    noisy_label: float = 1.0
    label_prior: float = 1e-5
    latent_prior: float = 3e-4


CIFAR_WEIGHTS = VaeWeights()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the numbers of a run, apart from data, noisy labels and device."""

    mode: Mode = setting(
        "instancegm", "instancegm, or ce: one network, plain cross-entropy, the baseline"
    )
    no_vae: bool = setting(False, "leave out the generative part: DivideMix")
    seed: int = setting(
        123, "seed of everything but the generated noise, whose seed is always 123", "[0, inf)"
    )

    # Schedule, in epochs
    num_epochs: int = setting(
        300, "last epoch; counting starts at 0, so 300 means 301 epochs", "[0, inf)"
    )
    warm_up: int = setting(10, "epochs of plain cross-entropy at first", "[0, inf)")
    lr_drop: int = setting(150, "epoch from which the learning rate is a tenth", "[0, inf)")

    # Classifiers: SGD
    batch_size: int = setting(
        64,
        "labelled and unlabelled images a step; warm-up and VAE use twice as many",
        "[1, inf)",
    )
    lr: float = setting(0.02, "SGD learning rate of the classifiers", "(0, inf)")
    weight_decay: float = setting(5e-4, "SGD weight decay of the classifiers", "[0, inf)")
    width: int = setting(64, "channels of the network's first stage", "[1, inf)")
    network: Network = "preact_resnet18"
    normalise: bool = setting(
        False,
        "normalise images by ImageNet's mean and deviation inside the classifiers (the published "
        "code does not, although its ResNet-50 is pre-trained)",
    )
    confidence_penalty: bool = False  # add the negative entropy to the loss of warm-up

    # Draws of a set that is too large, or too unbalanced, to be seen as a whole in every epoch
    num_batches: int | None = setting(
        None,
        "batches in an epoch of each network, of equally many images of each class; by default the "
        "whole training set",
        "[1, inf)",
    )
    redraw_vae: bool = setting(
        False,
        "with --num_batches, draw the VAEs' images again in every epoch (the published code keeps "
        "one draw for the whole run)",
    )

    # DivideMix
    p_threshold: float = setting(
        0.5, "clean probability above which a sample counts as labelled", "[0, 1)"
    )
    T: float = setting(0.5, "sharpening temperature", "(0, 1]")
    alpha: float = setting(4.0, "Beta parameter of mixup", "(0, inf)")
    lambda_u: float = setting(25.0, "weight of the unlabelled loss after its ramp", "[0, inf)")
    guess_eval: bool = setting(
        False, "guess and refine labels in eval mode (the published code does so in train mode)"
    )
    unlabelled_loss: bool = True  # False: mix and learn from rows that begin with a labelled one
    loss_epochs: int = 1  # epochs whose losses are averaged before the mixture sees them

    # Generative part: Adam
    z_dim: int = setting(25, "size of the VAE's latent code", "[1, inf)")
    vae_lr: float = setting(0.001, "Adam learning rate of the VAEs", "(0, inf)")
    noisy_label_weight: float = setting(
        CIFAR_WEIGHTS.noisy_label, "weight of the VAE's loss on the noisy labels", "[0, inf)"
    )
    label_prior_weight: float = setting(
        CIFAR_WEIGHTS.label_prior, "weight of the VAE's KL term of the clean label", "[0, inf)"
    )
    latent_prior_weight: float = setting(
        CIFAR_WEIGHTS.latent_prior, "weight of the VAE's KL term of the latent code", "[0, inf)"
    )
    numerics: Numerics = setting(
        "original",
        "original: VAE arithmetic of the published code; paper: as the formulas intend",
    )

    # Several GPUs
    sync_bn: bool = setting(
        False,
        "with several GPUs, batch normalisation over the whole batch instead of each GPU's rows",
    )

    # Images
    image_size: int = 32  # pixels a side, what the networks take
    crop_padding: int = setting(
        4, "pixels of zeros around an image before it is cropped at random", "[0, inf)"
    )
    flip: bool = setting(True, "mirror images at random")

    @property
    def method(self) -> str:
        return "ce" if self.mode == "ce" else "dividemix" if self.no_vae else "instancegm"

    @property
    def vae_weights(self) -> VaeWeights:
        return VaeWeights(
            self.noisy_label_weight, self.label_prior_weight, self.latent_prior_weight
        )
