"""Log-softmax over many classes in clusters: frequent classes in a head, the others behind it in tails.

    head   = log_softmax(linear(input, head.weight, head.bias)), cutoffs[0] classes and then one a cluster
    tail_k = log_softmax(linear(linear(input, tail.k.0.weight), tail.k.1.weight))
    log_prob[c] = head[c]  for c < cutoffs[0], else  head[cutoffs[0] + k] + tail_k[c - cutoffs[k]]

with cluster k holding the classes cutoffs[k] to cutoffs[k + 1] - 1.
Contract weaker than the strictest, by name: that of `log_softmax`.
Source: torch.nn.AdaptiveLogSoftmaxWithLoss; Grave et al., arXiv:1609.04309, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from refimpl.adaptive_softmax_arithmetic import BoundedRows, Rows
from refimpl.error_bounds import Bounded, Contract
from refimpl.linear import Linear
from refimpl.module import Module
from refimpl.softmax import STORED_LOGARITHM
from refimpl.taps import float_array

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class AdaptiveLogSoftmaxWithLoss(Module):
    """The logarithm of each target's probability, and their negative mean.

        output[n] = log_prob(input)[n, target[n]];  loss = -sum(output) / N

    input (N, in_features) or (in_features), target (N) or () of integers -> (output like target, loss ()).
    Parameters: head.weight (cutoffs[0] + clusters, in_features), head.bias of that length with `head_bias`;
    for cluster k tail.k.0.weight (int(in_features // div_value ** (k + 1)), in_features) and tail.k.1.weight,
    which maps these to the cluster's classes.  Only clusters with a target are evaluated: the weights of the
    others get no gradient.
    Error: the parts' errors handed on; the result of every linear map and every log_softmax, each sum of
    their logarithms, and the gradients of all of these are tensors of their own, so they are stored in T.
    Raises ValueError for cutoffs that are not rising integers from 1 to n_classes - 1, RuntimeError for
    shapes that do not fit and targets that are no class, TypeError and ZeroDivisionError as torch does.
    Source: torch.nn.AdaptiveLogSoftmaxWithLoss."""

    algorithms = (STORED_LOGARITHM,)

    def __init__(self, in_features, n_classes, cutoffs, div_value=4.0, head_bias=False):
        super().__init__()
        cutoffs = list(cutoffs)
        _check_cutoffs(cutoffs, n_classes)
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs, self.shortlist_size = [*cutoffs, n_classes], cutoffs[0]
        self.clusters = list(pairwise(self.cutoffs))
        parts = {"head": Linear(in_features, self.shortlist_size + len(self.clusters), head_bias)}
        for k, (first, end) in enumerate(self.clusters):
            hidden = int(in_features // (div_value ** (k + 1)))
            parts[f"tail.{k}.0"] = Linear(in_features, hidden, False)
            parts[f"tail.{k}.1"] = Linear(hidden, end - first, False)
        arrays = {
            f"{name}.{key}": array for name, part in parts.items() for key, array in part.state_dict().items()
        }
        self.parameters = tuple(arrays)
        for name, array in arrays.items():
            setattr(self, name, array)

    # The parts: a head or a tail for some rows, and back.

    def _weights(self, part: str) -> list[tuple[np.ndarray, np.ndarray | None, str]]:
        """Weight, bias and name of the linear maps of a part, in their order."""
        names = [part] if part == "head" else [f"{part}.0", f"{part}.1"]
        return [
            (getattr(self, f"{name}.weight"), getattr(self, f"{name}.bias", None), name) for name in names
        ]

    def _logarithms(self, arithmetic: Any, part: str, x: Any) -> tuple[Any, list]:
        """log_softmax of a part's linear maps, and what its gradient needs."""
        saved = [x]
        for weight, bias, _ in self._weights(part):
            saved.append(arithmetic.affine(saved[-1], weight, bias))
        return arithmetic.log_softmax(saved[-1]), saved

    def _part_gradients(
        self, arithmetic: Any, part: str, up: Any, logarithms: Any, saved: list
    ) -> tuple[Any, dict]:
        """Gradients of the part's input and of its parameters."""
        *inputs, logits = saved
        up, found = arithmetic.log_softmax_gradient(up, logits, logarithms), {}
        for input, (weight, bias, name) in zip(reversed(inputs), reversed(self._weights(part)), strict=True):
            up, found[f"{name}.weight"], of_bias = arithmetic.affine_gradients(up, input, weight)
            found |= {} if bias is None else {f"{name}.bias": of_bias}
        return up, found

    # The logarithms of the targets' probabilities: of each cluster only the rows of its own targets.

    def _of_targets(self, arithmetic: Any, grads: tuple, input: Any, target: Any) -> tuple[dict, dict]:
        """Results by name; for upstream gradients of output and loss, those of input and parameters."""
        samples, target = _checked(self, input, target)
        batched, x = np.ndim(input) == 2, arithmetic.exact(samples)
        place, picks = self._picks(target)
        head, saved = self._logarithms(arithmetic, "head", x)
        output, tails = arithmetic.moved(head, lambda h: _picked(h, place)), {}
        for k, (rows, columns) in picks.items():
            tails[k] = self._logarithms(arithmetic, f"tail.{k}", _at(arithmetic, x, rows))
            part = arithmetic.moved(tails[k][0], partial(_picked, columns=columns))
            output = _added(arithmetic, output, rows, part)
        results = {
            "output": output if batched else _at(arithmetic, output, 0),
            "output1": -arithmetic.share(arithmetic.total_of(output), target.size),
        }
        if not grads:
            return results, {}
        of_output, of_loss = (arithmetic.exact(np.asarray(g, dtype=np.float64)) for g in grads)
        of_loss = arithmetic.moved(arithmetic.share(of_loss, target.size), partial(_spread, target.shape))
        up = arithmetic.add(arithmetic.moved(of_output, partial(np.reshape, shape=target.shape)), -of_loss)
        of_head = arithmetic.moved(
            up, partial(_unpicked, columns=place, width=self.shortlist_size + len(self.clusters))
        )
        of_x, found = self._part_gradients(arithmetic, "head", of_head, head, saved)
        for k, (rows, columns) in picks.items():
            width = self.clusters[k][1] - self.clusters[k][0]
            own = arithmetic.moved(
                _at(arithmetic, up, rows), partial(_unpicked, columns=columns, width=width)
            )
            part, more = self._part_gradients(arithmetic, f"tail.{k}", own, *tails[k])
            of_x, found = _added(arithmetic, of_x, rows, part), found | more
        return results, {"input0": of_x if batched else _at(arithmetic, of_x, 0), **found}

    def _picks(self, target: np.ndarray) -> tuple[np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]:
        """The column of the head for each target; rows and columns of each cluster that has a target."""
        place, picks = target.copy(), {}
        for k, (first, end) in enumerate(self.clusters):
            (rows,) = np.nonzero((target >= first) & (target < end))
            place[rows] = self.shortlist_size + k
            if rows.size:
                picks[k] = rows, target[rows] - first
        return place, picks

    # The logarithms of all probabilities.

    def _of_all(self, arithmetic: Any, grads: tuple, input: Any) -> tuple[dict, dict]:
        """As `_of_targets`, for log_prob."""
        x, short = arithmetic.exact(_samples(self, input)), self.shortlist_size
        head, saved = self._logarithms(arithmetic, "head", x)
        tails = [self._logarithms(arithmetic, f"tail.{k}", x) for k in range(len(self.clusters))]
        parts = [arithmetic.moved(head, lambda h: h[:, :short])]
        for k, (logarithms, _) in enumerate(tails):
            column = arithmetic.moved(head, lambda h, k=k: h[:, short + k, None])
            parts.append(arithmetic.add(logarithms, column))
        results = {"output": arithmetic.joined(_side_by_side, *parts)}
        if not grads:
            return results, {}
        up = arithmetic.exact(np.asarray(grads[0], dtype=np.float64))
        ups = [arithmetic.moved(up, lambda g, a=a, b=b: g[:, a:b]) for a, b in self.clusters]
        sums = [arithmetic.row_sums(g) for g in ups]
        of_head = arithmetic.joined(_side_by_side, arithmetic.moved(up, lambda g: g[:, :short]), *sums)
        of_x, found = self._part_gradients(arithmetic, "head", of_head, head, saved)
        of_inputs = [of_x]
        for k, (of_tail, tail) in enumerate(zip(ups, tails, strict=True)):
            part, more = self._part_gradients(arithmetic, f"tail.{k}", of_tail, *tail)
            of_inputs, found = [*of_inputs, part], found | more
        return results, {"input": arithmetic.add(*of_inputs), **found}

    def _everything(self, arithmetic: Any, grads: tuple, *inputs: Any) -> dict[str, Any]:
        evaluate = self._of_targets if len(inputs) == 2 else self._of_all
        with np.errstate(all="ignore"):
            results, gradients = evaluate(arithmetic, grads, *inputs)
        return results | {f"grad_{name}": gradients[name] for name in gradients}

    def forward(self, input: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
        results = self._everything(Rows(), (), input, target)
        return results["output"], np.asarray(results["output1"])

    def log_prob(self, input: Any) -> np.ndarray:
        """The logarithm of the probability of every class: input (N, in_features) -> (N, n_classes).

        Raises RuntimeError for other shapes, and IndexError for a sample without N."""
        return self._everything(Rows(), (), input)["output"]

    def predict(self, input: Any) -> np.ndarray:
        """The class of largest probability: input (N, in_features) -> (N) of integers."""
        return self.log_prob(input).argmax(axis=1)

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        """With a target those of output and loss, without one that of log_prob."""
        if len(inputs) == 2:
            _checked(self, *inputs)
            return np.shape(inputs[0])[:-1], ()
        return ((len(_samples(self, *inputs)), self.n_classes),)

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        found = self._everything(Rows(), grad_outputs, *inputs)
        return (found["grad_input0"], None), {
            name: found[f"grad_{name}"] for name in self.parameters if f"grad_{name}" in found
        }

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        """Of a call with a target; with the input alone, of log_prob and, as `indices`, predict."""
        loops = self._everything(Rows(), grad_outputs, *inputs)
        bounds = self._everything(BoundedRows(contract), grad_outputs, *inputs)
        results = {name: bound.agreeing(np.asarray(loops[name]), name) for name, bound in bounds.items()}
        return results if len(inputs) == 2 else results | {"indices": _predicted(results["output"])}


def _predicted(logarithms: Bounded) -> Bounded:
    """The place of the largest number of each row; any where rounding decides, and in a row with NaN."""
    value, error = logarithms.value, logarithms.error
    place = value.argmax(axis=1)
    chosen = np.arange(value.shape[1]) == place[:, None]
    least = np.where(chosen, value - error, np.inf).min(axis=1)
    sure = least > np.where(chosen, -np.inf, value + error).max(axis=1)
    return replace(logarithms.contract.exact(place), error=np.where(sure, 0.0, float(value.shape[1])))


def _at(arithmetic: Any, x: Any, rows: Any) -> Any:
    return arithmetic.moved(x, lambda a: a[rows])


def _added(arithmetic: Any, total: Any, rows: np.ndarray, part: Any) -> Any:
    """`total` with a part added to some of its rows."""

    def written(whole: np.ndarray, some: np.ndarray) -> np.ndarray:
        whole = whole.copy()
        whole[rows] = some
        return whole

    return arithmetic.joined(written, total, arithmetic.add(_at(arithmetic, total, rows), part))


def _picked(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """One element of each row."""
    return rows[np.arange(len(rows)), columns]


def _unpicked(values: np.ndarray, columns: np.ndarray, width: int) -> np.ndarray:
    """Rows of zeros with one element each."""
    rows = np.zeros((len(values), width))
    rows[np.arange(len(values)), columns] = values
    return rows


def _spread(shape: tuple[int, ...], value: np.ndarray) -> np.ndarray:
    return np.broadcast_to(value, shape)


def _side_by_side(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([part if part.ndim == 2 else part[:, None] for part in parts], axis=1)


def _check_cutoffs(cutoffs: Sequence, n_classes: int) -> None:
    rising = all(a < b for a, b in pairwise(cutoffs))
    if not cutoffs or not rising or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1:
        raise ValueError(f"cutoffs are {cutoffs}; needed are rising integers from 1 to {n_classes - 1}")
    if any(int(c) != c for c in cutoffs):
        raise ValueError(f"cutoffs are {cutoffs}; needed are integers")


def _samples(layer: AdaptiveLogSoftmaxWithLoss, input: Any) -> np.ndarray:
    """Samples (N, in_features) that have no targets."""
    input = float_array(input)
    if input.ndim == 2 and input.shape[1] == layer.in_features:
        return input
    kind = IndexError if input.shape == (layer.in_features,) else RuntimeError
    raise kind(
        f"AdaptiveLogSoftmaxWithLoss: input {input.shape}; needed is (N, {layer.in_features}) where there is "
        "no target"
    )


def _checked(layer: AdaptiveLogSoftmaxWithLoss, input: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Samples (N, in_features) and targets (N), of a single sample too."""
    input, target = float_array(input), np.asarray(target)
    if (input.ndim, target.ndim) not in ((1, 0), (2, 1)) or input.shape[:-1] != target.shape:
        raise RuntimeError(
            f"AdaptiveLogSoftmaxWithLoss: input {input.shape}, target {target.shape}; needed are "
            "(N, in_features) and (N), or (in_features) and ()"
        )
    if input.shape[-1] != layer.in_features:
        raise RuntimeError(
            f"AdaptiveLogSoftmaxWithLoss: input {input.shape}; needed are {layer.in_features} features"
        )
    if target.dtype.kind not in "iu" or ((target < 0) | (target >= layer.n_classes)).any():
        raise RuntimeError(
            f"AdaptiveLogSoftmaxWithLoss: target of {target.dtype} from {target.min(initial=0)} to "
            f"{target.max(initial=0)}; needed are integers from 0 to {layer.n_classes - 1}"
        )
    return input.reshape(target.size, -1) if target.size else input, target.reshape(-1).astype(np.int64)
