"""Wrong embeddings that the suite must catch, and right but unusual ones that it must accept."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control, Fault, scaled, with_gradient

LOOKUPS = ("Embedding", "embedding")
_torch_embedding, _torch_bag = functional.embedding, functional.embedding_bag


def _lookup(
    name: str,
    sentence: str,
    stand_in: Callable[..., torch.Tensor],
    caught_by: str = "forward",
    layers: tuple[str, ...] = LOOKUPS,
) -> Fault:
    return Fault(f"embedding_{name}", sentence, {"embedding": stand_in}, caught_by, layers)


def _bag(
    name: str, sentence: str, stand_in: Callable[..., torch.Tensor], caught_by: str = "forward"
) -> Fault:
    return Fault(f"embedding_bag_{name}", sentence, {"embedding_bag": stand_in}, caught_by, ("EmbeddingBag",))


def _next_row(input, weight, *rest):
    return _torch_embedding((input + 1) % max(1, len(weight)), weight, *rest)


def _padding_zeroed(input, weight, padding_idx=None, *rest, **named):
    output = _torch_embedding(input, weight, padding_idx, *rest, **named)
    if padding_idx is None:
        return output
    return torch.where((input == padding_idx % len(weight))[..., None], 0.0 * output, output)


def _padding_learns(input, weight, padding_idx=None, *rest, **named):
    return _torch_embedding(input, weight, None, *rest, **named)


def _positional(
    input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False
):
    """The arguments of a call in a list, whether they were named or not."""
    return [input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse]


def _with(**other: Any) -> Callable[..., torch.Tensor]:
    """torch's embedding with some arguments replaced by others."""
    places = {"max_norm": 3, "norm_type": 4, "scale_grad_by_freq": 5}

    def stand_in(*args, **named):
        arguments = _positional(*args, **named)
        for name, value in other.items():
            arguments[places[name]] = value
        return _torch_embedding(*arguments)

    return stand_in


def _renormalizes_a_copy(*args, **named):
    """The right output, but the weight stays as it was."""
    arguments = _positional(*args, **named)
    if arguments[3] is None:
        return _torch_embedding(*arguments)
    arguments[1] = arguments[1].clone()
    return _torch_embedding(*arguments)


def _renormalizes_all_rows(*args, **named):
    arguments = _positional(*args, **named)
    if arguments[3] is not None:
        every = torch.arange(len(arguments[1]), device=arguments[1].device)
        _torch_embedding(every, arguments[1].detach(), None, arguments[3], arguments[4])
    return _torch_embedding(*arguments)


def _last_position_alone(grad_output: Any, tensors: list, gradients: list) -> list:
    """The gradient of a row is that of the last position that reads it."""
    gradient = torch.zeros_like(tensors[1])
    flat = grad_output.reshape(-1, gradient.shape[1])
    for n, row in enumerate(tensors[0].flatten().tolist()):
        gradient[row] = flat[n]
    return [None, gradient, *gradients[2:]]


def _writes_weight(function: Callable) -> Callable[..., torch.Tensor]:
    def stand_in(input, weight, *rest, **named):
        output = function(input, weight, *rest, **named)
        weight.data.mul_(2.0)
        return output

    return stand_in


def _every_second_call(function: Callable) -> Callable[..., torch.Tensor]:
    calls = itertools.count()

    def stand_in(*args, **named):
        output = function(*args, **named)
        return output if next(calls) % 2 == 0 else output * 1.5

    return stand_in


class _Wraps(torch.nn.Embedding):
    """Negative indices count from the end."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        input = torch.where(input < 0, input + self.num_embeddings, input)
        return _torch_embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type)


class _IgnoresIndexBeyond(torch.nn.EmbeddingBag):
    """Indices beyond the table are the last row."""

    def forward(self, input, offsets=None, per_sample_weights=None):
        return super().forward(input.clamp(max=self.num_embeddings - 1), offsets, per_sample_weights)


_BAG_ARGUMENTS = (
    "input",
    "weight",
    "offsets",
    "max_norm",
    "norm_type",
    "scale_grad_by_freq",
    "mode",
    "sparse",
    "per_sample_weights",
    "include_last_offset",
    "padding_idx",
)


def _changing(change: Callable[[dict], None]) -> Callable[..., torch.Tensor]:
    """torch's embedding_bag with arguments that `change` changes."""

    def stand_in(*args, **named):
        given = dict(zip(_BAG_ARGUMENTS, args, strict=False)) | named
        change(given)
        return _torch_bag(**given)

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
    output = _torch_bag(*args, **named)
    given = dict(zip(_BAG_ARGUMENTS, args, strict=False)) | named
    if given["mode"] != "mean" or given["offsets"] is None:
        return output
    ends = torch.cat((given["offsets"][1:], torch.tensor([len(given["input"])])))[: len(output)]
    return torch.where((ends == given["offsets"][: len(output)])[:, None], output / 0.0, output)


