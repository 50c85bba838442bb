"""The label diffusion against the formulas, written slowly."""

import math

import numpy as np
import pytest
import torch

from lra_diffusion.method.diffusion import (
    SCHEDULES,
    antithetic_times,
    betas,
    class_probabilities,
    cumulative_alphas,
    ddim,
    ddim_times,
    diffuse,
    learning_rate,
    reverse_steps,
    weighted_noise_loss,
)
from lra_diffusion.method.evaluate import label_trajectory
from lra_diffusion.method.networks import NoisePredictor

ALPHAS = cumulative_alphas(betas())


def test_cosine_schedule_is_the_papers():
    def height(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [min(1 - height((i + 1) / 1000) / height(i / 1000), 0.999) for i in range(1000)]
    np.testing.assert_allclose(betas().numpy(), expected, rtol=1e-5)
    assert betas()[0].item() == pytest.approx(4.1284e-5, rel=1e-4)
    assert betas()[999].item() == pytest.approx(0.999)
    assert ALPHAS[0].item() == pytest.approx(0.99995869, abs=1e-8)
    assert ALPHAS[901].item() == pytest.approx(0.02314512, abs=1e-7)
    assert ALPHAS[999].item() == pytest.approx(2.43e-9, rel=2e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_variances_between_0_and_1(name):
    values = betas(name, 50)
    assert values.shape == (50,)
    assert values.dtype == torch.float32
    assert ((values > 0) & (values <= 1)).all()


def test_other_schedules_by_their_formulas():
    count, start, end = 20, 1e-4, 0.02
    steps = np.arange(count) / (count - 1)
    expected = {
        "linear": start + steps * (end - start),
        "const": np.full(count, end),
        "quad": (start**0.5 + steps * (end**0.5 - start**0.5)) ** 2,
        "jsd": 1 / np.arange(count, 0, -1),
        "sigmoid": (end - start) / (1 + np.exp(-(-6 + 12 * steps))) + start,
        "cosine_anneal": start + 0.5 * (end - start) * (1 - np.cos(np.pi * steps)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(betas(name, count).numpy(), values, rtol=1e-5, err_msg=name)
    with pytest.raises(ValueError, match="unknown schedule 'steep': choose one of cosine, linear"):
        betas("steep")


def test_forward_process_mixes_label_prior_and_noise():
    generator = torch.Generator().manual_seed(1)
    clean, noise, prior = (torch.randn(4, 3, generator=generator) for _ in range(3))
    t = torch.tensor([0, 10, 500, 999])
    plain, with_prior = diffuse(clean, t, noise, ALPHAS), diffuse(clean, t, noise, ALPHAS, prior)
    for b in range(4):
        alpha = ALPHAS[t[b]].item()
        for c in range(3):
            value = (
                math.sqrt(alpha) * clean[b, c].item() + math.sqrt(1 - alpha) * noise[b, c].item()
            )
            assert plain[b, c].item() == pytest.approx(value, abs=1e-5)
            value += (1 - math.sqrt(alpha)) * prior[b, c].item()
            assert with_prior[b, c].item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_antithetic_times_mirror_the_drawn_ones(count):
    times = antithetic_times(count, 1000, torch.Generator().manual_seed(3))
    drawn = torch.randint(
        0, 1000, (count // 2 + 1,), generator=torch.Generator().manual_seed(3)
    ).tolist()
    assert times.tolist() == [*drawn, *(999 - t for t in drawn)][:count]


def test_loss_is_the_weighted_mean_over_the_batch_and_the_mean_over_classes():
    generator = torch.Generator().manual_seed(0)
    noise, predicted = (
        torch.randn(5, 3, generator=generator),
        torch.randn(5, 3, generator=generator),
    )
    weights = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15])
    expected = sum(
        weights[b].item() * (noise[b, c].item() - predicted[b, c].item()) ** 2 / 3
        for b in range(5)
        for c in range(3)
    )
    assert weighted_noise_loss(noise, predicted, weights).item() == pytest.approx(
        expected, rel=1e-5
    )
    uniform = weighted_noise_loss(noise, predicted, torch.full((5,), 0.2))
    assert uniform.item() == pytest.approx(
        torch.nn.functional.mse_loss(predicted, noise).item(), rel=1e-5
    )


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 500])
def test_ddim_times_of_divisors_are_the_published_ones(steps):
    assert ddim_times(steps).tolist() == [i + 1 for i in range(0, 1000, 1000 // steps)]


@pytest.mark.parametrize("steps", [3, 7, 300, 499])
def test_ddim_times_of_other_numbers_are_exactly_so_many_and_inside(steps):
    times = ddim_times(steps).tolist()
    assert len(times) == len(set(times)) == steps
    assert times == sorted(times)
    assert times[0] == 1
    assert times[-1] <= 999


@pytest.mark.parametrize("steps", [0, 501, 1000])
def test_ddim_steps_that_cannot_work_are_refused(steps):
    with pytest.raises(ValueError, match="give a number between 1 and 500"):
        ddim_times(steps)


def test_quadratic_spacing():
    expected = [int(value**2) + 1 for value in np.linspace(0, (0.8 * 1000) ** 0.5, 10)]
    assert ddim_times(10, spacing="quad").tolist() == expected


def toy_noise(y, t, feature):
    return 0.3 * y + 0.05 * feature + 0.1 * math.sin(t / 100)


@pytest.mark.parametrize("with_prior", [False, True])
def test_ddim_against_the_literal_loop(with_prior):
    feature = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior = (
        torch.full((3, 4), 0.4, dtype=torch.float64)
        if with_prior
        else torch.zeros(3, 4, dtype=torch.float64)
    )
    steps = reverse_steps(ALPHAS.double(), ddim_times(10))
    points = ddim(lambda y, i: toy_noise(y, int(steps.times[i]), feature), prior, steps, prior)
    y = prior.clone()
    times = [1 + 100 * i for i in range(10)]
    for i in reversed(range(10)):
        alpha = ALPHAS[times[i]].item()
        previous = ALPHAS[times[i - 1]].item() if i else ALPHAS[0].item()
        noise = toy_noise(y, times[i], feature)
        clean = (y - (1 - alpha**0.5) * prior - (1 - alpha) ** 0.5 * noise) / alpha**0.5
        y = previous**0.5 * clean + (1 - previous**0.5) * prior + (1 - previous) ** 0.5 * noise
        np.testing.assert_allclose(points[10 - i].numpy(), y.numpy(), rtol=1e-9)
    assert len(points) == 11


def test_a_stochastic_step_adds_noise_of_the_right_size():
    steps = reverse_steps(ALPHAS, ddim_times(4), eta=0.5)
    for i, time in enumerate((1, 251, 501, 751)):
        here, previous = (
            ALPHAS[time].item(),
            (ALPHAS[(1, 251, 501, 751)[i - 1]] if i else ALPHAS[0]).item(),
        )
        sigma = 0.5 * math.sqrt((1 - previous) / (1 - here) * (1 - here / previous))
        assert steps.sigmas[i].item() == pytest.approx(sigma, rel=1e-3)
    start = torch.zeros(2, 3)
    first, again, other = (
        ddim(lambda y, i: y, start, steps, generator=torch.Generator().manual_seed(seed))[-1]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_read_out_takes_the_coordinate_closest_to_1():
    y = torch.tensor([[0.9, 1.5, 0.0], [0.2, 0.1, -3.0], [1.0, 1.0, 5.0]])
    probabilities = class_probabilities(y)
    assert probabilities.argmax(dim=1).tolist() == [0, 0, 0]
    for row, values in zip(probabilities.tolist(), y.tolist()):
        weights = [math.exp(-((value - 1) ** 2)) for value in values]
        assert row == pytest.approx([weight / sum(weights) for weight in weights], rel=1e-5)


def test_learning_rate_rises_then_falls_as_half_a_cosine():
    assert learning_rate(0, 5, 200) == 0
    assert learning_rate(2.5, 5, 200) == pytest.approx(0.5e-3)
    assert learning_rate(5, 5, 200) == pytest.approx(1e-3)
    assert learning_rate(102.5, 5, 200) == pytest.approx(0.5e-3)
    # The published horizon at 200 epochs.
    assert learning_rate(200, 5, 1000) / 1e-3 == pytest.approx(0.908, abs=1e-3)
    assert learning_rate(7, 0, 7, peak=0.1) == pytest.approx(0)


def test_a_label_is_led_from_zero_by_the_predictor():
    torch.manual_seed(0)
    predictor = NoisePredictor(num_classes=5, feature_dim=12, hidden=16).eval()
    embedding, feature = torch.randn(7, 16), torch.randn(7, 12)
    steps = reverse_steps(ALPHAS, ddim_times(4))
    with torch.no_grad():
        expected = ddim(
            lambda y, i: predictor(embedding, y, torch.full((7,), 1 + 250 * i), feature),
            torch.zeros(7, 5),
            steps,
        )
    predictor.train()  # evaluation mode is the sampler's business
    points = label_trajectory(predictor, embedding, feature, steps)
    assert torch.equal(points, torch.stack(expected))
    assert not points.requires_grad


def test_predictor_by_its_formula():
    torch.manual_seed(1)
    predictor = NoisePredictor(num_classes=4, feature_dim=5, hidden=8, timesteps=30).eval()
    embedding, y, feature, t = (
        torch.randn(6, 8),
        torch.randn(6, 4),
        torch.randn(6, 5),
        torch.tensor([0, 3, 7, 12, 20, 29]),
    )

    def normalised(values, norm):
        scaled = (values - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + 1e-5)
        return scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy()

    def gated(values, layer):
        weight, bias = layer.lin.weight.detach().numpy(), layer.lin.bias.detach().numpy()
        return layer.embed.weight.detach().numpy()[t.numpy()] * (values @ weight.T + bias)

    def softplus(values):
        return np.log1p(np.exp(values))

    hidden = softplus(
        normalised(gated(np.hstack([y, feature]), predictor.lin1), predictor.unetnorm1)
    )
    hidden = normalised(embedding.numpy(), predictor.norm) * hidden
    hidden = softplus(normalised(gated(hidden, predictor.lin2), predictor.unetnorm2))
    hidden = softplus(normalised(gated(hidden, predictor.lin3), predictor.unetnorm3))
    expected = (
        hidden @ predictor.lin4.weight.detach().numpy().T + predictor.lin4.bias.detach().numpy()
    )
    np.testing.assert_allclose(
        predictor(embedding, y, t, feature).detach().numpy(), expected, atol=1e-5
    )
    gates = predictor.lin1.embed.weight
    assert gates.shape == (31, 8)
    assert gates.min() >= 0
    assert gates.max() <= 1
