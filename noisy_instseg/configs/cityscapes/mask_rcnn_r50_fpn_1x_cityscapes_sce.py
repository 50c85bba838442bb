# Symmetric cross entropy for the whole schedule on Cityscapes: the baseline SCE.
_base_ = "../_base_/cityscapes.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type="SymmetricCrossEntropyLoss",
                num_classes=8,
                loss_weight1=1.0,
                loss_weight2=0.1,
            )
        )
    )
)
