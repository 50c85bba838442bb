"""Networks that torchvision's publishers trained on ImageNet (weights IMAGENET1K_V1), as files.

path = imagenet_weights("resnet50")      # a state dict, for torch.load(path, weights_only=True)
"""

import os
from dataclasses import dataclass
from pathlib import Path

from shared.datasets import download
from shared.datasets.download import DownloadError, Expected
from shared.datasets.registry import data_root


@dataclass(frozen=True)
class Weights:
    """A file of weights."""

    file: str  # ends in the first eight digits of its SHA-256
    sha256: str  # whole, or as many digits as its publisher gives
    limit: int  # bytes, at most

    @property
    def url(self) -> str:
        return f"https://download.pytorch.org/models/{self.file}"


NETWORKS = {
    "resnet50": Weights(
        "resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        102_530_333,
    ),
    "vgg19_bn": Weights("vgg19_bn-c79401a0.pth", "c79401a0", 600 * 2**20),
}


def imagenet_weights(
    network: str, path: str | Path | None = None, *, flag: str | None = "--weights FILE"
) -> Path:
    """The file of a network of NETWORKS, its hash checked; downloaded if need be.

    Looked for in `pretrained` below the data root (path, see `registry.data_root`), in torch's
    cache, then in DATA_MIRROR and at the publisher. flag: what takes a file instead, for the
    message. Raises DownloadError.
    """
    if network not in NETWORKS:
        raise DownloadError(
            f"no ImageNet weights are known for {network!r}: choose {' or '.join(NETWORKS)}"
        )
    weights = NETWORKS[network]
    target = data_root(path) / "pretrained" / weights.file
    expected = Expected(weights.sha256, limit=weights.limit)
    cached = torch_cache() / weights.file
    if not target.exists() and cached.is_file() and expected.problem(cached) is None:
        return cached
    try:
        return download.fetch(
            weights.url,
            target,
            sha256=weights.sha256,
            limit=weights.limit,
            names=(f"pretrained/{weights.file}",),
        )
    except DownloadError as error:
        instead = "" if flag is None else f"\nA file of them in another place: {flag}"
        raise DownloadError(f"the ImageNet weights of {network}: {error}{instead}") from error


def torch_cache() -> Path:
    """Where torch.hub keeps what it downloads."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(os.environ.get("TORCH_HOME") or caches).expanduser() / "hub" / "checkpoints"
