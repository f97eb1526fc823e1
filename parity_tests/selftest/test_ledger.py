"""The ledger of known deviations: what it explains, when it is stale, and that the one shipped is not."""

from datetime import date
from types import SimpleNamespace

import pytest

from parity_tests.harness.cases import crashing, sweep_of
from parity_tests.harness.deviations import in_force, judge, ledger, overdue, parse
from parity_tests.harness.options import RunOptions
from parity_tests.harness.report import Summary, closing
from parity_tests.harness.run import Run
from parity_tests.selftest.test_guards import record
from parity_tests.specs import all_specs

ENTRY = """
[[deviation]]
name = "{name}"
cases = 'Conv2d-.*float16'
checks = ["forward"]
worst = 3.5
cause = "sums in half"
look_again = 2030-01-01
{more}
"""


def entries(more="", name="half-sums"):
    return parse(ENTRY.format(name=name, more=more))


def error(check="forward", met=None, message="output[0] = 1"):
    return SimpleNamespace(check=check, met=met, message=message)


def test_failure_that_an_entry_names_is_explained_and_others_are_not():
    known, other = error(), error("purity")
    result = judge(entries(), "Conv2d-k3-float16", [known, other])
    assert result.unexpected == (other,) and [entry.name for entry in result.explained_by] == ["half-sums"]
    assert judge(entries(), "Conv2d-k3-bfloat16-exact", [known]).unexpected == (known,), (
        "the whole id must match"
    )


def test_entry_explains_only_the_contract_and_the_message_that_it_names():
    half = entries('meets = "float16 accumulation"')
    assert judge(half, "Conv2d-float16", [error(met="float16 accumulation")]).unexpected == ()
    assert judge(half, "Conv2d-float16", [error(met=None)]).unexpected
    layout = entries('message = "not in channels_last"')
    assert judge(layout, "Conv2d-float16", [error(message="output has shape (1,)")]).unexpected


def test_every_case_must_fail_unless_the_entry_says_some():
    assert judge(entries(), "Conv2d-float16", []).not_met
    assert not judge(entries("every = false"), "Conv2d-float16", []).not_met


def test_entry_speaks_of_one_candidate_device_and_range_of_versions():
    entry = entries(r"torch = '2\.13\..*'")
    assert in_force(entry, "eager", "cpu", "2.13.0+cpu") == entry
    for elsewhere in (
        ("mine.py", "cpu", "2.13.0"),
        ("eager", "cuda:0", "2.13.0"),
        ("eager", "cpu", "2.14.0"),
    ):
        assert in_force(entry, *elsewhere) == ()


def finished(more, whole=True, **records):
    run = Run(RunOptions())
    run.entries = {"cpu": entries(more)}
    run.add(record(id="Conv2d-k3-float16", **records), "passed")
    run.selected = 1
    run.finish(whole=whole, stopped=False)
    return run


def test_entry_that_no_longer_fails_is_an_error_or_a_warning_where_hardware_decides():
    assert "matched cases, and none of them fails any more" in finished("every = false").errors[0]
    assert finished("every = false", whole=False).errors == []
    assert finished("every = false", deviations={"half-sums": 2.0}).errors == []
    depends = finished("every = false\nhardware = true")
    assert depends.errors == [] and "none of them fails any more" in depends.warnings()[0]


def test_date_that_has_passed_is_a_warning():
    assert overdue(entries(), date(2030, 1, 1)) == []
    assert "was to be looked at again by 2030-01-01" in overdue(entries(), date(2030, 1, 2))[0]


@pytest.mark.parametrize(("worst", "warned"), [(3.5, False), (3.54, False), (3.6, True)])
def test_deviation_that_grew_worse_is_a_warning(worst, warned):
    summary = Summary()
    summary.add(record(deviations={"half-sums": worst}), "expected failure")
    lines = closing(summary, {"half-sums": entries()[0]}, 1, 1.0, 1.0)
    assert f"known deviation half-sums: 1 cases, worst {worst} x the bound (ledger 3.5)" in lines
    assert any("worse than the ledger says" in line for line in lines) is warned


def test_incomplete_entries_and_equal_names_are_errors():
    with pytest.raises(ValueError, match="ledger entry 'a'"):
        parse("[[deviation]]\nname = 'a'\n")
    with pytest.raises(ValueError, match="names are not unique"):
        parse(ENTRY.format(name="twice", more="") * 2)


def test_every_entry_of_the_shipped_ledger_matches_a_case_and_says_why():
    full = RunOptions(sweep="full")
    cases = [case for spec in all_specs() for case in (*sweep_of(spec, full).cases, *crashing(spec, full))]
    ids = [case.id for case in cases]
    assert [entry.name for entry in ledger() if not any(map(entry.matches, ids))] == []
    assert [entry.name for entry in ledger() if not entry.cause or not entry.worst > 1] == []
