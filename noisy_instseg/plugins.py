"""What a config imports of this package: the losses, and mmcv's operators.

custom_imports = dict(imports=["noisy_instseg.plugins"], allow_failed_imports=False)
"""

from noisy_instseg.run import torchvision_ops

# before anything below imports mmcv.ops, which loads the extension for good
torchvision_ops.install()

from noisy_instseg import loss_modules  # noqa: E402, F401
