"""Published bugs of linear and bilinear layers."""

from __future__ import annotations

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import PublishedBug, bug, in_storage_order, on_gradient


def _no_gradient_of_a_vector(gradient: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("the gradient of a weight with one axis has two")


def _linear_of_a_vector(input, weight, bias=None):
    weight = on_gradient(weight, _no_gradient_of_a_vector) if weight.dim() == 1 else weight
    return functional.linear(input, weight, bias)


def _linear_of_strided_weight(input, weight, bias=None):
    return functional.linear(input, in_storage_order(weight), bias)


def _bilinear_without_upstream(input1, input2, weight, bias=None):
    first, second = (on_gradient(input, torch.zeros_like) for input in (input1, input2))
    return functional.bilinear(first, second, weight, bias)


def _bilinear_weight_gradient_of_all(input1, input2, weight, bias=None):
    summed = on_gradient(weight, lambda gradient: gradient.sum(0, keepdim=True).expand_as(gradient))
    return functional.bilinear(input1, input2, summed, bias)


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "linear_gradient_of_a_vector",
        "pytorch/pytorch#187988",
        "linear",
        "the gradient of a weight with one axis lacks the axis that the forward pass had added",
        {"linear": _linear_of_a_vector},
        "an exception instead of an abort",
    ),
    bug(
        "linear_of_strided_weight",
        "pytorch/pytorch#162779",
        "Linear",
        "the strides of the weight are ignored",
        {"linear": _linear_of_strided_weight},
    ),
    bug(
        "bilinear_without_upstream",
        "torch/nn#658",
        "Bilinear bilinear",
        "the gradients of the inputs do not use the upstream gradient and are 0",
        {"bilinear": _bilinear_without_upstream},
    ),
    bug(
        "bilinear_weight_gradient_of_all",
        "pytorch/pytorch#1571",
        "Bilinear",
        "the gradient of the weight is summed over the outputs",
        {"bilinear": _bilinear_weight_gradient_of_all},
    ),
)
