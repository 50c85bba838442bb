"""torchvision's operators in the place of mmcv's compiled extension, where that is missing.

Importing mmdet.models loads `mmcv._ext`, for which no binary is published and whose compilation
takes minutes and a C++20 compiler. Mask R-CNN uses three of its functions, which torchvision ships
for CPU and CUDA: nms and RoIAlign there and back. `install` must run before the first import of
mmcv.ops. Every other function of the extension exists by name, since mmcv looks at import time
whether it is there, and raises when it is called.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor

EXTENSION = "mmcv._ext"
AVERAGE = 1  # mmcv's number of pool_mode="avg"; 0 is "max"
COMPILE = (
    "compile mmcv's own operators with `make setup-noisy_instseg OPS=compiled` in a checkout, "
    "since no image has a compiler"
)


def install() -> bool:
    """Puts the replacement into sys.modules unless mmcv has its extension; whether it is there."""
    if EXTENSION in sys.modules:
        return isinstance(sys.modules[EXTENSION], TorchvisionOps)
    if importlib.util.find_spec(EXTENSION) is not None:
        return False
    sys.modules[EXTENSION] = TorchvisionOps()
    return True


class TorchvisionOps(ModuleType):
    """Stands for `mmcv._ext`: the three functions below; any other raises NotImplementedError."""

    def __init__(self) -> None:
        super().__init__(EXTENSION, __doc__)
        self.__spec__ = ModuleSpec(EXTENSION, loader=None, origin=__name__)
        self.nms = nms
        self.roi_align_forward = roi_align_forward
        self.roi_align_backward = roi_align_backward

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):  # Python asks for __path__, __file__ and the like: really missing
            raise AttributeError(f"module {EXTENSION!r} has no attribute {name!r}")

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise NotImplementedError(
                f"mmcv's operator {name!r} is not compiled and torchvision stands in only for "
                f"nms and roi_align; {COMPILE}"
            )

        return missing


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes kept, best score first: (K,) int64.

    boxes: (N, 4) x1 y1 x2 y2; scores: (N,); offset: 0, or 1 where the far edge belongs to the box,
    so that its width is x2 - x1 + 1.
    """
    boxes = _computable(boxes)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    kept: Tensor = torchvision.ops.nms(boxes, scores.to(boxes.dtype), iou_threshold)
    return kept


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill output (R, C, height, width) with the average over each bin of each RoI.

    Both argmax are those of max pooling, unused. input: (N, C, H, W) of any memory format; rois:
    (R, 5), the index of the image and x1 y1 x2 y2 in its pixels; spatial_scale: pixels of input per
    pixel of the image; sampling_ratio: points per bin and axis, 0 for as many as the bin has
    pixels; aligned: shift by half a pixel. bfloat16 and float16 are computed in float32 and rounded
    once.
    """
    _require_average(pool_mode)
    features = _computable(input)
    pooled = torch.ops.torchvision.roi_align(
        features,
        rois.to(features.dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill grad_input (N, C, H, W) with the gradient of grad_output (R, C, height, width).

    As forward otherwise.
    """
    _require_average(pool_mode)
    grad = _computable(grad_output)
    bins = (aligned_height, aligned_width)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad,
            rois.to(grad.dtype),
            spatial_scale,
            *bins,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def _computable(tensor: Tensor) -> Tensor:
    """float32 or wider: torchvision's kernels have no bfloat16, on CPUs no float16 either."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _require_average(pool_mode: int) -> None:
    if pool_mode != AVERAGE:
        raise NotImplementedError(
            f"torchvision's RoIAlign cannot do pool_mode='max'; use pool_mode='avg', or {COMPILE}"
        )
