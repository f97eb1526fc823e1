"""Poolings over regions, unfolding and unpooling written plainly, right unless a keyword is changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from parity_tests.faults.plain_pooling import exact_sum, first_maximum, like

Ends = list[list[tuple[int, int]]]  # first and last element (exclusive) of every region, axis by axis


def adaptive_ends(sizes: tuple[int, ...], outputs: tuple[int, ...]) -> Ends:
    return [
        [(y * n // p, -(-(y + 1) * n // p)) for y in range(p)] for n, p in zip(sizes, outputs, strict=True)
    ]


def window_ends(sizes: tuple[int, ...], kernel: tuple, stride: tuple, ceil_mode: bool) -> Ends:
    ends = []
    for n, k, s in zip(sizes, kernel, stride, strict=True):
        count = (-((k - n) // s) if ceil_mode else (n - k) // s) + 1
        count -= ceil_mode and (count - 1) * s >= n
        ends.append([(y * s, min(y * s + k, n)) for y in range(count)])
    return ends


def each(value: Any, rank: int) -> tuple:
    value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return value * rank if len(value) == 1 else value


def sizes_of(input: torch.Tensor, rank: int, output_size: Any) -> tuple[int, ...]:
    """One for each axis; None stands for the input's own."""
    own = input.shape[-rank:]
    return tuple(n if p is None else p for n, p in zip(own, each(output_size, rank), strict=True))


def gather(plane: torch.Tensor, ends: Ends, fill: float) -> torch.Tensor:
    """(..., *sizes) as (..., *outputs, taps): the elements of every region in order, filled up with
    `fill`."""
    rank, lead = len(ends), plane.dim() - len(ends)
    inside = torch.ones((), dtype=torch.bool)
    for axis, rows in enumerate(ends):
        first, last = torch.tensor(rows, dtype=torch.long).reshape(-1, 2).T[..., None]
        taps = torch.arange(int((last - first).max()) if rows else 1)
        places, there = torch.minimum(first + taps, last - 1), first + taps < last
        plane = plane.index_select(lead + axis, places.flatten())
        plane = plane.unflatten(lead + axis, places.shape).movedim(lead + axis + 1, -1)
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = places.shape
        inside = inside & there.reshape(shape)
    values = torch.where(inside, plane, torch.full((), fill, dtype=plane.dtype))
    return values.flatten(-rank)


def counts(ends: Ends) -> torch.Tensor:
    """Elements of every region."""
    total = torch.ones((), dtype=torch.float64)
    for axis, rows in enumerate(ends):
        lengths = torch.tensor([last - first for first, last in rows], dtype=torch.float64)
        total = total * lengths.reshape([-1 if other == axis else 1 for other in range(len(ends))])
    return total


def mean(
    rank: int,
    input: torch.Tensor,
    output_size: Any,
    *,
    find: Callable = adaptive_ends,
    add: Callable = exact_sum,
    divide: Callable = counts,
    wanted: Callable = sizes_of,
    wide: Callable = lambda dtype: torch.float64,
) -> torch.Tensor:
    """Adaptive average pooling, right unless a keyword is changed."""
    ends = find(tuple(input.shape[-rank:]), wanted(input, rank, output_size))
    values = gather(input.to(wide(input.dtype)), ends, 0.0)
    return like(add(values, divide(ends), input.dtype), input)


