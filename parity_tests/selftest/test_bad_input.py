"""Bad input ends with an exit code and one sentence: what was given, what is needed, how to mend it."""

import pytest

from parity_tests.harness.devices import devices_present
from parity_tests.selftest.sessions import conformance, here

pytest_plugins = ["pytester"]

USAGE = 4  # pytest's exit code for a wrong call

GOOD = "import torch\noriginal = torch.nn.functional.avg_pool1d\ndef avg_pool1d(*args):\n    "
FILES = {
    "syntax.py": "def avg_pool1d(:\n",
    "import.py": "import a_module_that_is_nowhere\n",
    "exits.py": "raise SystemExit(3)\n",
    "nothing.py": "def my_pool(input):\n    return input\n",
    "helper.py": "from torch.nn.functional import pad\ndef my_pool(input):\n    return pad(input, (1, 1))\n",
    "empty.py": "",
    "none.py": GOOD + "return None\n",
    "shape.py": GOOD + "return original(*args)[..., :-1]\n",
    "dtype.py": GOOD + "return original(*args).double()\n",
    "raises.py": GOOD + "raise ValueError('no such kernel')\n",
    "gradient.py": GOOD + "return original(*args).detach()\n",
    "writes.py": GOOD + "args[0].data.add_(1)\n    return original(*args)\n",
    "prints.py": "print('import')\n" + GOOD + "print('call')\n    return original(*args)\n",
}

# arguments -> what the sentence says
USAGE_ERRORS = {
    "--candidate missing.py": "there is no such file; give the path",
    "--candidate syntax.py": "syntax.py cannot be imported: SyntaxError: invalid syntax (line 1); mend",
    "--candidate import.py": "ModuleNotFoundError: No module named 'a_module_that_is_nowhere' (line 1); mend",
    "--candidate exits.py": "exits.py cannot be imported: SystemExit: 3 (line 1)",
    "--candidate nothing.py": "stands in for nothing: its public names are my_pool, and none is",
    "--candidate helper.py": "stands in for nothing: its public names are my_pool, and none is",
    "--candidate empty.py": "stands in for nothing: its public names are none at all",
    "--candidate a_module_that_is_nowhere": "is none of eager, aot_eager, inductor, inference, autocast,",
    "--dtype float8": "--dtype 'float8' is not known; choose one of float64, float32, float16, bfloat16",
    "--device tpu": "torch finds no such device here; present are cpu",
    "--device 7": "--device '7' is not a device; give one like cpu, cuda or cuda:1",
    "--sweep huge": "--sweep 'huge' is not known; choose one of quick, default, full",
    "--layout diagonal": "--layout 'diagonal' is not known; choose one of contiguous,",
    "--precision fp8": "--precision 'fp8' is not known; choose one of ieee, tf32",
    "--cases 0": "--cases '0' is not a whole number of at least 1",
    "--cases abc": "--cases 'abc' is not a whole number of at least 1",
    "--seed -1": "--seed '-1' is not a whole number of at least 0",
    "--report nowhere/r.json": "make it, or name another file",
    "--report .": "is a folder; give the name of a file in it",
}

FAILURES = {
    "none.py": "AvgPool1d returned NoneType; needed is a tensor",
    "shape.py": "output has shape (3, 2, 3), needed is (3, 2, 4)",
    "dtype.py": "output has dtype float64, needed is float32",
    "raises.py": "the candidate raised ValueError: no such kernel (*raises.py:4)",
    "gradient.py": "the output has no gradient function; needed are gradients of grad_input",
    "writes.py": "the call changed input0; it must leave its operands alone",
}


@pytest.fixture
def files(pytester):
    for name, text in FILES.items():
        (pytester.path / name).write_text(text)
    return pytester


def cases_of_pooling(candidate):
    """A dozen cases of AvgPool1d in float32, the corner at its defaults among them."""
    return (
        *conformance("pooling"),
        "-k",
        "AvgPool1d",
        "--dtype",
        "float32",
        "--sweep",
        "quick",
        "--candidate",
        candidate,
    )


@pytest.mark.parametrize("arguments", USAGE_ERRORS)
def test_usage_error(files, arguments):
    run = here(files, *conformance("pooling"), *arguments.split())
    run.stderr.fnmatch_lines([f"ERROR: *{_literal(USAGE_ERRORS[arguments])}*"])
    assert run.ret == USAGE
    assert len([line for line in run.errlines if line.strip()]) == 1, "one sentence"
    assert {path.name for path in files.path.iterdir()} == set(FILES), "nothing is left behind"


@pytest.mark.skipif("cuda" in devices_present(), reason="this machine has a CUDA device")
def test_cuda_without_a_device_is_a_usage_error(files):
    run = here(files, *conformance("pooling"), "--device", "cuda")
    run.stderr.fnmatch_lines(["ERROR: --device cuda: torch finds no such device here; present are cpu*"])
    assert run.ret == USAGE


@pytest.mark.parametrize("candidate", FAILURES)
def test_failure(files, candidate):
    run = here(files, *cases_of_pooling(candidate))
    run.stdout.fnmatch_lines([f"*{FAILURES[candidate]}*"])
    outcomes = run.parseoutcomes()
    assert run.ret == pytest.ExitCode.TESTS_FAILED and outcomes["failed"] > 0
    assert outcomes.get("passed", 0) <= 1, "only the empty batch, in which there is nothing to get wrong"


def test_candidate_that_prints_passes_and_keeps_the_table_whole(files):
    run = here(files, *cases_of_pooling("prints.py"))
    assert run.ret == 0 and run.parseoutcomes()["passed"] > 0
    run.stdout.fnmatch_lines(["AvgPool1d *cpu *strictest"])
    assert "call" not in run.outlines


def test_help_names_every_option(pytester):
    text = here(pytester, "--help").stdout.str()
    names = "--candidate --device --dtype --layout --sweep --cases --seed --precision --ignore-known"
    names += " --isolate --minutes --report --shard"
    assert [name for name in names.split() if name not in text] == []


def _literal(text):
    """`text` for fnmatch: brackets taken literally."""
    return text.replace("[", "[[]")
