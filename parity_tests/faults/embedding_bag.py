"""Wrong bags of embeddings that the suite must catch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from parity_tests.faults.fault import Fault, scaled, with_gradient
from parity_tests.faults.table import BAG_ARGUMENTS, every_second_call, torch_bag, writes_weight


def _bag(
    name: str, sentence: str, stand_in: Callable[..., torch.Tensor], caught_by: str = "forward"
) -> Fault:
    return Fault(f"embedding_bag_{name}", sentence, {"embedding_bag": stand_in}, caught_by, ("EmbeddingBag",))


class _IgnoresIndexBeyond(torch.nn.EmbeddingBag):
    """Indices beyond the table are the last row."""

    def forward(self, input, offsets=None, per_sample_weights=None):
        return super().forward(input.clamp(max=self.num_embeddings - 1), offsets, per_sample_weights)


def _changing(change: Callable[[dict], None]) -> Callable[..., torch.Tensor]:
    """torch's embedding_bag with arguments that `change` changes."""

    def stand_in(*args, **named):
        given = dict(zip(BAG_ARGUMENTS, args, strict=False)) | named
        change(given)
        return torch_bag(**given)

    return stand_in


def _another_mode(given: str, taken: str) -> Callable[[dict], None]:
    def change(arguments: dict) -> None:
        if arguments["mode"] == given and not arguments["scale_grad_by_freq"] and not arguments["sparse"]:
            arguments["mode"] = taken

    return change


def _without(name: str, value: Any = None) -> Callable[[dict], None]:
    def change(arguments: dict) -> None:
        arguments[name] = value

    return change


def _lost_last(arguments: dict) -> None:
    """The last index of a one-axis input is read as the first one."""
    if arguments["input"].dim() == 1 and len(arguments["input"]) > 1:
        arguments["input"] = torch.cat((arguments["input"][:-1], arguments["input"][:1]))


def _empty_bags_are_nan(*args, **named):
    output = torch_bag(*args, **named)
    given = dict(zip(BAG_ARGUMENTS, args, strict=False)) | named
    if given["mode"] != "mean" or given["offsets"] is None:
        return output
    ends = torch.cat((given["offsets"][1:], torch.tensor([len(given["input"])])))[: len(output)]
    return torch.where((ends == given["offsets"][: len(output)])[:, None], output / 0.0, output)


def _mean_counts_padding(*args, **named):
    """Means are divided by the number of all positions, the padding among them."""
    given = dict(zip(BAG_ARGUMENTS, args, strict=False)) | named
    if given["mode"] != "mean" or given["input"].dim() != 2 or given["padding_idx"] is None:
        return torch_bag(**given)
    return torch_bag(**given | {"mode": "sum"}) / given["input"].shape[1]


def _maximum_learns_as_mean(*args, **named):
    """Right maxima; the gradient goes to all rows of the bag alike."""
    given = dict(zip(BAG_ARGUMENTS, args, strict=False)) | named
    output = torch_bag(**given)
    if given["mode"] != "max":
        return output
    mean = torch_bag(**given | {"mode": "mean"})
    return output.detach() + (mean - mean.detach())


def _weights_by_columns(*args, **named):
    """Weights of a matrix are read column by column."""
    weights = named.get("per_sample_weights")
    if weights is not None:
        named["per_sample_weights"] = weights.t().reshape(weights.shape)
    return torch_bag(*args, **named)


FAULTS = (
    Fault(
        "embedding_bag_weights_by_columns",
        "weights of a matrix are read column by column",
        {"embedding_bag": _weights_by_columns},
        "forward",
        ("embedding_bag",),
    ),
    Fault(
        "embedding_bag_table_gradient_half",
        "the gradient of the weight has half its size",
        {"embedding_bag": with_gradient(torch_bag, scaled(1, 0.5))},
        "input_gradients",
        ("embedding_bag",),
    ),
    Fault(
        "embedding_bag_index_clamped",
        "an index beyond the table is the last row",
        {"EmbeddingBag": _IgnoresIndexBeyond},
        "rejection",
        ("EmbeddingBag",),
    ),
    _bag("mean_is_sum", "means are not divided", _changing(_another_mode("mean", "sum"))),
    _bag("maximum_is_mean", "maxima are means", _changing(_another_mode("max", "mean"))),
    _bag("mean_counts_padding", "means are divided by the number of all positions", _mean_counts_padding),
    _bag("padding_counts", "padding_idx is ignored", _changing(_without("padding_idx"))),
    _bag(
        "unweighted",
        "per_sample_weights are ignored",
        lambda *args, **named: (
            _changing(_without("per_sample_weights"))(*args, **named)
            + (0.0 if args[8] is None else 0.0 * args[8].sum())
        ),
    ),
    _bag("lost_last", "the last index is lost", _changing(_lost_last)),
    _bag("empty_bags_are_nan", "the mean of an empty bag is 0 / 0", _empty_bags_are_nan),
    _bag("never_renormalized", "max_norm is ignored", _changing(_without("max_norm"))),
    _bag("norm_type_ignored", "norm_type is always 2", _changing(_without("norm_type", 2.0)), "state"),
    _bag(
        "last_offset_begins_a_bag",
        "include_last_offset is ignored",
        _changing(_without("include_last_offset", False)),
        "metadata",
    ),
    _bag(
        "maximum_learns_as_mean",
        "the gradient of maxima goes to all rows of a bag",
        _maximum_learns_as_mean,
        "parameter_gradients",
    ),
    _bag(
        "gradient_half",
        "the gradient has half its size",
        with_gradient(torch_bag, scaled(1, 0.5)),
        "parameter_gradients",
    ),
    _bag(
        "weights_gradient_half",
        "the gradient of per_sample_weights has half its size",
        with_gradient(torch_bag, scaled(3, 0.5)),
        "input_gradients",
    ),
    _bag(
        "second_call_differs",
        "every second call gives another result",
        every_second_call(torch_bag),
        "purity",
    ),
    _bag("writes_weight", "the weight is doubled in place", writes_weight(torch_bag), "purity"),
)
