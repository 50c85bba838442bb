"""A finished model: read from its file, checked against the data at hand, and tested."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lra_diffusion.method.evaluate import predict
from lra_diffusion.method.networks import Model, SmallResNet, model_of

from . import checkpoint
from .config import WEBVISION_MODEL
from .data import load
from .device import autocast, configure_torch
from .errors import UsageError
from .experiment import device_of
from .features import Features, compute_features
from .folder import read_about
from .launch import first_on_its_machine, joined
from .own_pictures import SIDE
from .report import NAMES, NO_TEST_SET
from .schema import TrainConfig
from .splits import RunData


class Finished(NamedTuple):
    """What a model's file holds."""

    path: Path
    model: Model
    about: dict[str, Any]  # which encoder and classes, see `Experiment`; published files lack it
    f_p: Mapping[str, Tensor]  # the encoder's own weights, which some published files have


def load_model(path: Path, device: torch.device) -> Finished:
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
    f_p = {name.removeprefix("module."): v for name, v in states[2].items()} if states[2:] else {}
    model = Model(predictor.to(device).eval(), encoder)
    return Finished(path, model, read_about(path) or {}, f_p)


def check_model(
    finished: Finished, data: RunData, features: Features, recorded: str | None = None
) -> None:
    """Refuses a model of other classes, another encoder or image size than those at hand.

    recorded: the encoder of the run that left the model, where the run folder tells it.
    """
    path, model = finished.path, finished.model
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
    classes = finished.about.get("classes")
    if classes is not None and classes != list(data.class_names):
        mine, theirs = next(pair for pair in zip(data.class_names, classes) if pair[0] != pair[1])
        raise UsageError(
            f"{path} was trained on other classes: one is {theirs!r} there and {mine!r} in "
            f"{data.name}; give another model or other data"
        )
    _check_encoder(finished, features, finished.about.get("encoder") or recorded)


def _check_encoder(finished: Finished, features: Features, trained: str | None) -> None:
    """Refuses features of another encoder than `trained`; of equal width they fit silently."""
    path, given = finished.path, features.record
    # A run folder's entry for features in files also depends on --limit_test.
    unknown = trained is None or (trained.startswith("embeddings ") and "sha256:" not in trained)
    if not unknown and trained != given:
        raise UsageError(
            f"{path} was trained with features of {trained}, these are of {given}: "
            "give the encoder and weights it was trained with"
        )
    if unknown and finished.f_p and features.encoder is not None:
        own = {k.removeprefix("net."): v for k, v in features.encoder.net.state_dict().items()}
        common = [name for name in own if name in finished.f_p and own[name].is_floating_point()]
        for name in common:
            if not torch.equal(finished.f_p[name].float(), own[name].cpu()):
                raise UsageError(
                    f"{path} holds its encoder's weights, and those of {given} are others "
                    f"({name}): give the encoder and weights it was trained with"
                )
        unknown = not common
    if unknown:
        print(f"note: {path} does not say which encoder it was trained with; taking {given}")


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
    accuracies, amp = {}, autocast(config.amp, device)
    names = NAMES | ({"test": "ILSVRC2012"} if config.dataset == "webvision" else {})
    with joined(device) as ranks:
        finished = load_model(path, device)
        with first_on_its_machine(ranks):
            data = load(config, device)
        data, features = compute_features(config, data, device, training=False, ranks=ranks)
        check_model(finished, data, features)
        for name, test_set in features.test_sets(data).items():
            if name not in data.tested:
                print(NO_TEST_SET)
                continue
            start = time.perf_counter()
            predicted = predict([finished.model], test_set, config, amp, ranks)[0].argmax(dim=1)
            accuracies[name] = 100 * (predicted == test_set.labels).float().mean().item()
            count = len(test_set.labels)
            print(f"{names[name]} accuracy: {accuracies[name]:.2f}% ({count} images)")
            print(f"time cost for CLR: {time.perf_counter() - start:.2f} (without f_p)")
    return accuracies
