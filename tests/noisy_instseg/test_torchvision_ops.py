"""The stand-in for mmcv's extension: against slow numpy, and against the extension itself where it
is compiled.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from noisy_instseg.run import torchvision_ops

torchvision_ops.install()


def boxes(count: int, size: float, seed: int = 0) -> torch.Tensor:
    corner, extent = (
        torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed)) * size / 2
    )
    return torch.cat([corner, corner + extent + 1], dim=1)


def align(module, features, rois, sampling, aligned, scale=0.5, bins=(3, 2)):
    """(output, gradient of its sum weighted by position) of a module's two functions, called as
    mmcv.ops calls them.
    """
    output = features.new_zeros(len(rois), features.shape[1], *bins)
    unused = features.new_zeros(0)
    options = dict(
        aligned_height=bins[0],
        aligned_width=bins[1],
        spatial_scale=scale,
        sampling_ratio=sampling,
        pool_mode=1,
        aligned=aligned,
    )
    module.roi_align_forward(features, rois, output, unused, unused, **options)
    grad = torch.zeros_like(features)
    weights = torch.arange(output.numel()).reshape(output.shape).to(features.dtype) / output.numel()
    module.roi_align_backward(weights, rois, unused, unused, grad, **options)
    return output, grad, weights


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    top = plane[y0, x0] * (1 - (x - x0)) + plane[y0, x1] * (x - x0)
    return top * (1 - (y - y0)) + (plane[y1, x0] * (1 - (x - x0)) + plane[y1, x1] * (x - x0)) * (
        y - y0
    )


def slow_align(
    features: np.ndarray, rois: np.ndarray, sampling: int, aligned: bool, scale=0.5, bins=(3, 2)
) -> np.ndarray:
    output = np.zeros((len(rois), features.shape[1], *bins))
    for r, (image, *box) in enumerate(rois):
        x1, y1, x2, y2 = (value * scale - (0.5 if aligned else 0) for value in box)
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        bin_y, bin_x = height / bins[0], width / bins[1]
        ny, nx = (sampling or int(np.ceil(bin_y))), (sampling or int(np.ceil(bin_x)))
        for c, i, j in np.ndindex(output.shape[1:]):
            points = [
                bilinear(
                    features[int(image), c],
                    y1 + (i + (a + 0.5) / ny) * bin_y,
                    x1 + (j + (b + 0.5) / nx) * bin_x,
                )
                for a in range(ny)
                for b in range(nx)
            ]
            output[r, c, i, j] = np.mean(points)
    return output


@pytest.fixture
def regions():
    features = torch.randn(
        2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return features, torch.cat([torch.tensor([[0.0], [1], [1], [0]]), boxes(4, 22)], dim=1).double()


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_roi_align_is_the_mean_of_bilinear_samples(regions, sampling, aligned):
    features, rois = regions
    output, grad, weights = align(torchvision_ops, features, rois, sampling, aligned)
    np.testing.assert_allclose(
        output, slow_align(features.numpy(), rois.numpy(), sampling, aligned), atol=1e-12
    )
    step = torch.randn_like(
        features
    )  # RoIAlign is linear, so that the gradient predicts any step exactly
    moved = align(torchvision_ops, features + step, rois, sampling, aligned)[0]
    torch.testing.assert_close((grad * step).sum(), (weights * (moved - output)).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_mmcvs_layer_keeps_the_type_of_the_features(regions, dtype, autocast):
    from mmcv.ops import RoIAlign

    if dtype != torch.float32 and not torchvision_ops.install():
        pytest.skip("mmcv's compiled RoIAlign knows only float32 and float64 on a CPU")
    features, rois = regions
    leaf = features.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = RoIAlign((3, 2), 0.5, 2)(leaf, rois.float())
    output.sum().backward()
    assert output.dtype == leaf.grad.dtype == dtype
    expected = RoIAlign((3, 2), 0.5, 2)(leaf.detach().float(), rois.float())
    torch.testing.assert_close(
        output.float(), expected, rtol=1e-2 if dtype != torch.float32 else 1e-6, atol=1e-3
    )


def slow_nms(box: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for candidate in np.argsort(-scores, kind="stable"):
        for winner in kept:
            low, high = (
                np.maximum(box[candidate, :2], box[winner, :2]),
                np.minimum(box[candidate, 2:], box[winner, 2:]),
            )
            shared = np.prod(np.maximum(high - low + offset, 0))
            areas = [np.prod(box[k, 2:] - box[k, :2] + offset) for k in (candidate, winner)]
            if shared / (sum(areas) - shared) > threshold:
                break
        else:
            kept.append(int(candidate))
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 60])
def test_nms_keeps_the_best_of_overlapping_boxes(count, offset):
    box, scores = (
        boxes(count, 30).double(),
        torch.rand(count, generator=torch.Generator().manual_seed(2)).double(),
    )
    kept = torchvision_ops.nms(box, scores, iou_threshold=0.4, offset=offset)
    assert kept.dtype == torch.int64
    assert kept.tolist() == slow_nms(box.numpy(), scores.numpy(), 0.4, offset)


def test_what_torchvision_lacks_says_how_to_get_it(regions):
    features, rois = regions
    stand_in = torchvision_ops.TorchvisionOps()
    with pytest.raises(
        NotImplementedError,
        match=r"'deform_conv_forward' is not compiled.*make setup-noisy_instseg OPS=compiled",
    ):
        stand_in.deform_conv_forward(features, offset=1)
    assert not hasattr(stand_in, "__path__")
    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        torchvision_ops.roi_align_forward(features, rois, *[features] * 3, 3, 2, 0.5, 2, 0, True)
    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        torchvision_ops.roi_align_backward(features, rois, *[features] * 3, 3, 2, 0.5, 2, 0, True)


def test_install_takes_the_place_of_a_missing_extension_only(monkeypatch):
    monkeypatch.delitem(sys.modules, torchvision_ops.EXTENSION)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert torchvision_ops.install()
    assert torchvision_ops.install()
    assert isinstance(sys.modules[torchvision_ops.EXTENSION], torchvision_ops.TorchvisionOps)
    real = ModuleType(torchvision_ops.EXTENSION)
    monkeypatch.setitem(sys.modules, torchvision_ops.EXTENSION, real)
    assert not torchvision_ops.install()
    assert sys.modules[torchvision_ops.EXTENSION] is real
    monkeypatch.delitem(sys.modules, torchvision_ops.EXTENSION)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert not torchvision_ops.install()
    assert torchvision_ops.EXTENSION not in sys.modules


@pytest.mark.parametrize("aligned", [True, False])
def test_the_compiled_extension_agrees(aligned):
    extension = importlib.import_module(torchvision_ops.EXTENSION)
    if isinstance(extension, torchvision_ops.TorchvisionOps):
        pytest.skip("mmcv's operators are not compiled; make setup-noisy_instseg OPS=compiled")
    features = torch.randn(2, 8, 40, 50)
    rois = torch.cat([torch.arange(200)[:, None] % 2, boxes(200, 100)], dim=1).float()
    for sampling in (0, 2):
        ours, theirs = (
            align(module, features, rois, sampling, aligned)
            for module in (torchvision_ops, extension)
        )
        assert torch.equal(ours[0], theirs[0])
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-6, atol=1e-6)
    scores = torch.rand(200)
    for offset in (0, 1):
        kept = [
            module.nms(rois[:, 1:], scores, iou_threshold=0.5, offset=offset)
            for module in (torchvision_ops, extension)
        ]
        assert torch.equal(*kept)


def test_under_autocast_the_corners_of_regions_keep_their_pixels():
    from mmdet.registry import MODELS

    import noisy_instseg.run.roi_extractor  # noqa: F401

    settings = dict(
        roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
        out_channels=4,
        featmap_strides=[4],
    )
    stock, ours = (
        MODELS.build(dict(type=name, **settings))
        for name in ("SingleRoIExtractor", "Float32RoIExtractor")
    )
    features = torch.rand(1, 4, 16, 512, generator=torch.Generator().manual_seed(0)).bfloat16()
    rois = torch.tensor(
        [[0, 1999.0, 3.0, 2043.0, 47.0]]
    )  # bfloat16 rounds 1999 to 2000 and 2043 to 2048
    exact = stock((features.float(),), rois)
    torch.testing.assert_close(ours((features,), rois), exact, rtol=0, atol=0)
    if torchvision_ops.install():  # mmcv's compiled RoIAlign would refuse bfloat16
        assert (stock((features,), rois).float() - exact).abs().max() > 0.1
