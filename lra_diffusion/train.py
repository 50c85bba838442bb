"""The algorithm of LRA-diffusion, epoch by epoch.

Chen et al., NeurIPS 2023. Shapes: N training samples, M of them in an epoch, B batch, C classes, D
features, F hidden width. Nothing inside an epoch waits for the device: losses are gathered there
and looked at once, when the epoch is over.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lra_diffusion import checkpoint
from lra_diffusion.command_line import check_finite
from lra_diffusion.data import Images, in_order, shuffled, stream_seed, torch_stream
from lra_diffusion.diffusion import (
    TIMESTEPS,
    ReverseSteps,
    antithetic_times,
    diffuse,
    learning_rate,
    weighted_noise_loss,
)
from lra_diffusion.ema import WeightAverage
from lra_diffusion.guide import Autocast, Guide
from lra_diffusion.networks import NoisePredictor
from lra_diffusion.report import Row
from lra_diffusion.retrieval import draw_labels
from lra_diffusion.sampling import LabelSampler

Parts = tuple[NoisePredictor, nn.Module]  # predictor and diffusion encoder
GRADIENT_NORM = 1.0  # each trained part is clipped to it by itself


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of a run."""

    batch_size: int
    nepoch: int
    lr: float
    warmup_epochs: int
    lr_horizon: int
    weighted: bool
    drop_last: bool
    train_encoder: bool
    # --legacy: the encoder normalises test images by their own batch, and learns from them
    batch_statistics: bool
    eval_epochs: frozenset[int]
    eval_weights: str  # best, raw or ema
    select: str  # val or test
    alphas: Tensor  # (T,) alpha_bar
    steps: ReverseSteps
    seed: int
    autocast: Autocast


class TrainingSet(NamedTuple):
    """images: N; labels: (N,) int64, the given ones; clean: (N,) int64, None where the truth is
    unknown.
    """

    images: Images
    labels: Tensor
    clean: Tensor | None
    guide: Guide
    per_class: int | None = None  # so many samples of each class in an epoch; None: all samples

    def samples(self, generator: torch.Generator) -> Tensor:
        """The samples of an epoch, (M,) int64 in ascending order."""
        if self.per_class is None:
            return torch.arange(len(self.labels), device=self.labels.device)
        order = torch.randperm(len(self.labels), device=self.labels.device, generator=generator)
        labels = self.labels[order]
        classes = int(self.labels.max()) + 1
        return (
            torch.cat([order[labels == c][: self.per_class] for c in range(classes)]).sort().values
        )


class EvaluationSet(NamedTuple):
    """images: M; labels: (M,) int64; features: (M, D) float32, f_p of the images."""

    images: Images
    labels: Tensor
    features: Tensor


