"""What a config needs of this package: custom_imports=dict(imports=["noisy_instseg.plugins"],
allow_failed_imports=False).
"""

from noisy_instseg import torchvision_ops

# before anything below imports mmcv.ops, which loads the extension for good
torchvision_ops.install()

from noisy_instseg import loss_modules  # noqa: E402, F401
