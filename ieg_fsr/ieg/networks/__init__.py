"""The networks of IEG and FSR."""

from ieg.networks.models import build, check, meta_regularisation, regularisation

__all__ = ["build", "check", "meta_regularisation", "regularisation"]
