"""A finished model: read from its file, checked against the data at hand, and tested."""

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from lra_diffusion.method.evaluate import predict
from lra_diffusion.method.networks import Model, SmallResNet, model_of

from . import checkpoint
from .config import WEBVISION_MODEL
from .data import SIDE, RunData, load
from .device import autocast, configure_torch
from .errors import UsageError
from .experiment import device_of
from .features import Features, compute_features
from .schema import TrainConfig


def load_model(path: Path, device: torch.device) -> Model:
    """The model in a file, ours or published. Raises CheckpointError or UsageError."""
    # DEVIATION(lra_diffusion): a saved model holds what was trained, predictor and diffusion
    # encoder; the original adds f_p, with CLIP up to 1.7 GB. Its files load as well.
    states = checkpoint.load(path, kind=list)
    if len(states) not in (2, 3) or not all(isinstance(state, Mapping) for state in states):
        raise UsageError(
            f"{path}: expected a list of state dicts, of the predictor and of the diffusion encoder"
        )
    try:
        predictor, encoder = model_of(states)
    except (KeyError, RuntimeError) as error:
        raise UsageError(
            f"{path}: not a model of LRA-diffusion ({str(error).splitlines()[0]})"
        ) from error
    encoder = encoder.to(device).to(memory_format=torch.channels_last).eval()
    return Model(predictor.to(device).eval(), encoder)


def check_model(model: Model, data: RunData, features: Features, path: Path) -> None:
    """Refuses a model of other classes, features or image size than those at hand."""
    if isinstance(model.encoder, SmallResNet) and data.image_side != SIDE:
        raise UsageError(
            f"{path} is for images of {SIDE} pixels, {data.name} has {data.image_side}: "
            "give another model"
        )
    dim = next(iter(features.tests.values())).shape[1]
    if model.predictor.feature_dim != dim:
        raise UsageError(
            f"{path} was trained with features of {model.predictor.feature_dim} numbers, those "
            f"here have {dim}: give the encoder it was trained with (--fp_encoder, --CLIP_type), "
            "or features of it"
        )
    if model.predictor.num_classes != data.num_classes:
        raise UsageError(
            f"{path} knows {model.predictor.num_classes} classes, {data.name} has "
            f"{data.num_classes}: give another model"
        )


def evaluate_model(config: TrainConfig) -> dict[str, float]:
    """Tests the model of --eval_only; returns accuracies in percent."""
    path = config.eval_only
    assert path is not None  # of who calls this
    if config.script == "test_ILSVRC2012" and not path.exists():
        raise UsageError(
            f"{path}: no such model. `python train_WebVision.py` trains one and writes it to "
            f"{WEBVISION_MODEL}; or name yours with --eval_only"
        )
    device = device_of(config)
    configure_torch(config.deterministic, device)
    model = load_model(path, device)
    data = load(config, device)
    features = compute_features(config, data, device, training=False)
    check_model(model, data, features, path)
    accuracies, amp = {}, autocast(config.amp, device)
    names = {"val": "validation", "test": "test"}
    if config.dataset == "webvision":
        names["test"] = "ILSVRC2012"
    for name, test_set in features.test_sets(data).items():
        start = time.perf_counter()
        predicted = predict([model], test_set, config, amp)[0].argmax(dim=1)
        accuracies[name] = 100 * (predicted == test_set.labels).float().mean().item()
        count = len(test_set.labels)
        print(f"{names[name]} accuracy: {accuracies[name]:.2f}% ({count} images)")
        print(f"time cost for CLR: {time.perf_counter() - start:.2f} (without f_p)")
    return accuracies
