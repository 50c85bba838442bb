# Generalized cross entropy for the whole schedule on any set in COCO's format: the baseline GCE.
_base_ = "../_base_/coco_format.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(loss_cls=dict(_delete_=True, type="GeneralizedCrossEntropyLoss", q=0.3))
    )
)
