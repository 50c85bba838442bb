"""Weights of the frozen encoders: where they are looked for, and how a file is read safely.

Nothing in a file is executed. Read are safetensors, files of torch.save, and OpenAI's own CLIP
files. The latter are TorchScript archives, that is programs, so that only the three published ones,
told by their SHA-256, are opened.
"""

import hashlib
import importlib
import importlib.util
import os
import socket
import urllib.parse
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lra_diffusion.run import checkpoint
from lra_diffusion.run.errors import CheckpointError, UsageError
from shared import datasets

State = dict[str, Tensor]
HUGGING_FACE, PYTORCH = "huggingface.co", "download.pytorch.org"
CONNECTING, SILENCE = 3.0, 30.0  # seconds until a host is given up
BESIDE_THE_SCRIPTS = Path(__file__).resolve().parents[1] / "model"
OPENAI_SHA256 = {
    "ViT-B/32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B/16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L/14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
}
_WRAPPED = ("state_dict", "model", "net")  # names of the state dict inside a checkpoint


def find(
    patterns: Sequence[str], weights: Path | None, data_path: Path | None
) -> tuple[Path | None, list[Path]]:
    """The first file that fits, and every path that was tried. patterns: file names, may hold `*`.

    weights: --fp_weights, a file (taken whatever its name) or the only folder to look in; else
    model/ in the working directory, model/ beside the scripts, model/ in the folder of data.
    """
    if weights is not None and not weights.is_dir():
        return (weights if weights.exists() else None), [weights]
    usual = [Path("model"), BESIDE_THE_SCRIPTS, datasets.data_root(data_path) / "model"]
    folders = [weights] if weights else usual
    tried = [folder / pattern for folder in folders for pattern in patterns]
    for place in tried:
        if files := sorted(place.parent.glob(place.name)):
            return files[0], tried
    return None, tried


def read(path: Path) -> State:
    """The state dict in a file, without the `module.` of DataParallel.

    Raises UsageError if it holds none.
    """
    try:
        state = _read(path)
    except (CheckpointError, UsageError) as error:
        raise UsageError(str(error)) from error
    except Exception as error:  # whatever the damage makes torch.load and safetensors stumble over
        raise UsageError(
            f"{path}: no weights that can be read safely ({_first_line(error)}). The file is "
            "damaged, or is neither safetensors nor a state dict saved by torch.save; get it again"
        ) from error
    for name in _WRAPPED:
        if isinstance(state.get(name), Mapping):
            state = state[name]
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(
            f"{path}: holds no state dict (names and tensors); save one by "
            "torch.save(net.state_dict(), path)"
        )
    return {name.removeprefix("module."): value for name, value in state.items()}


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return dict(safetensors.torch.load_file(path))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            is_program = any(name.endswith("constants.pkl") for name in archive.namelist())
        return _read_openai(path) if is_program else dict(checkpoint.load(path))
    # Before torch 1.6, files were no archives.
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise UsageError(f"{path}: holds {type(state).__name__}, not a state dict")
    return state


def _read_openai(path: Path) -> State:
    """The state dict of one of OpenAI's three files."""
    if sha256_of_file(path) not in OPENAI_SHA256.values():
        raise UsageError(
            f"{path}: a TorchScript archive, which can run code, and none of OpenAI's files, "
            "whose SHA-256 are known. Get the file again, or the same weights as safetensors"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return dict(torch.jit.load(path, map_location="cpu").state_dict())


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_into(
    net: nn.Module, state: Mapping[str, Tensor], source: object, fix: str, optional: str = "-"
) -> None:
    """Copies the state into the net. Raises UsageError, with the fix, for what does not fit.

    source: where the state is from; optional: how names begin that may be missing.
    """
    own = net.state_dict()
    needless = [name for name in own if name.endswith("num_batches_tracked")]
    problems = [
        f"{name} is missing"
        for name in own.keys() - state.keys() - {*needless}
        if not name.startswith(optional)
    ]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UsageError(f"{source} does not fit: {sorted(problems)[0]}{more}. {fix}")
    net.load_state_dict({name: state[name] for name in own.keys() & state.keys()}, strict=False)


def identity_of(name: str, net: nn.Module) -> str:
    """Name and SHA-256 of everything the net computes with, whatever file it came from."""
    digest = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        if not key.endswith("num_batches_tracked"):
            digest.update(f"{key} {tuple(value.shape)} {value.dtype} ".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return f"{name} sha256:{digest.hexdigest()}"


def downloaded(get: Callable[[], Any], what: str, fix: str, host: str = HUGGING_FACE) -> Any:
    """What a library's own cache or download gives; a failure of any kind is one message.

    host: where it downloads from. Caches are asked first, and Hugging Face's client only where its
    host answers: without a network it tries for a minute.
    """
    print(f"note: {what}: no weights of yours, taking the library's, which downloads them once")
    off = _hub_is_off()
    try:
        with _patience(CONNECTING, hub=False):
            return get()
    except Exception as error:  # each library and each kind of missing network has its own
        failure, problem = error, f"{type(error).__name__}: {_first_line(error)}"
    if off:
        problem = "HF_HUB_OFFLINE is set, and they are not in the cache"
    elif (reason := _unreachable(host)) is not None:
        problem = f"{host} cannot be reached: {reason}"
    else:
        try:
            with _patience(SILENCE, hub=True):
                return get()
        except Exception as error:
            failure, problem = error, f"{type(error).__name__}: {_first_line(error)}"
    raise UsageError(f"{what}: the weights could not be downloaded ({problem}). {fix}") from failure


@contextmanager
def _patience(seconds: float, hub: bool) -> Iterator[None]:
    """A server that is silent for so long is given up; Hugging Face's cache alone unless `hub`."""
    waits, off = socket.getdefaulttimeout(), _hub_is_off()
    socket.setdefaulttimeout(seconds)  # urllib would wait for ever
    _turn_hub(off=not hub)
    try:
        yield
    finally:
        socket.setdefaulttimeout(waits)
        _turn_hub(off=off)


def _hub_is_off() -> bool:
    """Is Hugging Face's client, if there is one, to look into its cache alone?"""
    return importlib.util.find_spec("huggingface_hub") is not None and bool(
        importlib.import_module("huggingface_hub.constants").HF_HUB_OFFLINE
    )


def _turn_hub(*, off: bool) -> None:
    if importlib.util.find_spec("huggingface_hub") is not None:
        constants: Any = importlib.import_module("huggingface_hub.constants")
        constants.HF_HUB_OFFLINE = off


def _unreachable(host: str) -> str | None:
    """Why neither the host nor the proxy on the way there answers; None if one does."""
    url = f"https://{host}"
    if host == HUGGING_FACE:
        url = os.environ.get("HF_ENDPOINT", url)
    if not urllib.request.proxy_bypass(host):
        proxy = urllib.request.getproxies().get("https", url)
        url = proxy if "//" in proxy else f"//{proxy}"
    address = urllib.parse.urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or host, port), timeout=CONNECTING).close()
    except OSError as error:
        return str(error.strerror or error)
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
