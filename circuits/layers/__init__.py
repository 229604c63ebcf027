"""Layer types, one file each, and the list of them."""

from .adaptiveavgpool2d import AdaptiveAvgPool2d
from .add import Add
from .attention import Attention
from .avgpool2d import AvgPool2d
from .base import Layer
from .batchnorm2d import BatchNorm2d
from .binary import Binary
from .cat import Cat
from .channels import Channels
from .conv2d import Conv2d
from .embedding import Embedding
from .flatten import Flatten
from .function import Pointwise
from .groupnorm import GroupNorm
from .hardsigmoid import Hardsigmoid
from .hardswish import Hardswish
from .hardtanh import Hardtanh
from .leaky_relu import LeakyReLU
from .line import Line
from .linear import Linear
from .maxpool2d import MaxPool2d
from .multiply import Multiply
from .positions import Positions
from .prelu import PReLU
from .prepend import Prepend
from .relu import ReLU
from .take import Take
from .unembedding import Unembedding

__all__ = ["LAYERS", "Layer"]

_TYPES: tuple[type[Layer], ...] = (
    *(Conv2d, Linear, ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten, Add, Cat, Channels),
    *(BatchNorm2d, LeakyReLU, Hardtanh, Multiply, PReLU, Binary, Hardsigmoid, Hardswish, Pointwise, GroupNorm),
    *(Positions, Line, Take, Prepend, Attention, Embedding, Unembedding),
)
LAYERS = {layer.spec.op: layer for layer in _TYPES}
"""By the "op" of a node, which is also the name of its file here and in prover/execution/layers."""
