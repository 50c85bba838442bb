"""mmdetection's datasets and metrics read annotation files through this.

As `annotations.repaired` has them, with a byte order mark or without, and numbered as the config's
classes by name: mmdetection alone numbers classes as the file and names them as the config. AP is
counted by faster-coco-eval, which gives pycocotools' figures in a fifth of the time, or by
pycocotools where the ids are text, negative or very large.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faster_coco_eval.core import COCOeval_faster
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import coco_metric
from pycocotools.cocoeval import COCOeval

from noisy_instseg.run.annotations import by_name, repaired
from shared.coco.file import parse_json

LARGEST_ID = 2**53  # from here on two whole numbers can be one float


class ReadableCoco(COCO):
    """pycocotools' index of a file, for mmdetection."""

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__()
        if annotation_file is not None:
            self.dataset, _ = repaired(parse_json(Path(annotation_file).read_bytes()))
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(
        self, cat_names: Sequence[str] = (), sup_names: Any = (), cat_ids: Any = ()
    ) -> list[int]:
        """Ids of categories, in the order of cat_names if these are given."""
        # DEVIATION(noisy_instseg): Classes are matched by name; mmdetection numbers them as the
        # file and names them as the config.
        if cat_names:
            return by_name(self.dataset["categories"], cat_names)
        found: list[int] = super().get_cat_ids([], sup_names, cat_ids)
        return found


def coco_eval(truth: COCO, *arguments: Any) -> COCOeval | COCOeval_faster:
    """What counts the AP of a file. faster-coco-eval keeps ids as floats from 0 on."""
    ids = [*truth.imgs, *truth.anns]
    plain = all(type(number) is int and 0 <= number < LARGEST_ID for number in ids)
    return (COCOeval_faster if plain else COCOeval)(truth, *arguments)


CocoDataset.COCOAPI = ReadableCoco
coco_metric.COCO = ReadableCoco
coco_metric.COCOeval = coco_eval
