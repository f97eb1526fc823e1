"""The suite as pytest's plug-in: candidates, processes, reports, and silence in other projects' runs."""

import json

import pytest
import torch

from parity_tests.harness.candidates import Eager, StandIns, functions_of
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.coverage import in_torch
from parity_tests.harness.options import DTYPES, RunOptions
from parity_tests.selftest.sessions import apart, conformance, here
from parity_tests.specs import all_specs
from refimpl import error_bounds

pytest_plugins = ["pytester"]

RIGHT = """
import torch
def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    return torch.nn.functional.avg_pool1d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)
"""
WRONG = RIGHT.replace(
    "def ", "def original(*args):\n    return torch.nn.functional.avg_pool1d(*args)\ndef ", 1
).replace("count_include_pad)\n", "not count_include_pad)\n")


def test_right_file_is_green_and_says_what_was_not_run(pytester):
    pytester.makepyfile(right=RIGHT)
    run = here(pytester, *conformance("pooling"), "--candidate", "right.py", "--sweep", "quick")
    outcomes = run.parseoutcomes()
    assert run.ret == 0 and outcomes["passed"] > 5 and "failed" not in outcomes
    assert outcomes.get("xfailed", 0) == 2, "what torch's own backward pass is known for is inherited"
    run.stdout.fnmatch_lines(["AvgPool1d *strictest *", "not run: * cases, not reached by right.py"])
    assert "AvgPool2d" not in run.stdout.str()


def test_wrong_file_is_red_and_says_what_where_and_how_to_run_it_again(pytester):
    pytester.makepyfile(wrong=WRONG)
    run = here(
        pytester, *conformance("pooling"), "--candidate", "wrong.py", "--cases", "40", "-k", "AvgPool1d"
    )
    assert run.ret == pytest.ExitCode.TESTS_FAILED
    run.stdout.fnmatch_lines(
        [
            "AvgPool1d forward, *padding_*, wrong.py/cpu",
            "output[[]*] = *, exact *, bound * elements out of bound, worst * x",
            "verdict: *",
            'rerun: pytest --pyargs parity_tests -k "[[]AvgPool1d-*-cpu]" --candidate wrong.py',
            "script: .parity/AvgPool1d-*.py",
            "AvgPool1d * FAILED",
        ]
    )


def test_rerun_selects_one_case_although_other_ids_end_alike(pytester):
    run = here(pytester, *conformance("activation"), "-k", "[ELU-in2x3x5x7-cpu]", "--collect-only", "-q")
    assert len([line for line in run.outlines if line.endswith("-cpu]")]) <= 1


def test_functions_handed_on_unchanged_get_exactly_the_outcome_of_eager():
    layers = [(spec, sweep_of(spec, RunOptions()).cases) for spec in all_specs() if in_torch(spec)]
    small = [(s, case) for s, cases in layers for case in cases[::61] if not case.name.startswith("network")]
    names = {name for spec, case in small for name in functions_of(spec, case)}
    handing_on = StandIns("handing_on", {name: _handed_on(name) for name in names})
    compared = 0
    for spec, case in small:
        if handing_on.reaches(spec, case):
            assert _said(run_checks(spec, case, handing_on)) == _said(run_checks(spec, case, Eager())), (
                case.id
            )
            compared += 1
    assert compared > len(small) / 2


def _handed_on(name):
    def call(*args, **kwargs):
        return getattr(torch.nn.functional, name)(*args, **kwargs)

    return call


def _said(verdict):
    tally = verdict.tally
    return [(e.check, e.message) for e in verdict.errors], tally.elements, tally.facts, tally.utilisation


def totals(path):
    report = json.loads(path.read_text())
    for layer in report["layers"]:
        del layer["seconds"]
    keep = ("totals", "dropped", "not_run", "triples", "deviations", "layers")
    layers = sorted(report["layers"], key=str)
    ids = sorted(case["id"] for case in report["cases"])
    return {key: report[key] for key in keep} | {"layers": layers, "ids": ids}


def test_two_processes_give_the_totals_of_one_and_reports_are_whole(tmp_path, pytester):
    pytest.importorskip("xdist")
    few = (*conformance("pooling"), "-k", "MaxPool1d or AvgPool1d", "--sweep", "quick", "--report")
    assert here(pytester, *few, tmp_path / "one.json").ret == 0
    run = apart(tmp_path, *few, "two.json", "-n", "2")
    assert run.returncode == 0, run.stdout
    assert totals(tmp_path / "one.json") == totals(tmp_path / "two.json")
    assert totals(tmp_path / "one.json")["totals"]["elements"] > 1000
    assert not list(tmp_path.glob("*.part"))


def test_silent_in_the_runs_of_other_projects(tmp_path):
    (tmp_path / "test_theirs.py").write_text(
        "import sys\ndef test_theirs():\n    assert not {'torch', 'numpy', 'refimpl'} & set(sys.modules)\n"
    )
    run = apart(tmp_path, "-p", "no:benchmark", "-p", "no:hypothesispytest", "-p", "no:xdist")
    assert run.returncode == 0, run.stdout
    assert "parity:" not in run.stdout and "1 passed" in run.stdout


def test_whole_package_is_collected_from_anywhere(tmp_path):
    run = apart(
        tmp_path,
        "--pyargs",
        "parity_tests",
        "--collect-only",
        "-q",
        "--sweep",
        "quick",
        "-k",
        "AvgPool1d-k3-in3x2x13 or whole",
    )
    assert run.returncode == 0, run.stdout
    assert "[AvgPool1d-k3-in3x2x13-cpu]" in run.stdout and "test_whole_package_is_collected" in run.stdout


def test_effective_options_are_in_the_header(pytester):
    few = ("--dtype", "float16", "--seed", "3", "--collect-only", "-k", "AvgPool1d-k3")
    run = here(pytester, *conformance("pooling"), *few)
    run.stdout.fnmatch_lines(
        ["parity: candidate eager *dtype float16 *layout all *sweep default*seed 3*", "torch *"]
    )


def test_dtypes_of_options_are_those_of_the_bounds():
    assert DTYPES == error_bounds.DTYPES
