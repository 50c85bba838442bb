"""The algorithm of LRA-diffusion: `train_epoch` is the paper's algorithm box.

Chen et al., NeurIPS 2023. Nothing inside an epoch waits for the device: losses are gathered there
and looked at once, when the epoch is over.
Letters: N training samples, M of them in an epoch, B batch, C classes, D features, F hidden width.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lra_diffusion.method.diffusion import (
    TIMESTEPS,
    antithetic_times,
    betas,
    cumulative_alphas,
    diffuse,
    learning_rate,
    weighted_noise_loss,
)
from lra_diffusion.method.epoch import check_finite, shuffled, stream_seed, torch_stream
from lra_diffusion.method.evaluate import EvaluationSet, Row, accuracies
from lra_diffusion.method.guide import Guide
from lra_diffusion.method.images import Autocast, Images
from lra_diffusion.method.networks import Model, NoisePredictor, WeightAverage
from lra_diffusion.method.progress import watched
from lra_diffusion.method.ranks import Ranks
from lra_diffusion.method.retrieval import draw_labels
from lra_diffusion.method.settings import Settings

GRADIENT_NORM = 1.0  # each trained part is clipped to it by itself


class TrainingSet(NamedTuple):
    """images: N; labels: (N,) int64, noisy; clean: (N,) int64, None where they are unknown."""

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
        labels, classes = self.labels[order], range(int(self.labels.max()) + 1)
        return torch.cat([order[labels == c][: self.per_class] for c in classes]).sort().values


@dataclass
class Learner:
    """All that training changes, the precision of its encoder's forward passes, and who trains it.

    parallel: predictor and encoder as training calls them, see `Ranks.parallel`.
    """

    predictor: NoisePredictor
    encoder: nn.Module
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    autocast: Autocast
    ranks: Ranks
    parallel: tuple[nn.Module, nn.Module]

    def model(self, weights: str) -> Model:
        """Predictor and encoder as trained (raw), or their EMA (ema)."""
        if weights == "raw":
            return Model(self.predictor, self.encoder)
        predictor, *encoder = self.average.nets
        assert isinstance(predictor, NoisePredictor)
        # A frozen one is as it was.
        return Model(predictor, encoder[0] if encoder else self.encoder)

    def state_dict(self) -> dict[str, Any]:
        return {
            "predictor": self.predictor.state_dict(),
            "encoder": self.encoder.state_dict(),
            "average": [net.state_dict() for net in self.average.nets],
            "optimizer": self.optimizer.state_dict(),
        }

    def load_networks(self, state: dict[str, Any]) -> None:
        """All of a state but the optimizer's part, which depends on the device."""
        self.predictor.load_state_dict(state["predictor"])
        self.encoder.load_state_dict(state["encoder"])
        for net, saved in zip(self.average.nets, state["average"]):
            net.load_state_dict(saved)


def train(
    learner: Learner,
    train_set: TrainingSet,
    test_sets: Mapping[str, EvaluationSet],
    settings: Settings,
    first_epoch: int = 1,
) -> Iterator[Row]:
    """Trains from `first_epoch` to the last one and yields a row of figures after each."""
    for epoch in range(first_epoch, settings.nepoch + 1):
        start = time.perf_counter()
        stream = torch_stream(train_set.images.device, settings.seed, epoch, "samples")
        row: Row = {"epoch": epoch}
        row |= train_epoch(learner, train_set, train_set.samples(stream), settings, epoch)
        seconds = time.perf_counter() - start
        row |= accuracies(learner, test_sets, settings, epoch)
        row |= {
            "seconds": round(time.perf_counter() - start, 3),
            "images_per_s": round(row["images"] / seconds, 1),
        }
        yield learner.ranks.each(row)[0]  # by one clock


def train_epoch(
    learner: Learner, train_set: TrainingSet, samples: Tensor, settings: Settings, epoch: int
) -> Row:
    """One pass over `samples` (M,) in random order: the algorithm box.

    A label is drawn from the neighbours' and the own one, diffused to a random time, and the noise
    in it is predicted from the image, f_p's feature and the time. Returns the mean loss and how
    many of the drawn labels are right, in percent. Of several ranks, each draws for the whole batch
    and predicts for its rows.
    """
    device, ranks = train_set.images.device, learner.ranks
    streams = {
        name: torch_stream(device, settings.seed, epoch, name)
        for name in ("shuffle", "retrieval", "time", "noise")
    }
    batches = shuffled(samples, settings.batch_size, streams["shuffle"], settings.drop_last)
    if len(batches) > 1 and len(batches[-1]) == 1:
        # DEVIATION(lra_diffusion): a last batch of one image joins the batch before; the original
        # fails on it.
        batches = [*batches[:-2], torch.cat([*batches[-2:]])]
    seed = stream_seed(settings.seed, epoch, "augmentation")
    views = train_set.images.views(batches, seed, ranks)
    alphas = cumulative_alphas(betas()).to(device)
    classes = learner.predictor.num_classes
    trained = [learner.predictor, *([] if settings.freeze_encoder else [learner.encoder])]
    predictor, encoder = learner.parallel
    losses: list[Tensor] = []
    right = []
    learner.predictor.train()
    learner.encoder.train()
    steps = watched(batches, f"epoch {epoch}", losses=losses)
    for step, (index, images) in enumerate(zip(steps, views)):
        count = len(index)
        rows, own = ranks.rows(count), slice(ranks.own(count))
        feature, candidates = train_set.guide(index[rows], images)
        candidates = ranks.gather(candidates, count)
        drawn = draw_labels(candidates, streams["retrieval"], settings.weighted)
        t = antithetic_times(count, TIMESTEPS, streams["time"])
        noise = torch.randn(count, classes, device=device, generator=streams["noise"])
        y_t = diffuse(F.one_hot(drawn.labels, classes).float(), t, noise, alphas)
        # DEVIATION(lra_diffusion): the diffusion encoder is trained; on CIFAR and Food-101N the
        # original leaves it at its first weights, against the paper. --freeze_encoder does that
        # here.
        with learner.autocast(), torch.set_grad_enabled(not settings.freeze_encoder):
            embedding = encoder(images)
        predicted = predictor(embedding.float(), y_t[rows], t[rows], feature)
        counted = noise[rows][own], predicted[own], drawn.weights[rows][own]
        loss = ranks.total(weighted_noise_loss(*counted))
        learner.optimizer.zero_grad()
        loss.backward()
        for net in trained:
            nn.utils.clip_grad_norm_(net.parameters(), GRADIENT_NORM)
        progress = epoch - 1 + step / len(batches)
        lr = learning_rate(progress, settings.warmup_epochs, settings.lr_horizon, settings.lr)
        learner.optimizer.param_groups[0]["lr"] = lr
        learner.optimizer.step()
        learner.average.update()
        losses.append(loss.detach())
        if train_set.clean is not None:
            right.append((drawn.labels == train_set.clean[index]) * drawn.weights)
    check_finite(losses, epoch)
    ranks.share_buffers(learner.predictor, learner.encoder, *learner.average.nets)
    return {
        "loss": torch.stack(losses).mean().item(),
        "lr": lr,
        "drawn_labels_right": 100 * torch.cat(right).sum().item() / len(batches) if right else None,
        "images": sum(map(len, batches)),
    }
