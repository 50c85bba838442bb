"""RoIAlign in float32 under autocast (--amp bf16).

mmdetection casts the RoIs to the type of the features, and bfloat16 has 8 bits: at an image width
of 2048 a corner would move by up to 4 pixels.
"""

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class Float32RoIExtractor(SingleRoIExtractor):
    """SingleRoIExtractor on features widened to float32."""

    def forward(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """(R, C, h, w) float32.

        feats: (N, C, H, W) of each level, any float; rois: (R, 5), image index and corners in
        pixels.
        """
        widened = tuple(feature.float() for feature in feats)
        pooled: Tensor = super().forward(widened, rois, roi_scale_factor)
        return pooled
