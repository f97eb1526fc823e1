"""Shards: every case is in one of them, and each has its share of layers, axis values, triples and slow
cases."""

import math

import pytest

from parity_tests.harness.cases import crashing, sweep_of
from parity_tests.harness.options import RunOptions
from parity_tests.harness.run import Run
from parity_tests.harness.shards import share
from parity_tests.specs import all_specs, spec_named

LAYERS = ("Conv2d", "MaxPool2d", "BatchNorm1d", "GELU", "LSTM", "CrossEntropyLoss")


def every_case(spec, options=RunOptions()):  # noqa: B008  (it is frozen)
    return (*sweep_of(spec, options).cases, *crashing(spec, options))


def shards(cases, of):
    return [share(cases, (number, of)) for number in range(1, of + 1)]


@pytest.mark.parametrize("of", [1, 2, 3, 4, 7, 1000])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_case_is_in_one_shard_and_they_are_of_one_size(layer, of):
    cases = every_case(spec_named(layer))
    parts = shards(cases, of)
    assert sorted(case.id for part in parts for case in part) == sorted(case.id for case in cases)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(list(part) == [case for case in cases if case in set(part)] for part in parts)


def test_without_shards_every_case_runs():
    cases = every_case(spec_named("GELU"))
    assert share(cases, None) == cases == share(cases, (1, 1))


def test_shards_of_many_layers_are_of_one_size():
    """What does not divide begins at another shard in each layer."""
    options = RunOptions(sweep="quick")
    layers = [every_case(spec, options) for spec in all_specs()]
    sizes = [sum(len(share(cases, (number, 3))) for cases in layers) for number in (1, 2, 3)]
    print(f"three shards of the quick sweep have {sizes} cases")
    assert max(sizes) - min(sizes) < len(layers) / 3


@pytest.mark.parametrize("layer", LAYERS)
def test_a_shard_keeps_its_share_of_triples(layer, record_property):
    """A third of rows that were drawn at random would cover about as much."""
    sweep = sweep_of(spec_named(layer), RunOptions())
    shares = [sweep.triples(set(part)) / sweep.array.covered for part in shards(sweep.cases, 3)]
    record_property("triples", [f"{share:.0%}" for share in shares])
    assert sweep.triples(set(sweep.cases)) == sweep.array.covered
    assert min(shares) > 1 / 3 and max(shares) < min(shares) * 1.15


@pytest.mark.parametrize("layer", LAYERS)
def test_no_axis_falls_into_step_with_the_shards(layer):
    """There are four dtypes, and in four shards each has all of them, in about equal numbers."""
    cases = every_case(spec_named(layer))
    for dtype in {case.dtype for case in cases}:
        counts = [sum(case.dtype == dtype for case in part) for part in shards(cases, 4)]
        assert min(counts) > sum(counts) / 4 - 3 * math.sqrt(sum(counts)) / 2 and min(counts) > 0, dtype


@pytest.mark.parametrize("layer", ["Conv2d", "MaxPool2d", "BatchNorm1d"])
def test_each_shard_has_some_of_the_large_cases(layer):
    cases = sorted(every_case(spec_named(layer)), key=size, reverse=True)
    large = set(cases[:9])
    assert [len(large.intersection(part)) for part in shards(cases, 3)] == [3, 3, 3]


def size(case):
    return sum(math.prod(shape) for shape in case.shapes)


def test_a_run_plans_its_share_and_counts_what_it_leaves_to_others():
    runs = [Run(RunOptions(sweep="quick", shard=shard)) for shard in (None, (1, 3), (2, 3), (3, 3))]
    whole, *parts = ([planned.id for planned in run.plan("linear")] for run in runs)
    assert sorted(case for part in parts for case in part) == sorted(whole)
    assert [run.elsewhere + len(part) for run, part in zip(runs[1:], parts, strict=True)] == [len(whole)] * 3
    everything = runs[0].summary.triples["Linear"]
    for run in runs[1:]:
        own = run.summary.triples["Linear"]
        assert own.covered < own.of_all == everything.covered == everything.of_all
