"""Vision layers: shuffles of pixels and channels, and interpolation; one file for each."""

from refimpl import interpolation, shuffling
from refimpl.interpolation import *  # noqa: F403
from refimpl.shuffling import *  # noqa: F403

__all__ = interpolation.__all__ + shuffling.__all__