def _mean_counts_padding(*args, **named):
    """Means are divided by the number of all positions, the padding among them."""
    given = dict(zip(_BAG_ARGUMENTS, args, strict=False)) | named
    if given["mode"] != "mean" or given["input"].dim() != 2 or given["padding_idx"] is None:
        return _torch_bag(**given)
    return _torch_bag(**given | {"mode": "sum"}) / given["input"].shape[1]


def _maximum_learns_as_mean(*args, **named):
    """Right maxima; the gradient goes to all rows of the bag alike."""
    given = dict(zip(_BAG_ARGUMENTS, args, strict=False)) | named
    output = _torch_bag(**given)
    if given["mode"] != "max":
        return output
    mean = _torch_bag(**given | {"mode": "mean"})
    return output.detach() + (mean - mean.detach())


def _weights_by_columns(*args, **named):
    """Weights of a matrix are read column by column."""
    weights = named.get("per_sample_weights")
    if weights is not None:
        named["per_sample_weights"] = weights.t().reshape(weights.shape)
    return _torch_bag(*args, **named)


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
        {"embedding_bag": with_gradient(_torch_bag, scaled(1, 0.5))},
        "input_gradients",
        ("embedding_bag",),
    ),
    _lookup("next_row", "every index reads the row behind it", _next_row),
    _lookup("padding_zeroed", "the padding row is read as zeros", _padding_zeroed),
    _lookup(
        "through_bfloat16",
        "rows go through bfloat16",
        lambda *args, **named: _torch_embedding(*args, **named).bfloat16().to(args[1].dtype),
    ),
    _lookup(
        "nan_dropped",
        "NaN becomes 0",
        lambda input, weight, *rest: _torch_embedding(
            input, weight.nan_to_num(posinf=torch.inf, neginf=-torch.inf), *rest
        ),
        layers=("Embedding",),
    ),
    _lookup(
        "zeros_unsigned",
        "-0 becomes +0",
        lambda *args, **named: _torch_embedding(*args, **named) + 0.0,
        layers=("Embedding",),
    ),
    _lookup("never_renormalized", "max_norm is ignored", _with(max_norm=None), layers=("Embedding",)),
    _lookup("norm_type_ignored", "norm_type is always 2", _with(norm_type=2.0), layers=("Embedding",)),
    _lookup(
        "renormalizes_a_copy",
        "the renormalized weight is not kept",
        _renormalizes_a_copy,
        "state",
        ("Embedding",),
    ),
    _lookup(
        "renormalizes_all_rows",
        "rows that are not looked up are renormalized as well",
        _renormalizes_all_rows,
        "state",
        ("Embedding",),
    ),
    _lookup(
        "padding_learns",
        "the padding row has a gradient",
        _padding_learns,
        "parameter_gradients",
        ("Embedding",),
    ),
    _lookup(
        "frequency_ignored",
        "scale_grad_by_freq is ignored",
        _with(scale_grad_by_freq=False),
        "parameter_gradients",
        ("Embedding",),
    ),
    _lookup(
        "last_position_alone",
        "the gradient of a repeated row is that of its last position",
        with_gradient(_torch_embedding, _last_position_alone),
        "parameter_gradients",
        ("Embedding",),
    ),
    _lookup(
        "gradient_half",
        "the gradient has half its size",
        with_gradient(_torch_embedding, scaled(1, 0.5)),
        "input_gradients",
        ("embedding",),
    ),
    _lookup("writes_weight", "the weight is doubled in place", _writes_weight(_torch_embedding), "purity"),
    _lookup(
        "second_call_differs",
        "every second call gives another result",
        _every_second_call(_torch_embedding),
        "purity",
    ),
    _lookup(
        "wrong_dtype",
        "the result comes in float64",
        lambda *args, **named: _torch_embedding(*args, **named).double(),
        "metadata",
    ),
    _lookup(
        "flattened",
        "the axes of the input are flattened",
        lambda input, *rest: _torch_embedding(input.flatten(), *rest),
        "metadata",
        ("Embedding",),
    ),
    Fault(
        "embedding_negative_index_wraps",
        "negative indices count from the end",
        {"Embedding": _Wraps},
        "rejection",
        ("Embedding",),
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
        with_gradient(_torch_bag, scaled(1, 0.5)),
        "parameter_gradients",
    ),
    _bag(
        "weights_gradient_half",
        "the gradient of per_sample_weights has half its size",
        with_gradient(_torch_bag, scaled(3, 0.5)),
        "input_gradients",
    ),
    _bag(
        "second_call_differs",
        "every second call gives another result",
        _every_second_call(_torch_bag),
        "purity",
    ),
    _bag("writes_weight", "the weight is doubled in place", _writes_weight(_torch_bag), "purity"),
)


