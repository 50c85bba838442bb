# What every run has beside mmdet's stock runtime: the package with the losses, and, under mmdet's
# own tools as under ours, TensorBoard events.
_base_ = "mmdet::_base_/default_runtime.py"
custom_imports = dict(imports=["noisy_instseg.plugins"], allow_failed_imports=False)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(vis_backends=vis_backends)
