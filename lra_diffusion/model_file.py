"""The published file of a model: a list of state dicts, [predictor, diffusion encoder], and what is
read of one.

Files of the authors may hold f_p as a third entry, which is not needed here. Architectures are
recognised by their shapes.
"""

import filecmp
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lra_diffusion import checkpoint
from lra_diffusion.command_line import UsageError
from lra_diffusion.networks import LargeResNet, NoisePredictor, SmallResNet, state_on_cpu
from shared.files import write_atomically


class Model(NamedTuple):
    predictor: NoisePredictor
    encoder: nn.Module


# DEVIATION(lra_diffusion): a saved model holds what was trained, predictor and diffusion encoder;
# the original adds f_p, with CLIP up to 1.7 GB. Its files load as well.
def encode(model: Model) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    torch.save([state_on_cpu(model.predictor), state_on_cpu(model.encoder)], buffer)
    return buffer.getvalue()


def publish(own: Path, published: Path, data: bytes) -> bool:
    """Writes a run's file in its folder, and where the published scripts look for it unless another
    run's is there.

    Returns whether `published` now holds the data. Both are written all or nothing.
    """
    # DEVIATION(lra_diffusion): a model in model/ is never replaced by one of another run; the
    # original's first epoch writes over whatever good model is there. After a kill between the two,
    # the repeated epoch finds its own bytes in the published place, which is written first.
    free = may_publish(own, published) or published.read_bytes() == data
    for path in (published, own) if free else (own,):
        write_atomically(path, data)
    return free


def may_publish(own: Path, published: Path) -> bool:
    """Is the published place free, or does it hold what this run wrote there?"""
    return not published.exists() or (own.exists() and filecmp.cmp(own, published, shallow=False))


def load(path: Path, device: torch.device) -> Model:
    """The model in a file, ours or published. Raises CheckpointError or UsageError."""
    states = checkpoint.load(path, kind=list)
    if len(states) not in (2, 3) or not all(isinstance(state, Mapping) for state in states):
        raise UsageError(
            f"{path}: expected a list of state dicts, of the predictor and of the diffusion encoder"
        )
    predictor_state, encoder_state = (_plain(state) for state in states[:2])
    try:
        hidden, inputs = predictor_state["lin1.lin.weight"].shape
        classes = len(predictor_state["lin4.bias"])
        predictor = NoisePredictor(
            classes, inputs - classes, hidden, len(predictor_state["lin1.embed.weight"]) - 1
        )
        encoder = _encoder_of(encoder_state)
        predictor.load_state_dict(predictor_state)
        encoder.load_state_dict(encoder_state)
    except (KeyError, RuntimeError) as error:
        raise UsageError(
            f"{path}: not a model of LRA-diffusion ({str(error).splitlines()[0]})"
        ) from error
    return Model(
        predictor.to(device).eval(),
        encoder.to(device=device, memory_format=torch.channels_last).eval(),
    )


def _encoder_of(state: Mapping[str, Tensor]) -> nn.Module:
    bottleneck = "layer1.0.conv3.weight" in state
    name = (
        "resnet50" if bottleneck else "resnet34" if "layer1.2.conv1.weight" in state else "resnet18"
    )
    if "myfc2.weight" in state:
        return LargeResNet(name, len(state["myfc2.bias"]))
    return SmallResNet(name, len(state["linear.bias"]), len(state["conv1.weight"]))


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that DataParallel adds."""
    return {name.removeprefix("module."): value for name, value in state.items()}
