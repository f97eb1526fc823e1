"""Guards against false green: each is shown red."""

import pytest
import torch

from parity_tests.harness import trial
from parity_tests.harness.candidates import Eager, StandIns
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.options import RunOptions
from parity_tests.harness.run import Run
from parity_tests.selftest.sessions import apart, conformance, here
from parity_tests.specs import spec_named
from refimpl.error_bounds import SuiteError

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    """What other tests know of a case would hide what is broken here, and what is broken here would stay."""
    trial.forget()
    yield
    trial.forget()


def smallest_case(layer="AvgPool1d"):
    spec = spec_named(layer)
    return spec, sweep_of(spec, RunOptions(sweep="quick")).cases[0]


def test_candidate_that_reaches_nothing_is_an_error(pytester):
    pytester.makepyfile(lonely="def fold(*args):\n    pass\n")
    run = here(pytester, *conformance("padding"), "--candidate", "lonely.py")
    assert run.ret != 0
    run.stdout.fnmatch_lines(
        ["ERROR: no case to run: *lonely.py, which stands in for fold, reaches no layer*"]
    )


def test_candidate_that_reaches_nothing_is_an_error_beside_other_tests(pytester):
    pytester.makepyfile(lonely="def fold(*args):\n    pass\n", test_other="def test_passes():\n    pass\n")
    run = here(pytester, *conformance("padding"), "test_other.py", "--candidate", "lonely.py")
    assert run.ret == pytest.ExitCode.TESTS_FAILED and run.parseoutcomes()["passed"] == 1


def test_stand_in_that_is_never_called_is_an_error():
    class Deaf(StandIns):
        def standing_in(self, spec, case):
            return Eager.standing_in(self, spec, case)

    verdict = run_checks(*smallest_case(), Deaf("deaf", {"avg_pool1d": torch.nn.functional.avg_pool1d}))
    assert "was never called" in verdict.errors[0].message


def test_reference_that_says_nothing_is_an_error(monkeypatch):
    spec, case = smallest_case()
    monkeypatch.setattr(type(spec.reference(**dict(case.arguments))), "bounded", lambda *args: {})
    with pytest.raises(SuiteError, match="says nothing of output"):
        run_checks(spec, case, Eager())


def test_reference_that_forgets_a_gradient_shows(monkeypatch):
    """As a gradient where there should be none, which may be zeros and nothing else."""
    spec, case = smallest_case()
    layer = type(spec.reference(**dict(case.arguments)))
    whole = layer.bounded
    monkeypatch.setattr(layer, "bounded", lambda *given: {"output": whole(*given)["output"]})
    (error,) = run_checks(spec, case, Eager()).errors
    assert error.check == "input_gradients" and "takes no part" in error.message
    assert error.message.startswith("grad_input[")


def test_run_in_which_nothing_was_compared_is_an_error():
    run = Run(RunOptions())
    run.add(record(elements=0), "passed")
    run.selected = 1
    run.finish(whole=False, stopped=False)
    assert run.errors == ["no element was compared in the whole run"]


def test_cases_without_a_result_are_an_error():
    run = Run(RunOptions())
    run.add(record(), "passed")
    run.selected = 3
    run.finish(whole=False, stopped=False)
    assert run.errors == ["2 of 3 cases gave no result: a crash, or an error of the suite"]


def test_layer_that_is_wholly_untested_is_an_error():
    run = Run(RunOptions())
    run.add(record(tier="exact", untested=["output"]), "skipped")
    run.selected = 1
    run.finish(whole=False, stopped=False)
    assert run.errors == ["AvgPool1d: all 1 exact cases are untested: mostly zeros, mend their data"]


def test_exact_case_of_zeros_is_untested_and_not_passed(pytester, monkeypatch):
    monkeypatch.setattr(
        "parity_tests.harness.data._whole_numbers", lambda case, rng, shape: 0.0 * rng.random(shape)
    )
    run = here(pytester, *conformance("pooling"), "-k", "AvgPool1d and exact", "--sweep", "quick", "-rs")
    outcomes = run.parseoutcomes()
    assert run.ret == pytest.ExitCode.TESTS_FAILED and outcomes["skipped"] > 0 and "passed" not in outcomes
    run.stdout.fnmatch_lines(
        ["ERROR: AvgPool1d: all * untested*", "*untested: output, grad_input is mostly zeros*"]
    )


def test_worker_that_crashes_is_an_error(tmp_path):
    pytest.importorskip("xdist")
    (tmp_path / "crash.py").write_text("import os\ndef avg_pool1d(*args):\n    os._exit(1)\n")
    few = (
        "-k",
        "AvgPool1d-k3-in",
        "--dtype",
        "float32",
        "--sweep",
        "quick",
        "-n",
        "1",
        "--max-worker-restart",
        "0",
    )
    run = apart(tmp_path, *conformance("pooling"), *few, "--candidate", "crash.py")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout
    assert "crashed while running" in run.stdout


def record(**changed):
    """What one case of a run says, by hand."""
    verdict = {
        "layer": "AvgPool1d",
        "family": "pooling",
        "device": "cpu",
        "dtype": "float32",
        "id": "AvgPool1d",
    }
    counts = dict.fromkeys(("exact", "facts", "uninformative"), 0) | {"elements": 5, "seconds": 0.1}
    lists = {
        "utilisation": {},
        "deviations": {},
        "untested": [],
        "tells_nothing": [],
        "errors": [],
        "parts": {},
    }
    rest = {"rejection": False, "tier": "rounding", "statistical": 0.0, "contract": "strictest"}
    return {**verdict, **counts, **lists, **rest, **changed}
