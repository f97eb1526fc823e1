"""Upsample and its two relatives: `interpolate` as layers."""

from refimpl.interpolation import Interpolate

__all__ = ["Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"]


class Upsample(Interpolate):
    """`interpolate` as a layer, without antialias; a scale_factor of 0 is none.

    Formula, shapes, error, what it raises: `interpolate`.  Source: torch.nn.Upsample."""

    def __init__(
        self, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None
    ):
        scales = tuple(map(float, scale_factor)) if isinstance(scale_factor, tuple) else scale_factor
        scales = (float(scales) if scales else None) if not isinstance(scales, tuple) else scales
        super().__init__(size, scales, mode, align_corners, recompute_scale_factor)


class UpsamplingNearest2d(Upsample):
    """`interpolate` in mode 'nearest', as a layer.

    Formula, shapes, error, what it raises: `interpolate`.  Source: torch.nn.UpsamplingNearest2d."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """`interpolate` in mode 'bilinear' with align_corners, as a layer.

    Formula, shapes, error, what it raises: `interpolate`.  Source: torch.nn.UpsamplingBilinear2d."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "bilinear", True)
