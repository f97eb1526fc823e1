"""Layers of windows besides convolution and the common poolings; one file for each kind."""

from refimpl import adaptive_pooling, folding, fractional_pooling, power_pooling, unpooling
from refimpl.adaptive_pooling import *  # noqa: F403
from refimpl.folding import *  # noqa: F403
from refimpl.fractional_pooling import *  # noqa: F403
from refimpl.power_pooling import *  # noqa: F403
from refimpl.unpooling import *  # noqa: F403

__all__ = (
    adaptive_pooling.__all__
    + folding.__all__
    + fractional_pooling.__all__
    + power_pooling.__all__
    + unpooling.__all__
)
