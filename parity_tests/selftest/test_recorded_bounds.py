"""No bound has changed since it was last written down, and a change would show."""

from dataclasses import replace
from functools import cache

import pytest

from parity_tests.selftest.recorded_bounds import bounds_of, cases_on_record, changed, mean_bound, recorded
from parity_tests.specs import FAMILIES
from refimpl.error_bounds import strictest

COMMAND = "python -m parity_tests.selftest.recorded_bounds"
of_family = cache(recorded)


@pytest.mark.parametrize(
    ("spec", "case"),
    [pytest.param(spec, case, id=case.id) for name in FAMILIES for spec, case in cases_on_record(name)],
)
def test_bounds_are_those_on_record(spec, case):
    record = of_family(spec.family)
    assert case.id in record, f"{case.id} is not on record: {COMMAND} {spec.family}"
    bounds, before = bounds_of(spec, case), record[case.id]
    told = {(contract, result) for contract, results in bounds.items() for result in results}
    assert told == {(contract, result) for contract, results in before.items() for result in results}
    for contract, result in sorted(told):
        old, new = before[contract][result], bounds[contract][result]
        assert not changed(old, new), (
            f"{case.id}, {contract}: the mean bound of {result} was {old!r} and is {new!r}; where that is "
            f"meant and proved, {COMMAND} {spec.family} writes it down, and the commit says why"
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_record_holds_the_cases_of_today_and_no_others(name):
    assert list(of_family(name)) == [case.id for _, case in cases_on_record(name)]


def test_one_rounding_more_would_show():
    contract = strictest("float64")
    copied = contract.exact([1.0, 2.0])
    wider = replace(copied, error=copied.error + 2.0**-50)
    assert changed(mean_bound(wider), mean_bound(replace(wider, error=wider.error * (1 + 2.0**-19))))
    assert changed(mean_bound(copied), mean_bound(wider))
    assert not changed(mean_bound(wider), mean_bound(replace(wider, error=wider.error * (1 + 2.0**-40))))
