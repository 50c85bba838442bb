"""The registered modules: as a config builds them, as mmdetection's head calls them, and what they
refuse.
"""

import pytest
import torch

from noisy_instseg import losses
from noisy_instseg.loss_modules import (
    GeneralizedCrossEntropyLoss,
    NewCombinationLoss,
    SymmetricCrossEntropyLoss,
)

MODULES = [NewCombinationLoss, SymmetricCrossEntropyLoss, GeneralizedCrossEntropyLoss]
N, C = 20, 8


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, C + 1, (N,), generator=generator)
    weight = torch.randint(0, 3, (N,), generator=generator).float()
    return torch.randn(N, C + 1, generator=generator, requires_grad=True), labels, weight


@pytest.mark.parametrize("module", MODULES)
def test_the_registry_builds_what_the_authors_configs_say(models, module):
    built = models.build(
        dict(
            type=module.__name__,
            use_sigmoid=False,
            use_mask=False,
            reduction="mean",
            class_weight=None,
            num_classes=C,
            loss_weight=1.0,
        )
    )
    assert isinstance(built, module)
    assert not built.state_dict()


@pytest.mark.parametrize("module", MODULES)
def test_weights_and_reductions_are_mmdetections(models, module, batch):
    from mmdet.models.losses.utils import weight_reduce_loss

    logits, labels, weight = batch
    loss = module(loss_weight=2.0)
    each, _ = loss.terms(logits, labels, None)
    for given in (None, weight):
        for reduction, avg_factor in (
            ("mean", None),
            ("mean", 7.0),
            ("sum", None),
            ("none", None),
            ("none", 7.0),
        ):
            expected = 2 * weight_reduce_loss(each, given, reduction, avg_factor)
            found = loss(logits, labels, given, avg_factor=avg_factor, reduction_override=reduction)
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(
                module(reduction=reduction)(logits, labels, given, avg_factor), expected / 2
            )
    with pytest.raises(ValueError, match="avg_factor can not be used"):
        loss(logits, labels, avg_factor=7.0, reduction_override="sum")
    with pytest.raises(ValueError, match="choose one of none, mean, sum"):
        loss(logits, labels, reduction_override="max")


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("avg_factor", [None, 1.0])
def test_no_regions_cost_nothing(module, avg_factor):
    logits = torch.zeros(0, C + 1, requires_grad=True)
    loss = module()(logits, torch.zeros(0, dtype=torch.long), avg_factor=avg_factor)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == (0, C + 1)


@pytest.mark.parametrize("module", MODULES)
def test_what_the_original_ignored_is_refused(module):
    with pytest.raises(AssertionError):
        module(use_sigmoid=True, use_mask=True)
    for wrong in ({"use_sigmoid": True}, {"use_mask": True}, {"class_weight": [1.0] * 9}):
        with pytest.raises(ValueError, match="has no meaning; remove it"):
            module(**wrong)
    with pytest.raises(ValueError, match="choose one of"):
        module(reduction="max")
    with pytest.raises(
        ValueError,
        match=r"num_classes=9 counts the foreground classes and asks for 10 columns.* set 8",
    ):
        module(num_classes=9)(torch.zeros(2, 9), torch.tensor([0, 1]))


@pytest.mark.parametrize("module", MODULES)
def test_an_ignored_label_has_no_loss_but_counts_in_the_mean(module, batch):
    logits, labels, _ = batch
    ignored = labels.clone()
    ignored[:5] = -100
    found = module(ignore_index=-100)(logits, ignored)
    torch.testing.assert_close(found, module()(logits[5:], labels[5:], avg_factor=float(N)))
    with pytest.raises(ValueError, match="ignore_index"):
        module()(logits, ignored)


def test_the_sets_are_logged(batch):
    logits, labels, weight = batch
    logged = NewCombinationLoss(log_partition=True, pon_threshold=1.0, ignore_index=0)(
        logits, labels, weight, avg_factor=3.0
    )
    plain = NewCombinationLoss(pon_threshold=1.0, ignore_index=0)(
        logits, labels, weight, avg_factor=3.0
    )
    assert torch.equal(logged["loss_cls"], plain)
    sets = losses.partition(logits, labels, 1.0)[labels != 0]
    for number, name in enumerate(("NEG", "PSN", "OS", "PON")):
        assert logged[name].dtype == torch.float32
        assert logged[name].item() == (sets == number).sum()


def test_mmdetections_head_takes_the_loss_and_its_log(models):
    from mmdet.models import Shared2FCBBoxHead

    loss_cls = dict(type="NewCombinationLoss", num_classes=C, log_partition=True)
    head = Shared2FCBBoxHead(
        in_channels=4, fc_out_channels=8, roi_feat_size=7, num_classes=C, loss_cls=loss_cls
    )
    scores, boxes = head(torch.randn(6, 4, 7, 7))
    rois, labels = torch.zeros(6, 5), torch.tensor([0, 8, 8, 3, 8, 1])
    parts = head.loss(
        scores, boxes, rois, labels, torch.ones(6), torch.zeros(6, 4), torch.zeros(6, 4)
    )
    assert {"loss_cls", "NEG", "PSN", "OS", "PON", "acc", "loss_bbox"} <= set(parts)
    torch.testing.assert_close(
        parts["loss_cls"], losses.new_combination_loss(scores, labels).mean()
    )
    assert parts["NEG"].item() == 3
    parts["loss_cls"].backward()
    assert head.fc_cls.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("value", ["six", None, [1.0], float("nan"), float("inf")])
def test_weights_and_thresholds_are_finite_numbers(value):
    """Texts are what a slip of --cfg-options makes of them; they would fail in the first step."""
    settings = {
        NewCombinationLoss: ["loss_weight", "loss_weight1", "loss_weight2", "pon_threshold"],
        SymmetricCrossEntropyLoss: ["loss_weight", "loss_weight1", "loss_weight2"],
        GeneralizedCrossEntropyLoss: ["loss_weight", "q"],
    }
    for module, names in settings.items():
        for name in names:
            if name == "pon_threshold" and value is None:
                continue
            with pytest.raises(ValueError, match=rf"{name}=.*; give a finite number"):
                module(**{name: value})
    assert NewCombinationLoss(pon_threshold=None).pon_threshold is None


def test_q_is_checked():
    with pytest.raises(ValueError, match=r"outside \(0, 1\]"):
        GeneralizedCrossEntropyLoss(q=0)