def largest(
    rank: int, input: torch.Tensor, ends: Ends, choose: Callable, place: Callable | None, wide: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = input.shape[-rank:]
    plane = torch.arange(math.prod(sizes)).reshape(sizes)
    places = gather(plane, ends, -1)
    values = gather(input.to(wide), ends, -math.inf)
    choice = choose(values, places >= 0)[..., None]
    output = values.gather(-1, choice)[..., 0].to(input.dtype)
    indices = places.expand(values.shape).gather(-1, choice)[..., 0]
    return like(output, input), like(indices if place is None else place(indices, sizes, None), input)


def maximum(
    rank: int,
    input: torch.Tensor,
    output_size: Any,
    return_indices: bool = False,
    *,
    find: Callable = adaptive_ends,
    choose: Callable = first_maximum,
    place: Callable | None = None,
    wide: Callable = lambda dtype: torch.float64,
) -> Any:
    """Adaptive max pooling, right unless a keyword is changed."""
    ends = find(tuple(input.shape[-rank:]), sizes_of(input, rank, output_size))
    output, indices = largest(rank, input, ends, choose, place, wide(input.dtype))
    return (output, indices) if return_indices else output


def starts(size: int, kernel: int, outputs: int, sample: float) -> list[int]:
    """Where the windows of an axis begin, for fractional pooling."""
    step = (size - kernel) / (outputs - 1) if outputs > 1 else 0.0
    return [int((y + sample) * step) - int(sample * step) for y in range(outputs - 1)] + [size - kernel] * (
        outputs > 0
    )


def own_sample(samples: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    """The samples of an axis, plane by plane.  In 2-d the first one is that of the last axis."""
    return samples[..., rank - 1 - axis if rank == 2 else axis].double()


def fractional(
    rank: int,
    input: torch.Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    begin: Callable = starts,
    sample: Callable = own_sample,
    choose: Callable = first_maximum,
    place: Callable | None = None,
    wide: Callable = lambda dtype: torch.float64,
) -> Any:
    """Fractional max pooling plane by plane, right unless a keyword is changed."""
    kernel, sizes, lead = each(kernel_size, rank), input.shape[-rank:], input.shape[:-rank]
    if output_size is None:
        output_size = [int(n * ratio) for n, ratio in zip(sizes, each(output_ratio, rank), strict=True)]
    outputs, planes = each(output_size, rank), math.prod(lead)
    numbers = torch.stack(
        [sample(_random_samples, axis, rank)[: max(1, lead[0])] for axis in range(rank)], -1
    )
    numbers = numbers.reshape(-1, rank)[:planes]
    places = torch.zeros((planes, *(1,) * (2 * rank)), dtype=torch.long)
    for axis, (size, k, p) in enumerate(zip(sizes, kernel, outputs, strict=True)):
        known = {number: begin(size, k, p, number) for number in set(numbers[:, axis].tolist())}
        first = torch.tensor([known[number] for number in numbers[:, axis].tolist()], dtype=torch.long)
        along = first.reshape(planes, p, 1) + torch.arange(k)
        shape = [
            planes,
            *(p if i == axis else 1 for i in range(rank)),
            *(k if i == axis else 1 for i in range(rank)),
        ]
        places = places * size + along.reshape(shape)
    places = places.reshape(planes, math.prod(outputs), math.prod(kernel))
    x = input.reshape(planes, math.prod(sizes)).to(wide(input.dtype))
    values = x.gather(1, places.flatten(1)).reshape(places.shape)
    choice = choose(values, torch.ones_like(places, dtype=torch.bool))[..., None]
    output = values.gather(-1, choice)[..., 0].reshape(*lead, *outputs).to(input.dtype)
    indices = places.gather(-1, choice)[..., 0].reshape(*lead, *outputs)
    indices = indices if place is None else place(indices, sizes, None)
    return (output, indices) if return_indices else output


def unpool(
    rank: int,
    input: torch.Tensor,
    indices: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    size: Callable = lambda own, given: own if given is None else given,
    place: Callable = lambda indices, own, given: indices,
    put: Callable = lambda flat, indices, values: flat.scatter(-1, indices, values),
) -> torch.Tensor:
    """Max unpooling, right unless a keyword is changed."""
    kernel, padding = each(kernel_size, rank), each(padding, rank)
    stride = each(kernel_size if stride is None else stride, rank)
    axes = zip(input.shape[-rank:], kernel, stride, padding, strict=True)
    own = tuple((n - 1) * s - 2 * p + k for n, k, s, p in axes)
    given = None if output_size is None else tuple(output_size[-rank:])
    wanted = size(own, given)
    flat = input.new_zeros((*input.shape[:-rank], math.prod(wanted)))
    where = place(indices, own, wanted).flatten(-rank)
    return like(put(flat, where, input.flatten(-rank)).reshape(*input.shape[:-rank], *wanted), input)


def block_places(
    size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple
) -> tuple[Any, Any]:
    """Flat place in the image of every tap (k, y), and whether it lies inside."""
    axes = []
    for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True):
        count = (n + 2 * p - d * (k - 1) - 1) // s + 1
        axes.append(torch.arange(k)[:, None] * d + torch.arange(count) * s - p)
    rows, columns = axes[0][:, None, :, None], axes[1][None, :, None, :]
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    flat = rows.clamp(0, size[0] - 1) * size[1] + columns.clamp(0, size[1] - 1)
    return flat.flatten(2).flatten(0, 1), inside.flatten(2).flatten(0, 1)


def unfold(
    input: torch.Tensor,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    *,
    places: Callable = block_places,
    order: Callable = lambda columns: columns,
    wide: Callable = lambda dtype: torch.float64,
) -> torch.Tensor:
    """`torch.nn.functional.unfold`, right unless a keyword is changed."""
    flat, inside = places(
        tuple(input.shape[-2:]), *(each(v, 2) for v in (kernel_size, dilation, padding, stride))
    )
    image = input.to(wide(input.dtype)).flatten(-2)
    columns = torch.where(inside, image[..., flat], torch.zeros((), dtype=image.dtype))
    return order(columns).flatten(-3, -2).to(input.dtype)


def add_into(image: torch.Tensor, flat: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return image.index_add(-1, flat, values)


def fold(
    input: torch.Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    *,
    places: Callable = block_places,
    order: Callable = lambda columns: columns,
    add: Callable = add_into,
    keep: bool = False,
    wide: Callable = lambda dtype: torch.float64,
) -> torch.Tensor:
    """`torch.nn.functional.fold`, right unless a keyword is changed; `keep` adds what falls outside to
    element 0."""
    size, kernel = each(output_size, 2), each(kernel_size, 2)
    flat, inside = places(size, kernel, *(each(value, 2) for value in (dilation, padding, stride)))
    taps = math.prod(kernel)
    columns = input.unflatten(-2, (input.shape[-2] // taps, taps)).to(wide(input.dtype))
    columns = order(columns)
    flat = torch.where(inside, flat, 0)
    values = columns if keep else torch.where(inside, columns, torch.zeros((), dtype=columns.dtype))
    image = values.new_zeros((*values.shape[:-2], math.prod(size)))
    return add(image, flat.flatten(), values.flatten(-2)).unflatten(-1, size).to(input.dtype)


def power_mean(
    rank: int,
    input: torch.Tensor,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    raised: Callable = torch.pow,
    root: Callable = lambda sums, p: sums ** (1.0 / p),
    limit: Callable = lambda values, p: values.abs(),
    ceil: Callable = lambda ceil_mode: ceil_mode,
    turn: Callable = lambda kernel, stride: (kernel, stride),
    wide: Callable = lambda dtype: torch.float64,
) -> torch.Tensor:
    """Power-average pooling, right unless a keyword is changed; sums of 0 have gradient 0."""
    kernel = each(kernel_size, rank)
    kernel, strides = turn(kernel, kernel if stride is None else each(stride, rank))
    ends = window_ends(tuple(input.shape[-rank:]), kernel, strides, ceil(ceil_mode))
    x, p = input.to(wide(input.dtype)), float(norm_type)
    if math.isinf(p):
        values = gather(limit(x, p) * math.copysign(1.0, p), ends, -math.inf)
        choice = first_maximum(values, values > -math.inf)[..., None]
        return (values.gather(-1, choice)[..., 0] * math.copysign(1.0, p)).to(input.dtype)
    inside = gather(torch.ones(input.shape[-rank:], dtype=x.dtype), ends, 0.0) > 0
    values = torch.where(inside, gather(x, ends, 1.0), 1.0)
    with torch.no_grad():
        zero = torch.where(inside, raised(values, p), 0.0).sum(-1) == 0
    values = torch.where(zero[..., None], 1.0, values)  # their gradient would be 0 times infinity
    sums = torch.where(inside, raised(values, p), 0.0).sum(-1)
    return torch.where(zero, root(torch.zeros((), dtype=x.dtype), p), root(sums, p)).to(input.dtype)
