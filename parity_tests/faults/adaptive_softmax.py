"""Wrong adaptive log-softmaxes: one explicit class that is right, with one method changed in each fault."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control, Fault

LAYER = "AdaptiveLogSoftmaxWithLoss"


class Right(torch.nn.AdaptiveLogSoftmaxWithLoss):
    """Each cluster is evaluated for the samples with a target in it, also where these are none."""

    def short(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of the head."""
        return self.head(x)

    def own(self, x: torch.Tensor, k: int) -> torch.Tensor:
        """The logits of cluster k."""
        return self.tail[k](x)

    def logarithms(self, logits: torch.Tensor) -> torch.Tensor:
        return functional.log_softmax(logits, 1)

    def joined(self, head: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
        return head.unsqueeze(1) + tail

    def column(self, k: int) -> int:
        """The column of the head that stands for cluster k."""
        return self.shortlist_size + k

    def loss(self, output: torch.Tensor) -> torch.Tensor:
        return -output.mean()

    def table(self, input: torch.Tensor) -> torch.Tensor:
        head = self.logarithms(self.short(input))
        tails = (
            self.joined(head[:, self.column(k)], self.logarithms(self.own(input, k)))
            for k in range(self.n_clusters)
        )
        return torch.cat([head[:, : self.shortlist_size], *tails], 1)

    def log_prob(self, input: torch.Tensor) -> torch.Tensor:
        return self.table(input).to(input.dtype)

    def predict(self, input: torch.Tensor) -> torch.Tensor:
        return self.table(input).argmax(1)

    def picked(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        head = self.logarithms(self.short(input))
        output = head.gather(1, target.clamp(max=self.shortlist_size - 1)[:, None])[:, 0]
        for k, (first, end) in enumerate(pairwise(self.cutoffs)):
            (rows,) = ((target >= first) & (target < end)).nonzero(as_tuple=True)
            tail = self.logarithms(self.own(input[rows], k)).gather(1, target[rows, None] - first)
            output = output.index_put((rows,), self.joined(head[rows, self.column(k)], tail)[:, 0])
        return output

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> Any:
        with torch.no_grad():
            super().forward(input, target)  # refuses what torch refuses
        single = target.dim() == 0
        output = self.picked(input[None], target[None]) if single else self.picked(input, target)
        loss = self.loss(output).to(input.dtype)
        return (output[0] if single else output).to(input.dtype), loss


def _with(**methods: Callable) -> dict[str, Any]:
    return {LAYER: type(LAYER, (Right,), methods)}


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
        return 2.0 * upstream[0]


def _clamped(self: Any, input: torch.Tensor, target: torch.Tensor) -> Any:
    return Right.forward(self, input, target.clamp(0, self.n_classes - 1))


def _any_cutoffs(self: Any, in_features: int, n_classes: int, cutoffs: Any, **more: Any) -> None:
    rising = sorted({min(max(1, int(c)), n_classes - 1) for c in cutoffs}) if cutoffs else [1]
    Right.__init__(self, in_features, n_classes, rising, **more)


def _scribbling(self: Any, input: torch.Tensor, target: torch.Tensor) -> Any:
    results = Right.forward(self, input, target)
    input.data.mul_(0.5)
    return results


def _of_the_head(self: Any, input: torch.Tensor) -> torch.Tensor:
    return self.head(input)[:, : self.shortlist_size].argmax(1)


def _wide(self: Any, input: torch.Tensor, target: torch.Tensor) -> Any:
    return tuple(result.double() for result in Right.forward(self, input, target))


def _activated(self: Any, x: torch.Tensor, k: int) -> torch.Tensor:
    return self.tail[k][1](self.tail[k][0](x).relu())


def _detached_projection(self: Any, x: torch.Tensor, k: int) -> torch.Tensor:
    return self.tail[k][1](self.tail[k][0](x).detach() + 0 * self.tail[k][0](x))


def _empty_clusters_learn(self: Any, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The weights of a cluster get a gradient although the output holds nothing of it."""
    output = Right.picked(self, input, target)
    for k, (first, end) in enumerate(pairwise(self.cutoffs)):
        if not ((target >= first) & (target < end)).any():
            decay = sum(weight.nan_to_num().sum() for weight in self.tail[k].parameters())
            output = output + (decay - decay.detach())
    return output


def _fault(name: str, sentence: str, caught_by: str, **methods: Callable) -> Fault:
    return Fault(name, sentence, _with(**methods), caught_by, (LAYER,))


FAULTS = (
    _fault(
        "clusters_probability_lost",
        "a class in a cluster has its probability within the cluster",
        "forward",
        joined=lambda self, head, tail: tail + 0 * head.unsqueeze(1),
    ),
    _fault(
        "clusters_reversed",
        "the head's columns of the clusters are taken from behind",
        "forward",
        column=lambda self, k: self.head_size - 1 - k,
    ),
    _fault(
        "tail_with_activation",
        "a tail rectifies between its two linear maps",
        "forward",
        own=_activated,
    ),
    _fault("loss_is_sum", "the loss is not divided by the batch", "forward", loss=lambda self, o: -o.sum()),
    _fault("loss_not_negated", "the loss is the mean itself", "forward", loss=lambda self, o: o.mean()),
    _fault(
        "logarithms_in_bfloat16",
        "log-softmax is rounded to bfloat16",
        "forward",
        logarithms=lambda self, x: functional.log_softmax(x, 1).bfloat16().to(x.dtype),
    ),
    _fault(
        "prediction_of_the_head", "classes in clusters are never predicted", "forward", predict=_of_the_head
    ),
    _fault(
        "loss_without_gradient",
        "the gradient of the loss goes nowhere",
        "input_gradients",
        loss=lambda self, output: -output.detach().mean(),
    ),
    _fault(
        "cluster_gradient_cut",
        "the input gets no gradient from the clusters",
        "input_gradients",
        own=lambda self, x, k: self.tail[k](x.detach()),
    ),
    _fault(
        "cluster_gradient_doubled",
        "the gradient of a tail is twice as large",
        "parameter_gradients",
        own=lambda self, x, k: _Doubled.apply(self.tail[k](x)),
    ),
    _fault(
        "projection_not_trained",
        "a tail's first linear map gets a gradient of zeros",
        "parameter_gradients",
        own=_detached_projection,
    ),
    _fault(
        "empty_clusters_learn",
        "the weights of a cluster without a target have a gradient",
        "parameter_gradients",
        picked=_empty_clusters_learn,
    ),
    _fault("adaptive_wide_output", "output and loss are float64", "metadata", forward=_wide),
    _fault("adaptive_scratch", "the input is written to", "purity", forward=_scribbling),
    _fault("targets_clamped", "targets that are no class are clamped", "rejection", forward=_clamped),
    _fault("cutoffs_put_right", "cutoffs are sorted and clamped", "rejection", __init__=_any_cutoffs),
)


def _distances(self: Any, x: torch.Tensor) -> torch.Tensor:
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    distance = wide - wide.detach().amax(1, keepdim=True) if x.numel() else wide
    return (distance - distance.exp().sum(1, keepdim=True).log()).to(x.dtype)


def _wide_head(self: Any, x: torch.Tensor) -> torch.Tensor:
    bias = None if self.head.bias is None else self.head.bias.double()
    return functional.linear(x.double(), self.head.weight.double(), bias)


def _wide_tail(self: Any, x: torch.Tensor, k: int) -> torch.Tensor:
    first, second = self.tail[k]
    return x.double() @ first.weight.double().T @ second.weight.double().T


CONTROLS = (
    Control(
        "empty_clusters_evaluated",
        "clusters without a target are evaluated too, so that their gradients are zeros",
        _with(),
        (LAYER,),
    ),
    Control(
        "logarithms_written_out",
        "log-softmax by its formula, in float32 for the half types",
        _with(logarithms=_distances),
        (LAYER,),
    ),
    Control(
        "float64_in_all_parts",
        "every part in float64, output and loss rounded once",
        _with(short=_wide_head, own=_wide_tail),
        (LAYER,),
    ),
)
