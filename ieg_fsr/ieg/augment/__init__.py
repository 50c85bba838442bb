"""AutoAugment, RandAugment and weak augmentation."""