@torch.no_grad()
def _renormalize(weight: torch.Tensor, rows: torch.Tensor, max_norm: float | None, norm_type: float) -> None:
    """All rows that are looked up at once, in float64, stored once."""
    if max_norm is None:
        return
    used = rows.unique()
    wide = weight.data[used].double()
    norm = wide.norm(norm_type, dim=1, keepdim=True)
    weight.data[used] = torch.where(norm > max_norm, wide * (max_norm / (norm + 1e-7)), wide).to(weight.dtype)


class _Rows(torch.autograd.Function):
    """Rows of the weight in float64; their gradients are added in float64, divided by `counts`, and rounded
    once."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, rows: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows, counts)
        ctx.like = weight
        return weight.double()[rows]

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        rows, counts = ctx.saved_tensors
        gradient = torch.zeros(ctx.like.shape, dtype=torch.float64).index_add_(0, rows, upstream[0])
        return (gradient / counts[:, None]).to(ctx.like.dtype), None, None


def _counts(weight: torch.Tensor, rows: torch.Tensor, scale_grad_by_freq: bool) -> torch.Tensor:
    if not scale_grad_by_freq:
        return torch.ones(len(weight), dtype=torch.float64)
    return torch.bincount(rows, minlength=len(weight)).clamp(min=1).double()


def _gathered(*args, **named):
    """Rows gathered in float64, from the last position to the first."""
    input, weight, padding_idx, max_norm, norm_type, by_frequency, _ = _positional(*args, **named)
    if weight.dim() != 2 or len(weight) == 0:
        return _torch_embedding(*args, **named)
    _renormalize(weight, input, max_norm, norm_type)
    rows = input.flatten().flip(0)
    output = _Rows.apply(weight, rows, _counts(weight, rows, by_frequency)).flip(0)
    output = output.reshape(*input.shape, weight.shape[1])
    if padding_idx is not None:
        padded = (input == padding_idx % len(weight))[..., None]
        output = torch.where(padded, output.detach(), output)
    return output.to(weight.dtype)


def _bag_by_bag(*args, **named):
    """One bag after the other, in float64, rounded once."""
    given = dict(zip(_BAG_ARGUMENTS, args, strict=False)) | named
    input, weight, offsets = given["input"], given["weight"], given["offsets"]
    _renormalize(weight, input, given["max_norm"], given["norm_type"])
    if input.dim() == 2:
        bounds = [(b * input.shape[1], (b + 1) * input.shape[1]) for b in range(len(input))]
    else:
        ends = offsets.tolist() + ([] if given["include_last_offset"] else [len(input)])
        bounds = list(itertools.pairwise(ends))
    rows = input.flatten()
    padding = -1 if given["padding_idx"] is None else given["padding_idx"] % len(weight)
    found = _Rows.apply(weight, rows, _counts(weight, rows, given["scale_grad_by_freq"]))
    weights = given["per_sample_weights"]
    empty = 0.0 * weight.double()[:0].sum(0)
    bags = []
    for first, last in bounds:
        kept = [i for i in range(first, last) if rows[i] != padding]
        taken = found[kept] if weights is None else found[kept] * weights.double().flatten()[kept][:, None]
        total = taken.max(0).values if kept and given["mode"] == "max" else taken.sum(0)
        bags.append(total / len(kept) if kept and given["mode"] == "mean" else total)
    result = torch.stack(bags) if bags else empty.new_zeros(0, weight.shape[1])
    without = 0.0 if weights is None else weights.double().flatten()[:0].sum()
    return (result + found[:0].sum() + without).to(weight.dtype)


CONTROLS = (
    Control("gathered_in_float64", "gradients are added in float64", {"embedding": _gathered}, LOOKUPS),
    Control(
        "bag_by_bag", "one bag after the other in float64", {"embedding_bag": _bag_by_bag}, ("EmbeddingBag",)
    ),
)
