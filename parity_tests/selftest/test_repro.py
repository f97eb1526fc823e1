"""The stand-alone scripts show the numbers that the suite saw, with torch and numpy only."""

import re
import runpy
from dataclasses import replace

import numpy as np
import pytest
import torch

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.compare import compare
from parity_tests.harness.neighbours import neighbour
from parity_tests.harness.options import RunOptions
from parity_tests.harness.repro import SHOWN, script
from parity_tests.harness.trial import trial_of
from parity_tests.selftest.sessions import conformance, here, python
from parity_tests.specs import spec_named

pytest_plugins = ["pytester"]

# layer and what the id of the case must hold: each regime that a script has to build again
REGIMES = [
    ("Conv2d", "data_infinity"),
    ("Conv2d", "channels_last"),
    ("Conv2d", "bfloat16-expanded"),
    ("Conv2d", "parameters_transposed"),
    ("Conv2d", "network_lenet5_conv1-bfloat16"),
    ("ConvTranspose2d", "output_size"),
    ("MaxPool2d", "return_indices"),
    ("BatchNorm2d", "float16"),
    ("GLU", "bfloat16"),
    ("Mish", "inplace_True-in2x3x5x7-float16-sliced"),
    ("SiLU", "inplace_True"),
    ("pad", "sliced"),
    ("PReLU", "float64"),
    ("linear", ""),
    ("LSTM", "float16"),
    ("MultiheadAttention", "bfloat16"),
    ("AdaptiveLogSoftmaxWithLoss", "first_cluster_empty"),
    ("AdaptiveLogSoftmaxWithLoss", "method_log_prob"),
]


def case_with(layer, words):
    spec = spec_named(layer)
    found = [case for case in sweep_of(spec, RunOptions()).cases if words in case.id and not case.rejects]
    return spec, found[len(found) // 2]


def as_if_wrong(spec, case):
    """Every result as if its first elements were wrong, so that a script shows what the candidate gave."""
    trial = trial_of(spec, case, Eager())
    actual, expected = dict(trial.outcome.arrays), dict(trial.bounded(trial.required))
    if trial.outcome.evaluated is not None:
        actual["evaluated"], expected["evaluated"] = trial.outcome.evaluated, trial.evaluated(trial.required)
    return [
        replace(
            compare(name, actual[name], expected[name]),
            wrong=np.argwhere(np.ones(actual[name].shape))[:SHOWN],
        )
        for name in expected
    ]


@pytest.mark.parametrize(("layer", "words"), REGIMES)
def test_script_shows_what_the_candidate_gave(layer, words, tmp_path, capsys):
    spec, case = case_with(layer, words)
    found = as_if_wrong(spec, case)
    path = tmp_path / "script.py"
    path.write_text(script(spec, case, Eager(), found, RunOptions()))
    with torch.enable_grad(), pytest.raises(SystemExit) as ended:  # a script may turn gradients off for good
        runpy.run_path(str(path))
    assert ended.value.code == any(comparison.utilisation > 1 for comparison in found)
    lines = iter(capsys.readouterr().out.splitlines())
    for comparison in found:
        for index in map(tuple, comparison.wrong):
            start = f"{comparison.name}{[int(i) for i in index]} = {comparison.actual[index]:.9g}, exact "
            assert next(lines).startswith(start)
    assert next(lines, None) is None


def test_large_tensors_are_drawn_again_and_not_written_out():
    spec, case = case_with("Conv2d", "network_alexnet_conv2")
    text = script(spec, case, Eager(), as_if_wrong(spec, case)[:1], RunOptions())
    assert "weight = tensor(drawn(" in text and len(text) < 100_000


WRONG = """
import torch
def avg_pool1d(*args):
    return torch.nn.functional.avg_pool1d(*args) * 1.001
"""


def test_script_of_a_users_file_runs_without_the_suite(pytester):
    (pytester.path / "wrong.py").write_text(WRONG)
    few = ("-k", "[AvgPool1d-k3-in3x2x13-cpu]", "--candidate", "wrong.py")
    said = here(pytester, *conformance("pooling"), *few).stdout.str()
    line = re.search(r"^(\S+\[.*?\] = .*, bound \S+)      ", said, re.MULTILINE)[1]
    path = pytester.path / re.search(r"^script: (.*)$", said, re.MULTILINE)[1]
    alone = (
        "import runpy, sys; sys.modules.update(refimpl=None, parity_tests=None); runpy.run_path(sys.argv[1])"
    )
    empty = pytester.mkdir("empty")
    shown = python(empty, "-I", "-c", alone, str(path))
    assert shown.returncode == 1, shown.stderr
    assert shown.stdout.startswith(f"{line}, error / bound ")


FORGETS = """
import torch
known = {}
def avg_pool2d(input, kernel_size, stride, padding, ceil_mode, include, divisor):
    include = known.setdefault(tuple(input.shape), include)
    return torch.nn.functional.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, include, divisor)
"""


def test_script_calls_the_neighbour_whose_traces_are_the_failure(pytester):
    """A cache that knows the shape alone: right in every first call, and so in a script of one call."""
    file, spec = pytester.path / "forgets.py", spec_named("AvgPool2d")
    case = next(case for case in sweep_of(spec, RunOptions()).cases if forgotten(spec, case))
    file.write_text(FORGETS)
    few = ("-k", f"[{case.id}-cpu]", "--candidate", "forgets.py")
    said = here(pytester, *conformance("pooling"), *few).stdout.str()
    path = pytester.path / re.search(r"^script: (.*)$", said, re.MULTILINE)[1]
    shown = python(pytester.path, str(path))
    assert shown.returncode == 1 and "output[" in shown.stdout, shown.stderr
    file.write_text(FORGETS.replace("known.setdefault(tuple(input.shape), include)", "include"))
    shown = python(pytester.path, str(path))
    assert shown.returncode == 0 and "output[" in shown.stdout, shown.stdout + shown.stderr


UNSIGNED = """
import torch
def pad(*args):
    return torch.nn.functional.pad(*args) + 0.0
"""


def test_script_sees_the_sign_of_a_copied_zero(pytester):
    (pytester.path / "unsigned.py").write_text(UNSIGNED)
    spec = spec_named("ReflectionPad1d")
    case = next(
        c for c in sweep_of(spec, RunOptions()).cases if c.data == "specials" and c.dtype == "float32"
    )
    few = ("-k", f"[{case.id}-cpu]", "--candidate", "unsigned.py")
    said = here(pytester, *conformance("padding"), *few).stdout.str()
    path = pytester.path / re.search(r"^script: (.*)$", said, re.MULTILINE)[1]
    shown = python(pytester.path, str(path))
    assert shown.returncode == 1 and "output[" in shown.stdout, shown.stderr


def forgotten(spec, case):
    """Whether a case differs from its neighbour in whether the padding counts, and has one."""
    other, given = neighbour(spec, case), dict(case.arguments)
    if other is None or not given.get("padding") or given.get("divisor_override"):
        return False
    return dict(other.arguments).get("count_include_pad", True) != given.get("count_include_pad", True)


@pytest.fixture(autouse=True)
def one_thread():
    """Scripts run on one thread, and so does the suite."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
