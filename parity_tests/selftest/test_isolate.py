"""A candidate that crashes, hangs or leaves costs its own case and nothing else."""

import ctypes
import os
import signal
import time

import pytest

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import crashing, sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.isolate import Lost, Worker, checked
from parity_tests.harness.options import RunOptions
from parity_tests.harness.run import Run
from parity_tests.selftest.sessions import conformance, here, python
from parity_tests.specs import spec_named

pytest_plugins = ["pytester"]


def segfault():
    ctypes.string_at(0)


def divide():
    os.kill(os.getpid(), signal.SIGFPE)


def leave():
    os._exit(0)


def hang():
    time.sleep(1000)


def answer(number):
    return number + 1


def complain():
    raise ValueError("no such kernel")


def give_what_cannot_be_sent():
    return lambda: None


@pytest.fixture(scope="module")
def worker():
    worker = Worker(seconds=1.0)
    yield worker
    worker.stop()


LOSSES = {
    segfault: ("crash", "ended its process by SIGSEGV"),
    divide: ("crash", "ended its process by SIGFPE"),
    leave: ("crash", "ended its process with exit code 0"),
    hang: ("hang", "did not end within 1 seconds"),
}


@pytest.mark.parametrize("function", LOSSES, ids=lambda function: function.__name__)
def test_loss_is_told_and_costs_one_start(worker, function):
    assert worker.call(answer, 1) == 2
    before = worker.starts
    with pytest.raises(Lost) as lost:
        worker.call(function)
    assert (lost.value.how, str(lost.value)) == LOSSES[function]
    assert worker.call(answer, 2) == 3 and worker.starts == before + 1


def test_exception_comes_back_and_the_worker_stays(worker):
    worker.call(answer, 1)
    before = worker.starts
    with pytest.raises(ValueError, match="no such kernel"):
        worker.call(complain)
    with pytest.raises(RuntimeError, match="cannot be sent"):
        worker.call(give_what_cannot_be_sent)
    assert worker.call(answer, 2) == 3 and worker.starts == before


def test_verdict_is_the_one_of_this_process():
    spec, patient = spec_named("Conv1d"), Worker()
    wrong = next(c for c in sweep_of(spec, RunOptions()).cases if c.dtype == "float16" and c.data == "nan")
    rejected = next(c for c in sweep_of(spec, RunOptions()).cases if c.rejects)
    for case in (wrong, rejected):
        apart, own = checked(patient, spec, case, Eager()), run_checks(spec, case, Eager())
        assert apart.tally == own.tally and apart.contract == own.contract
        assert list(map(str, apart.errors)) == list(map(str, own.errors))
    patient.stop()


SCRIPT = """
from parity_tests.harness.isolate import Worker
print("started")
worker = Worker()
print(worker.call(max, 1, 2))
worker.stop()
"""


def test_script_is_not_run_again_in_the_child(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    assert python(tmp_path, "script.py").stdout.split() == ["started", "2"]


def test_cases_that_crash_are_beside_the_sweep_and_only_for_a_child():
    run = Run(RunOptions(devices=("cpu",)))
    run.worker = Worker(seconds=30.0)
    spec = spec_named("MaxPool2d")
    cases = crashing(spec, run.options)
    assert cases and not {*cases} & {*sweep_of(spec, run.options).cases}
    assert {*cases} <= {planned.case for planned in run.plan("pooling")}
    verdicts = [run.checked(spec, case, run.candidates[0]) for case in cases]
    assert run.worker.starts >= 1 and all(verdict.errors for verdict in verdicts)
    run.worker.stop()


CANDIDATES = {
    "segfault": ("ctypes.string_at(0)", "crash: the candidate ended its process by SIGSEGV"),
    "leaves": ("os._exit(0)", "crash: the candidate ended its process with exit code 0"),
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidate_that_crashes_in_one_case(pytester, name):
    """The case in bfloat16 fails, says why, and can be run again; the others give their results."""
    does, says = CANDIDATES[name]
    pytester.makepyfile(
        **{
            name: f"""
        import ctypes, os, torch
        original = torch.nn.functional.avg_pool1d
        def avg_pool1d(input, *args):
            if input.dtype is torch.bfloat16:
                {does}
            return original(input, *args)
        """
        }
    )
    few = (
        "-k",
        "AvgPool1d-default_like or AvgPool1d-k3-in or AvgPool1d-kernel_covers_input",
        "--sweep",
        "quick",
    )
    run = here(pytester, *conformance("pooling"), *few, "--isolate", "--candidate", f"{name}.py")
    outcomes = run.parseoutcomes()
    assert run.ret == pytest.ExitCode.TESTS_FAILED and outcomes["failed"] == 1 and outcomes["passed"] >= 3
    run.stdout.fnmatch_lines([f"{says}*", "rerun: pytest *--isolate"])


def test_candidate_class_that_crashes_on_bad_arguments_needs_no_option(pytester):
    pytester.makepyfile(
        crash="""
        import ctypes, torch
        class AvgPool1d(torch.nn.AvgPool1d):
            def forward(self, input):
                if self.kernel_size == (0,):
                    ctypes.string_at(0)
                return super().forward(input)
        """
    )
    few = (
        "-k",
        "AvgPool1d-rejects_zero_kernel or AvgPool1d-rejects_negative_kernel",
        "--candidate",
        "crash.py",
    )
    run = here(pytester, *conformance("pooling"), *few)
    assert run.parseoutcomes() == {"passed": 1, "failed": 1, "deselected": run.parseoutcomes()["deselected"]}
    run.stdout.fnmatch_lines(["needed is RuntimeError; crash: the candidate ended its process by SIGSEGV"])
