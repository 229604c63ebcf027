"""Executors of layer types, one file each, named as the declaration's; importing the package registers them."""

from importlib import import_module

from circuits.layers import LAYERS

from .base import Executor

for op in LAYERS:
    import_module(f".{op}", __name__)

__all__ = ["Executor"]
