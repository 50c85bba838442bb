"""Labels of test images by the reverse diffusion, and the accuracies of a training's epochs.

Letters: M test images, B batch, C classes, D width of f_p's features, F hidden width, S steps.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from lra_diffusion.method.diffusion import (
    ReverseSteps,
    betas,
    class_probabilities,
    cumulative_alphas,
    ddim,
    ddim_times,
    reverse_steps,
)
from lra_diffusion.method.epoch import in_order
from lra_diffusion.method.images import Autocast, Images
from lra_diffusion.method.networks import Model, NoisePredictor
from lra_diffusion.method.progress import watched
from lra_diffusion.method.ranks import ALONE, Ranks
from lra_diffusion.method.settings import Settings

if TYPE_CHECKING:
    from lra_diffusion.method.train import Learner

BATCH = 10_000  # labels diffused at once; changes the speed only
Row = dict[str, Any]  # the figures of an epoch


class EvaluationSet(NamedTuple):
    """images: M; labels: (M,) int64; features: (M, D) float32, f_p of the images."""

    images: Images
    labels: Tensor
    features: Tensor


@torch.no_grad()
def label_trajectory(
    predictor: NoisePredictor, embedding: Tensor, feature: Tensor, steps: ReverseSteps
) -> Tensor:
    """The points y of the reverse process from zero to a label, (S + 1, B, C).

    embedding: (B, F), the diffusion encoder's output; feature: (B, D), that of f_p.
    """
    predictor.eval()
    count = len(embedding)

    def predict_noise(y: Tensor, position: int) -> Tensor:
        predicted: Tensor = predictor(embedding, y, steps.times[position].expand(count), feature)
        return predicted

    start = torch.zeros(count, predictor.num_classes, device=embedding.device)
    return torch.stack(ddim(predict_noise, start, steps))


def predict(
    models: Sequence[Model],
    test_set: EvaluationSet,
    settings: Settings,
    autocast: Autocast,
    ranks: Ranks = ALONE,
) -> list[Tensor]:
    """Class probabilities (M, C) by each model: S steps lead from zero to each label."""
    steps = steps_of(settings, test_set.features.device)
    encoders, features = [model.encoder for model in models], ranks.part(test_set.features)
    embeddings = embed_images(encoders, test_set.images, settings, autocast, ranks)
    found = []
    for model, embedding in zip(models, embeddings):
        batches = zip(embedding.split(BATCH), features.split(BATCH))
        ends = [label_trajectory(model.predictor, *batch, steps)[-1] for batch in batches]
        probabilities = class_probabilities(torch.cat(ends))
        found.append(ranks.gather(probabilities, len(test_set.labels)))
    return found


def steps_of(settings: Settings, device: torch.device) -> ReverseSteps:
    """The reverse steps of --ddim_n_step on a device."""
    alphas = cumulative_alphas(betas()).to(device)
    return reverse_steps(alphas, ddim_times(settings.ddim_n_step))


@torch.no_grad()
def embed_images(
    encoders: Sequence[nn.Module],
    images: Images,
    settings: Settings,
    autocast: Autocast,
    ranks: Ranks = ALONE,
) -> list[Tensor]:
    """The outputs of each encoder for all images, (M, F) float32, or for those of a rank's rows.

    Images are read once, and equal encoders asked once.
    """
    # DEVIATION(lra_diffusion): test images are normalised by running statistics; the original's
    # encoder stays in training mode on CIFAR and Food-101N, so that a prediction depends on the
    # other images of its batch and statistics learn from test images. --legacy does that here.
    distinct = {id(encoder): encoder.train(settings.batch_statistics) for encoder in encoders}
    batch = settings.batch_size if settings.batch_statistics else images.evaluation_batch
    outputs: dict[int, list[Tensor]] = {key: [] for key in distinct}
    batches = in_order(len(images), batch, images.device, ranks)
    for _, pixels in zip(watched(batches, "testing"), images.plain(batches)):
        for key, encoder in distinct.items():
            with autocast():
                outputs[key].append(encoder(pixels).float())
    for encoder in encoders:
        encoder.eval()
    return [torch.cat(outputs[id(encoder)]) for encoder in encoders]


def accuracies(
    learner: "Learner", test_sets: Mapping[str, EvaluationSet], settings: Settings, epoch: int
) -> Row:
    """Accuracies in percent of the weights and their EMA on each set, None where not evaluated.

    accuracy: on the last of the sets, by the weights that count (--eval_weights); weights: which
    these are; selection: what chooses the best epoch, None without images to choose by. An empty
    set has no accuracy either.
    """
    kinds = ("raw",) if settings.eval_weights == "raw" else ("raw", "ema")
    row: Row = {f"accuracy_{name}_{kind}": None for name in test_sets for kind in kinds}
    row |= {"weights": None, "selection": None, "accuracy": None, "evaluation_seconds": None}
    if epoch not in evaluation_epochs(
        settings.nepoch, settings.eval_every, settings.warmup_epochs, settings.legacy
    ):
        return row
    start = time.perf_counter()
    models = [learner.model(kind) for kind in kinds]
    for name, test_set in test_sets.items():
        if not len(test_set.labels):
            continue
        found = predict(models, test_set, settings, learner.autocast, learner.ranks)
        for kind, predicted in zip(kinds, found):
            right = (predicted.argmax(dim=1) == test_set.labels).float()
            row[f"accuracy_{name}_{kind}"] = 100 * right.mean().item()
    best = settings.eval_weights
    if best == "best":  # of equal ones, and without validation images, those the paper reports: raw
        best = "raw"
        raw, ema = (row.get(f"accuracy_val_{kind}") for kind in kinds)
        if raw is not None and ema > raw:
            best = "ema"
    reported = list(test_sets)[-1]
    return row | {
        "weights": best,
        "selection": row.get(f"accuracy_{settings.select}_{best}"),
        "accuracy": row[f"accuracy_{reported}_{best}"],
        "evaluation_seconds": round(time.perf_counter() - start, 3),
    }


def evaluation_epochs(nepoch: int, every: int, warmup_epochs: int, legacy: bool) -> frozenset[int]:
    """The epochs, from 1 on, after which the model is evaluated.

    Every `every`-th one after the warm-up, and the last.
    """
    # DEVIATION(lra_diffusion): the last epoch is evaluated and saved; the original's 200 epochs on
    # CIFAR end with four that are not.
    if legacy:
        first = warmup_epochs if every > 1 else 0
        return frozenset(e + 1 for e in range(nepoch) if e % every == 0 and e >= first)
    regular = (e for e in range(every, nepoch + 1, every) if e > warmup_epochs or every == 1)
    return frozenset([*regular, nepoch])
