# Symmetric cross entropy for the whole schedule on VOC: the baseline SCE.
_base_ = "../_base_/voc.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type="SymmetricCrossEntropyLoss",
                num_classes=20,
                loss_weight1=1.0,
                loss_weight2=0.1,
            )
        )
    )
)
