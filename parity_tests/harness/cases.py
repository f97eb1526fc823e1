"""Cases: one frozen description of what is run, whose id is built from what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from parity_tests.harness.covering import CoveringArray, covered, covering_array, prefix
from parity_tests.harness.options import RunOptions
from parity_tests.specs.spec import Built, Corner, LayerSpec, Rejection

HARNESS_AXES = {
    "dtype": "float32",
    "layout": "contiguous",
    "parameter_layout": "contiguous",
    "tier": "rounding",
    "mode": "train",
    "data": "normal",
}


@dataclass(frozen=True)
class Case:
    """One call of one layer.  Nothing of it is rewritten later; `id` is derived from the fields, only
    non-defaults shown.

    arguments, call   pairs of name and value as passed to the constructor and to the call
    data              how values are drawn (harness/data.py)
    name              of a corner case, shown in place of the arguments; of a rejection, `rejects_...`
    """

    layer: str
    arguments: tuple[tuple[str, Any], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    call: tuple[tuple[str, Any], ...] = ()
    dtype: str = "float32"
    layout: str = "contiguous"
    parameter_layout: str = "contiguous"
    tier: str = "rounding"
    mode: str = "train"
    data: str = "normal"
    name: str = ""
    seed: int = 0

    @cached_property
    def id(self) -> str:
        parts = [self.layer]
        if self.name:
            parts.append(self.name)
        else:
            parts += [_argument(name, value) for name, value in (*self.arguments, *self.call)]
            parts += ["in" + "_".join(_shape(shape) for shape in self.shapes)]
        parts += [] if self.dtype == "float32" else [self.dtype]
        parts += [] if self.layout == "contiguous" else [self.layout]
        parts += [] if self.parameter_layout == "contiguous" else [f"parameters_{self.parameter_layout}"]
        parts += [] if self.tier == "rounding" else [self.tier]
        parts += [] if self.mode == "train" else [self.mode]
        parts += [] if self.name or self.data == "normal" else [f"data_{self.data}"]
        return "-".join(parts)

    @property
    def rejects(self) -> bool:
        return self.name.startswith("rejects_")


_SHORT = {"kernel_size": "k", "in_channels": "cin", "out_channels": "cout"}


def _argument(name: str, value: Any) -> str:
    return f"{_SHORT[name]}{_value(value)}" if name in _SHORT else f"{name}_{_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "x".join(_value(item) for item in value) if value else "empty"
    return str(value).replace("-", "m").replace(" ", "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if shape else "scalar"


def case_of(spec: LayerSpec, row: Mapping[str, Any], built: Built, **fields: Any) -> Case:
    """The case of a row of axis values and of what the spec builds from it."""
    settings = {axis: row[axis] for axis in HARNESS_AXES if axis in row}
    return Case(
        layer=spec.name,
        arguments=tuple(built.arguments.items()),
        call=tuple(built.call.items()),
        shapes=tuple(tuple(shape) for shape in built.shapes),
        **{**settings, **fields},
    )


@dataclass(frozen=True)
class Sweep:
    """The cases of one layer, and what is known of their coverage."""

    cases: tuple[Case, ...]
    array: CoveringArray
    rows: tuple[tuple[Case, dict[str, Any]], ...] = ()  # axis values, and the case that was built from them

    def triples(self, cases: Collection[Case]) -> int:
        """How many triples of axis values some of the cases cover."""
        rows = [row for case, row in self.rows if case in cases]
        everything = len(self.array.rows) <= len(rows) == len(self.rows)
        return self.array.covered if everything else covered(rows)


def sweep_of(spec: LayerSpec, options: RunOptions) -> Sweep:
    """The cases of a layer that the options ask for; ValueError where an axis comes out empty."""
    axes = dict(spec.axes)
    for axis, wanted in (("dtype", options.dtype), ("layout", options.layout)):
        if wanted is not None:
            if wanted not in axes.get(axis, (HARNESS_AXES[axis],)):
                return Sweep((), CoveringArray((), 0, 0, 0, {}))
            axes[axis] = (wanted,)
    array = _array(spec, tuple(axes.items()))
    rows = list(array.rows)
    if options.sweep == "quick":
        rows = list(prefix(axes, rows, 0, strength=1))
    elif options.sweep == "full" and options.dtype is None:
        rows = [{**row, "dtype": dtype} for row in rows for dtype in axes.get("dtype", ("float32",))]
        rows = [
            row for row in rows if all(c.holds(*(row[axis] for axis in c.axes)) for c in spec.constraints)
        ]
    if options.cases is not None:
        rows = list(prefix(axes, rows, options.cases, strength=2))
    cases = [case_of(spec, row, spec.build(row), seed=options.seed) for row in rows]
    built = tuple(zip(cases, rows, strict=True))
    cases += list(_corners(spec, options))
    cases = list(dict.fromkeys(cases))
    twice = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise ValueError(
            f"{spec.name}: {len(twice)} ids stand for more than one case, for example {twice[0]}"
        )
    return Sweep(tuple(cases), array, built)


@cache
def _array(spec: LayerSpec, axes: tuple) -> CoveringArray:
    array = covering_array(dict(axes), spec.factorial, spec.constraints)
    for axis, values in axes:
        missing = [value for value in values if not any(row[axis] == value for row in array.rows)]
        if missing:
            raise ValueError(
                f"{spec.name}: values {missing!r} of axis {axis!r} reach no case; "
                "mend the constraints or take the values out"
            )
    return array


@cache
def crashing(spec: LayerSpec, options: RunOptions) -> tuple[Case, ...]:
    """The named cases with which some torch crashes or hangs: beside the sweep, only for a child process."""
    return tuple(_corners(spec, options, crashes=True))


def _corners(spec: LayerSpec, options: RunOptions, crashes: bool = False) -> Iterator[Case]:
    """Named cases that the sweep includes, then the rejections."""
    default = {axis: values[0] for axis, values in spec.axes.items()}
    included = {"quick": ("quick",), "default": ("quick", "default"), "full": ("quick", "default", "full")}[
        options.sweep
    ]
    for corner in spec.corners:
        if corner.sweep not in included or corner.crashes != crashes:
            continue
        row = {**default, **corner.row}
        if options.layout not in (None, row.get("layout", "contiguous")):
            continue
        for dtype in corner.dtypes:
            if options.dtype in (None, dtype):
                yield _corner_case(spec, corner, {**row, "dtype": dtype}, options.seed)
    if options.dtype in (None, "float32") and options.layout in (None, "contiguous"):
        for rejection in spec.rejections:
            if rejection.crashes == crashes and (rejection.sweep != "full" or options.sweep == "full"):
                yield rejection_case(spec, rejection, options.seed)


def _corner_case(spec: LayerSpec, corner: Corner, row: Mapping[str, Any], seed: int) -> Case:
    built = corner.built if corner.built is not None else spec.build(row)
    data = corner.data if corner.data != "normal" else row.get("data", "normal")
    return case_of(spec, row, built, name=corner.name, data=data, seed=seed)


def rejection_case(spec: LayerSpec, rejection: Rejection, seed: int = 0) -> Case:
    return Case(
        spec.name,
        tuple(rejection.built.arguments.items()),
        tuple(rejection.built.shapes),
        tuple(rejection.built.call.items()),
        dtype=rejection.dtype,
        name=f"rejects_{rejection.name}",
        seed=seed,
    )


def rejection_of(spec: LayerSpec, case: Case) -> Rejection:
    """The rejection that a case is made of."""
    return next(rejection for rejection in spec.rejections if f"rejects_{rejection.name}" == case.name)
