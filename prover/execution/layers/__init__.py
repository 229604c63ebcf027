"""Executors of layer types, one file each; importing the package registers them."""

from . import add, avgpool2d, batchnorm2d, conv2d, flatten, linear, maxpool2d, relu  # noqa: F401
from .base import Executor

__all__ = ["Executor"]
