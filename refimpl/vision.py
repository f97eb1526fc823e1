"""Vision layers: shuffles of pixels and channels, and interpolation; one file for each kind."""

from refimpl import interpolation, shuffling, upsampling
from refimpl.interpolation import *  # noqa: F403
from refimpl.shuffling import *  # noqa: F403
from refimpl.upsampling import *  # noqa: F403

__all__ = interpolation.__all__ + shuffling.__all__ + upsampling.__all__
