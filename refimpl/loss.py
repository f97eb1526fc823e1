"""Losses and distances, each as a function with a `<name>_backward` and as a layer.

loss_regression   numbers, counts, distributions     loss_classification   classes, by index or probability
loss_binary       yes or no                          loss_margins          margins between scores of classes
distance          cosine similarity, p-norms         loss_distance         margins between distances
loss_ctc          sequences without alignment        loss_linear           classes of a linear layer's outputs

For the half types losses are computed and summed in float32 and rounded once: a loss is one formula, and
nothing between its operands and its result must be stored.
Source: torch.nn, "Loss Functions" and "Distance Functions".
"""

from refimpl import (
    distance,
    loss_binary,
    loss_classification,
    loss_ctc,
    loss_distance,
    loss_linear,
    loss_margins,
    loss_regression,
)
from refimpl.distance import *  # noqa: F403
from refimpl.loss_binary import *  # noqa: F403
from refimpl.loss_classification import *  # noqa: F403
from refimpl.loss_ctc import *  # noqa: F403
from refimpl.loss_distance import *  # noqa: F403
from refimpl.loss_linear import *  # noqa: F403
from refimpl.loss_margins import *  # noqa: F403
from refimpl.loss_regression import *  # noqa: F403

__all__ = (
    distance.__all__
    + loss_binary.__all__
    + loss_classification.__all__
    + loss_ctc.__all__
    + loss_distance.__all__
    + loss_linear.__all__
    + loss_margins.__all__
    + loss_regression.__all__
)