@dataclass
class Learner:
    """All that training changes."""

    predictor: NoisePredictor
    encoder: nn.Module
    average: WeightAverage
    optimizer: torch.optim.Optimizer

    def parts(self, weights: str) -> Parts:
        """Predictor and encoder as trained (raw), or their average (ema)."""
        if weights == "raw":
            return self.predictor, self.encoder
        return self.average.nets[0], self.average.nets[1] if len(
            self.average.nets
        ) > 1 else self.encoder

    def state_dict(self) -> dict[str, Any]:
        return {
            "predictor": self.predictor.state_dict(),
            "encoder": self.encoder.state_dict(),
            "average": [net.state_dict() for net in self.average.nets],
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.predictor.load_state_dict(state["predictor"])
        self.encoder.load_state_dict(state["encoder"])
        for net, saved in zip(self.average.nets, state["average"]):
            net.load_state_dict(saved)
        checkpoint.load_optimizer(self.optimizer, state["optimizer"])


def epochs(
    learner: Learner,
    train_set: TrainingSet,
    test_sets: dict[str, EvaluationSet],
    settings: Settings,
    first_epoch: int = 1,
) -> Iterator[Row]:
    """Trains from `first_epoch` to the last one and yields a row of figures after each; epochs
    count from 1.
    """
    for epoch in range(first_epoch, settings.nepoch + 1):
        start = time.perf_counter()
        samples = train_set.samples(
            torch_stream(train_set.images.device, settings.seed, epoch, "samples")
        )
        row = {"epoch": epoch} | train_epoch(learner, train_set, samples, settings, epoch)
        seconds = time.perf_counter() - start
        row |= accuracies(learner, test_sets, settings, epoch)
        row |= {
            "seconds": round(time.perf_counter() - start, 3),
            "images_per_s": round(row["images"] / seconds, 1),
        }
        yield row


def train_epoch(
    learner: Learner, train_set: TrainingSet, samples: Tensor, settings: Settings, epoch: int
) -> Row:
    """One pass over `samples` (M,) in random order; the mean loss and how many of the drawn labels
    are right.
    """
    device = train_set.images.device
    streams = {
        name: torch_stream(device, settings.seed, epoch, name)
        for name in ("shuffle", "retrieval", "time", "noise")
    }
    batches = shuffled(samples, settings.batch_size, streams["shuffle"], settings.drop_last)
    if len(batches) > 1 and len(batches[-1]) == 1:
        # DEVIATION(lra_diffusion): a last batch of one image joins the batch before; the original
        # fails on it.
        batches = [*batches[:-2], torch.cat(batches[-2:])]
    views = train_set.images.views(batches, stream_seed(settings.seed, epoch, "augmentation"))
    classes = learner.predictor.num_classes
    losses, right = [], []
    learner.predictor.train()
    learner.encoder.train()
    for step, (index, images) in enumerate(zip(batches, views)):
        feature, candidates = train_set.guide(index, images)
        drawn = draw_labels(candidates, streams["retrieval"], settings.weighted)
        lr = learning_rate(
            epoch - 1 + step / len(batches),
            settings.warmup_epochs,
            settings.lr_horizon,
            settings.lr,
        )
        learner.optimizer.param_groups[0]["lr"] = lr
        t = antithetic_times(len(index), TIMESTEPS, streams["time"])
        noise = torch.randn(len(index), classes, device=device, generator=streams["noise"])
        y_t = diffuse(F.one_hot(drawn.labels, classes).float(), t, noise, settings.alphas)
        # DEVIATION(lra_diffusion): the diffusion encoder is trained; on CIFAR and Food-101N the
        # original leaves it at its first weights, against the paper. --freeze_encoder does that
        # here.
        with settings.autocast(), torch.set_grad_enabled(settings.train_encoder):
            embedding = learner.encoder(images)
        loss = weighted_noise_loss(
            noise, learner.predictor(embedding.float(), y_t, t, feature), drawn.weights
        )
        learner.optimizer.zero_grad()
        loss.backward()
        for net in (learner.predictor, learner.encoder)[: 2 if settings.train_encoder else 1]:
            nn.utils.clip_grad_norm_(net.parameters(), GRADIENT_NORM)
        learner.optimizer.step()
        learner.average.update()
        losses.append(loss.detach())
        if train_set.clean is not None:
            right.append((drawn.labels == train_set.clean[index]) * drawn.weights)
    check_finite(losses, epoch)
    images_seen = sum(map(len, batches))
    retrieved = 100 * torch.cat(right).sum().item() / len(batches) if right else None
    return {
        "loss": torch.stack(losses).mean().item(),
        "lr": lr,
        "drawn_labels_right": retrieved,
        "images": images_seen,
    }


def accuracies(
    learner: Learner, test_sets: dict[str, EvaluationSet], settings: Settings, epoch: int
) -> Row:
    """Accuracies in percent of the weights and of their average on each set; None in epochs without
    evaluation.

    accuracy: on the test set, by the weights that count (--eval_weights); weights: which these are.
    """
    kinds = ("raw", "ema") if settings.eval_weights != "raw" else ("raw",)
    row: Row = {f"accuracy_{name}_{kind}": None for name in test_sets for kind in kinds}
    row |= {"weights": None, "selection": None, "accuracy": None, "evaluation_seconds": None}
    if epoch not in settings.eval_epochs:
        return row
    start = time.perf_counter()
    for name, test_set in test_sets.items():
        for kind, predicted in zip(
            kinds, predict([learner.parts(kind) for kind in kinds], test_set, settings)
        ):
            right = (predicted.argmax(dim=1) == test_set.labels).float()
            row[f"accuracy_{name}_{kind}"] = 100 * right.mean().item()
    selecting = settings.select if settings.select in test_sets else None
    if settings.eval_weights != "best":
        best = settings.eval_weights
    else:  # of equal ones the raw weights; without validation images the raw ones too, which the paper reports
        best = (
            max(kinds, key=lambda kind: row[f"accuracy_val_{kind}"])
            if "val" in test_sets
            else "raw"
        )
    reported = list(test_sets)[-1]
    return row | {
        "weights": best,
        "selection": row[f"accuracy_{selecting}_{best}"] if selecting else None,
        "accuracy": row[f"accuracy_{reported}_{best}"],
        "evaluation_seconds": round(time.perf_counter() - start, 3),
    }


def predict(models: Sequence[Parts], test_set: EvaluationSet, settings: Settings) -> list[Tensor]:
    """Class probabilities (M, C) by each model: its encoder looks at each image once, then S steps
    lead to the labels.
    """
    embeddings = embed_images([encoder for _, encoder in models], test_set.images, settings)
    samplers = (LabelSampler(predictor, settings.steps) for predictor, _ in models)
    return [
        sampler.probabilities(part, test_set.features)
        for sampler, part in zip(samplers, embeddings)
    ]


@torch.no_grad()
def embed_images(encoders: Sequence[nn.Module], images: Images, settings: Settings) -> list[Tensor]:
    """The outputs of each encoder for all images, (M, F) float32; images are read once, equal
    encoders asked once.
    """
    # DEVIATION(lra_diffusion): test images are normalised by running statistics; the original's
    # encoder stays in training mode on CIFAR and Food-101N, so that a prediction depends on the
    # other images of its batch and statistics learn from test images. --legacy does that here.
    distinct = {id(encoder): encoder.train(settings.batch_statistics) for encoder in encoders}
    batch = settings.batch_size if settings.batch_statistics else images.evaluation_batch
    outputs: dict[int, list[Tensor]] = {key: [] for key in distinct}
    for pixels in images.plain(in_order(len(images), batch, images.device)):
        for key, encoder in distinct.items():
            with settings.autocast():
                outputs[key].append(encoder(pixels).float())
    for encoder in encoders:
        encoder.eval()
    return [torch.cat(outputs[id(encoder)]) for encoder in encoders]


def evaluation_epochs(nepoch: int, every: int, warmup_epochs: int, legacy: bool) -> frozenset[int]:
    """The epochs, from 1 on, after which the model is evaluated: every `every`-th one after the
    warm-up, and the last.
    """
    # DEVIATION(lra_diffusion): the last epoch is evaluated and saved; the original's 200 epochs on
    # CIFAR end with four that are not.
    if legacy:
        return frozenset(
            e + 1
            for e in range(nepoch)
            if e % every == 0 and e >= (warmup_epochs if every > 1 else 0)
        )
    return frozenset(
        [*(e for e in range(every, nepoch + 1, every) if e > warmup_epochs or every == 1), nepoch]
    )
