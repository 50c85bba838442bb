# Generalized cross entropy for the whole schedule on VOC: the baseline GCE.
_base_ = "../_base_/voc.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(_delete_=True, type="GeneralizedCrossEntropyLoss", num_classes=20, q=0.3)
        )
    )
)
