# Generalized cross entropy for the whole schedule on shapes: the baseline GCE.
_base_ = "../_base_/shapes.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(_delete_=True, type="GeneralizedCrossEntropyLoss", num_classes=8, q=0.3)
        )
    )
)
