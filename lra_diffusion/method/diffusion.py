"""The label diffusion: schedules, forward process, reverse steps (DDIM), read-out, loss.

Chen et al., NeurIPS 2023, on Song et al., "Denoising diffusion implicit models", ICLR 2021. A label
is a one-hot vector y_0 that is diffused to noise; it is recovered in S steps that start from the
prior mean (zero). Everything here is float32 and works on any device. The prior mean, stochastic
steps, quadratic spacing and the schedules beside the cosine are part of the published process,
checked against it, and used by no script.
Letters: B batch, C classes, T diffusion steps (t = 0 ... T - 1), S reverse steps.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

TIMESTEPS = 1000
COSINE_OFFSET = 0.008
MAX_BETA = 0.999
LINEAR_RANGE = (1e-4, 0.02)  # first and last beta of the schedules that are not cosine
SCHEDULES = ("cosine", "linear", "const", "quad", "jsd", "sigmoid", "cosine_anneal")


def betas(name: str = "cosine", timesteps: int = TIMESTEPS) -> Tensor:
    """The variances beta_t of a schedule of SCHEDULES, (T,) float32, computed in float64."""
    start, end = LINEAR_RANGE
    steps = torch.arange(timesteps, dtype=torch.float64)
    if name == "cosine":
        u = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
        height = torch.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
        values = (1 - height[1:] / height[:-1]).clamp(max=MAX_BETA)
    elif name == "linear":
        values = torch.linspace(start, end, timesteps, dtype=torch.float64)
    elif name == "const":
        values = torch.full((timesteps,), end, dtype=torch.float64)
    elif name == "quad":
        values = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2
    elif name == "jsd":
        values = 1 / torch.linspace(timesteps, 1, timesteps, dtype=torch.float64)
    elif name == "sigmoid":
        u = torch.linspace(-6, 6, timesteps, dtype=torch.float64)
        values = torch.sigmoid(u) * (end - start) + start
    elif name == "cosine_anneal":
        values = start + 0.5 * (end - start) * (1 - torch.cos(steps * math.pi / (timesteps - 1)))
    else:
        raise ValueError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}")
    return values.float()


def cumulative_alphas(variances: Tensor) -> Tensor:
    """alpha_bar_t = prod_{s <= t} (1 - beta_s), (T,) float32, as a running product in float32."""
    return torch.cumprod(1 - variances, dim=0)


def antithetic_times(count: int, timesteps: int, generator: torch.Generator) -> Tensor:
    """Time steps in [0, T), half of them drawn, half T - 1 minus those; (count,) int64."""
    size = (count // 2 + 1,)
    drawn = torch.randint(0, timesteps, size, generator=generator, device=generator.device)
    return torch.cat([drawn, timesteps - 1 - drawn])[:count]


def diffuse(
    clean: Tensor, t: Tensor, noise: Tensor, alphas: Tensor, prior: Tensor | float = 0.0
) -> Tensor:
    """y_t = sqrt(ab) y_0 + (1 - sqrt(ab)) f_q + sqrt(1 - ab) eps, ab = alpha_bar_t.

    clean: (B, C) y_0; t: (B,) int64 in [0, T); noise: (B, C) eps; alphas: (T,); prior: the mean f_q
    that the process ends in, (B, C) or 0.
    """
    signal = alphas[t, None].sqrt()
    return signal * clean + (1 - signal) * prior + (1 - alphas[t, None]).sqrt() * noise


def weighted_noise_loss(noise: Tensor, predicted: Tensor, weights: Tensor) -> Tensor:
    """Mean over classes of sum_b w_b (eps - eps_hat)^2, a scalar.

    noise, predicted: (B, C); weights: (B,), sum 1.
    """
    return (weights[:, None] * (noise - predicted).square()).sum(dim=0).mean()


class ReverseSteps(NamedTuple):
    """The S steps of DDIM in order of increasing time."""

    times: Tensor  # (S,) int64
    alphas: Tensor  # (S,) alpha_bar at those times
    # (S,) alpha_bar where a step ends: that of the time before, at the first one alpha_bar_0
    previous_alphas: Tensor
    sigmas: Tensor  # (S,) deviation of the noise a step adds; 0 for eta = 0


# DEVIATION(lra_diffusion): S reverse steps are exactly S; the original takes 8 for 7, and indexes
# beyond the schedule for 3 or more than 500.
def ddim_times(steps: int, timesteps: int = TIMESTEPS, spacing: str = "uniform") -> Tensor:
    """Time indices (S,) int64, ascending: 1, 101, ..., 901 for S = 10, T = 1000.

    ValueError unless 1 <= S <= T / 2.
    """
    if not 1 <= steps <= timesteps // 2:
        raise ValueError(
            f"{steps} reverse steps of {timesteps}: give a number between 1 and {timesteps // 2}"
        )
    if spacing == "quad":
        roots = torch.linspace(0, (0.8 * timesteps) ** 0.5, steps, dtype=torch.float64)
        return (roots**2).long() + 1
    return torch.arange(steps) * timesteps // steps + 1


def reverse_steps(alphas: Tensor, times: Tensor, eta: float = 0.0) -> ReverseSteps:
    """What each reverse step needs.

    alphas: (T,) alpha_bar; times: (S,) int64, ascending; eta: 0 is deterministic.
    """
    times = times.to(alphas.device)
    here = alphas[times]
    previous = torch.cat([alphas[:1], here[:-1]])
    sigmas = eta * ((1 - previous) / (1 - here) * (1 - here / previous)).sqrt()
    return ReverseSteps(times, here, previous, sigmas)


def ddim(
    predict_noise: Callable[[Tensor, int], Tensor],
    start: Tensor,
    steps: ReverseSteps,
    prior: Tensor | float = 0.0,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """The S + 1 points y (B, C) of the reverse process, from the last time down, the start first.

    predict_noise: of (y (B, C), position in `steps`); start: (B, C), the prior mean. The last point
    is the one that is read out, at noise level alpha_bar_0 = 0.99996: the published code returns it
    rather than its estimate of y_0. generator: only needed where sigmas are not 0.
    """
    points = [start]
    rows = zip(steps.alphas.tolist(), steps.previous_alphas.tolist(), steps.sigmas.tolist())
    for position, (alpha, previous, sigma) in reversed(list(enumerate(rows))):
        noise = predict_noise(points[-1], position)
        clean = estimated_label(points[-1], noise, alpha, prior)
        y = math.sqrt(previous) * clean + (1 - math.sqrt(previous)) * prior
        y = y + math.sqrt(1 - previous - sigma**2) * noise
        if sigma:
            y = y + sigma * torch.randn(y.shape, generator=generator, device=y.device)
        points.append(y)
    return points


def estimated_label(y: Tensor, noise: Tensor, alpha: float, prior: Tensor | float = 0.0) -> Tensor:
    """The estimate of y_0 from y_t and its noise, (B, C); alpha: alpha_bar_t."""
    signal = math.sqrt(alpha)
    return (y - (1 - signal) * prior - math.sqrt(1 - alpha) * noise) / signal


def class_probabilities(y: Tensor) -> Tensor:
    """softmax(-(y - 1)^2), (B, C): the most probable class has the coordinate closest to 1.

    That is not the largest coordinate: (0.9, 1.5, 0) is class 0. y: (B, C), the last point of the
    reverse process.
    """
    return torch.softmax(-((y - 1) ** 2), dim=1)


def learning_rate(progress: float, warmup: float, horizon: float, peak: float = 1e-3) -> float:
    """Linear warm-up, then half a cosine down to 0 at `horizon`.

    progress, warmup, horizon: in epochs, fractions allowed.
    """
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (horizon - warmup)))
