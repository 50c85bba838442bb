"""The networks of IEG and FSR."""

from ieg.networks.models import build, check, meta_regularisation, regularisation
from ieg.networks.pretrained import load_imagenet

__all__ = ["build", "check", "load_imagenet", "meta_regularisation", "regularisation"]
