"""The losses as mmdetection modules, under the names and arguments that the authors' configs use.

They honour what mmdetection hands to a loss: weight, avg_factor and reduction_override. In its
standard box head (unit weights, avg_factor = N) that is the authors' mean over all regions. Nothing
but the registry is imported, so that this costs no second.
"""

import math
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from noisy_instseg import losses

REDUCTIONS = ("none", "mean", "sum")


class _ClassificationLoss(nn.Module):
    """Checks, weights and reduces; a subclass gives `terms`, the loss of each region.

    num_classes: C, or None to take it from the logits; a given one is checked, which finds a head
    and a loss that disagree. loss_weight: factor on everything. ignore_index: label without loss;
    its regions still count in a mean, as in mmdet. use_sigmoid, use_mask, class_weight: known to
    the authors' configs, without effect in their code; only the defaults pass.
    """

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: str = "mean",
        class_weight: Any = None,
        num_classes: int | None = None,
        *,
        loss_weight: float = 1.0,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        assert not (use_sigmoid and use_mask), (
            "use_sigmoid and use_mask exclude each other; leave both False"
        )
        # DEVIATION(noisy_instseg): use_sigmoid, use_mask and class_weight are refused; the original
        # ignores them silently.
        refused = {"use_sigmoid": use_sigmoid, "use_mask": use_mask, "class_weight": class_weight}
        for name, value in refused.items():
            if value not in (False, None):
                raise ValueError(
                    f"{type(self).__name__} is a plain softmax loss: {name}={value!r} has no "
                    "meaning; remove it"
                )
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction={reduction!r}; choose one of {', '.join(REDUCTIONS)}")
        check_finite(loss_weight=loss_weight)
        self.reduction = reduction
        # DEVIATION(noisy_instseg): num_classes is taken from the logits unless given; the
        # original's default is 8, which fails on COCO.
        self.num_classes = num_classes
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index

    def terms(
        self, logits: Tensor, labels: Tensor, counted: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each region, (N,) float, and what the log should show beside it.

        counted: (N,) bool, None for all.
        """
        raise NotImplementedError

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Tensor | dict[str, Tensor]:
        """A scalar, or (N,) with reduction "none"; with something to log, a dict with loss_cls.

        cls_score: (N, C + 1) float; label: (N,) int64 in [0, C]; weight: (N,) >= 0; avg_factor:
        what a mean divides by instead of N; reduction_override: in place of the module's reduction;
        kwargs: what heads pass along, without effect as in mmdet.
        """
        if reduction_override not in (None, *REDUCTIONS):
            raise ValueError(
                f"reduction_override={reduction_override!r}; choose one of "
                f"{', '.join(REDUCTIONS)}, or None"
            )
        columns = cls_score.shape[1]
        if self.num_classes not in (None, columns - 1):
            raise ValueError(
                f"num_classes={self.num_classes} counts the foreground classes and asks for "
                f"{self.num_classes + 1} columns, cls_score has {columns}: set {columns - 1}"
            )
        counted = None
        if self.ignore_index is not None:
            counted = label != self.ignore_index
            label = label.where(counted, 0)
            weight = counted if weight is None else weight * counted
        # DEVIATION(noisy_instseg): weight, avg_factor and reduction are honoured; the original
        # ignores them.
        loss, logged = self.terms(cls_score, label, counted)
        loss = reduced(
            loss, weight, reduction_override or self.reduction, avg_factor, self.loss_weight
        )
        return {"loss_cls": loss, **logged} if logged else loss


def check_finite(**settings: Any) -> None:
    """Raises ValueError for a setting that is no number, before the first step stumbles over it."""
    for name, value in settings.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name}={value!r}; give a finite number")


def reduced(
    loss: Tensor, weight: Tensor | None, reduction: str, avg_factor: float | None, factor: float
) -> Tensor:
    """factor times mmdetection's weight_reduce_loss, with 0 for the mean of nothing.

    loss: (N,); weight: (N,) or None.
    """
    if avg_factor is not None and reduction == "sum":
        raise ValueError(
            'avg_factor can not be used with reduction="sum"; leave it None, or choose "mean"'
        )
    if reduction == "none":
        return factor * (loss if weight is None else loss * weight)
    if reduction == "mean":
        # DEVIATION(noisy_instseg): no regions give the loss 0, whose gradient is 0; the original
        # gives NaN.
        if avg_factor is None:
            factor /= max(1, len(loss))
        else:
            factor /= avg_factor + torch.finfo(torch.float32).eps  # it may be 0
    return factor * (loss.sum() if weight is None else loss.dot(weight.to(loss.dtype)))


@MODELS.register_module()
class NewCombinationLoss(_ClassificationLoss):
    """The paper's loss: CE between objects and background, reverse CE between the classes.

    pon_threshold: drop regions with a higher CE, 6.0 being the authors' value; None for none, as
    published. log_partition: return dict(loss_cls=, NEG=, PSN=, OS=, PON=) with the sizes of the
    sets, which mmdet's head logs.
    """

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: str = "mean",
        class_weight: Any = None,
        num_classes: int | None = None,
        loss_weight1: float = 1.0,
        loss_weight2: float = 1.0,
        *,
        pon_threshold: float | None = None,
        log_partition: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_sigmoid, use_mask, reduction, class_weight, num_classes, **kwargs)
        check_finite(loss_weight1=loss_weight1, loss_weight2=loss_weight2)
        if pon_threshold is not None:
            check_finite(pon_threshold=pon_threshold)
        self.loss_weight1 = loss_weight1
        self.loss_weight2 = loss_weight2
        self.pon_threshold = pon_threshold
        self.log_partition = log_partition

    def terms(
        self, logits: Tensor, labels: Tensor, counted: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        sets = losses.partition(logits, labels, self.pon_threshold)
        loss = losses.new_combination_loss(
            logits, labels, self.loss_weight1, self.loss_weight2, sets=sets
        )
        return loss, set_sizes(sets, counted) if self.log_partition else {}


def set_sizes(sets: Tensor, counted: Tensor | None) -> dict[str, Tensor]:
    """How many regions each set holds, float scalars.

    sets: (N,) of losses.partition; counted: (N,) bool, None for all.
    """
    if counted is not None:
        sets = sets.where(counted, -1)  # in no set
    numbers = torch.arange(len(losses.SET_NAMES), device=sets.device)
    return dict(zip(losses.SET_NAMES, (sets[:, None] == numbers).sum(dim=0).float()))


@MODELS.register_module()
class SymmetricCrossEntropyLoss(_ClassificationLoss):
    """w1 ce + w2 rce for every region, the first baseline."""

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: str = "mean",
        class_weight: Any = None,
        num_classes: int | None = None,
        loss_weight1: float = 1.0,
        loss_weight2: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_sigmoid, use_mask, reduction, class_weight, num_classes, **kwargs)
        check_finite(loss_weight1=loss_weight1, loss_weight2=loss_weight2)
        self.loss_weight1 = loss_weight1
        self.loss_weight2 = loss_weight2

    def terms(
        self, logits: Tensor, labels: Tensor, counted: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return losses.symmetric_cross_entropy(
            logits, labels, self.loss_weight1, self.loss_weight2
        ), {}


@MODELS.register_module()
class GeneralizedCrossEntropyLoss(_ClassificationLoss):
    """(1 - p_y^q) / q, the second baseline. q: in (0, 1]."""

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: str = "mean",
        class_weight: Any = None,
        num_classes: int | None = None,
        q: float = 0.3,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_sigmoid, use_mask, reduction, class_weight, num_classes, **kwargs)
        check_finite(q=q)
        if not 0 < q <= 1:
            raise ValueError(
                f"q={q} is outside (0, 1]; near 0 lies cross entropy, for which there is "
                "CrossEntropyLoss"
            )
        self.q = q

    def terms(
        self, logits: Tensor, labels: Tensor, counted: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return losses.generalized_cross_entropy(logits, labels, self.q), {}
