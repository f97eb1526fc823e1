"""Every published bug that is recreated is caught, in every layer that it names."""

import re

import pytest

from parity_tests.faults.published import NOT_RECREATED, published_bugs
from parity_tests.selftest.test_readme import README
from parity_tests.specs import spec_named
from parity_tests.strength.catching import catches
from parity_tests.strength.results import RECORD, document, known_cases, recorded, with_section

BUGS = published_bugs()
KNOWN = known_cases()


@pytest.mark.parametrize("name", BUGS)
def test_published_bug_is_caught(name):
    """The case that caught it when the record was written is tried first."""
    for catch in catches(name, BUGS[name], KNOWN.get(name)):
        assert catch.check, f"{name} ({BUGS[name].source}) passed all {catch.cases} cases of {catch.layer}"


def test_sources_are_repositories_and_numbers():
    for bug in (*BUGS.values(), *NOT_RECREATED):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", bug.source), bug.name


def test_bugs_name_layers_and_say_what_is_wrong():
    for name, bug in BUGS.items():
        assert bug.layers and all(spec_named(layer).name == layer for layer in bug.layers), name
        assert bug.sentence and not bug.sentence.endswith("."), name


def test_no_bug_is_both_recreated_and_not():
    assert not {bug.source for bug in BUGS.values()} & {bug.source for bug in NOT_RECREATED}


@pytest.mark.skipif(not RECORD.is_file(), reason="no record was written")
def test_record_is_of_these_bugs_and_the_readme_shows_it():
    results = recorded()
    rows = {(row["bug"], row["layer"]) for row in results["rows"]}
    now = {(name, layer) for name, bug in BUGS.items() for layer in bug.layers}
    assert rows == now, "run `make strength STRENGTH_ARGS=--record`"
    assert all(row["check"] for row in results["rows"])
    assert document(results).count("\n| ") > len(rows)
    if README.exists():
        text = README.read_text()
        assert text == with_section(text, results), "run `make strength STRENGTH_ARGS=--record`"
