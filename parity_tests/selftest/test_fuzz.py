"""Fuzzing finds what no sweep lists, makes it small, and says it as a conformance run would."""

import pickle
import re

import pytest
import torch

pytest.importorskip("hypothesis")

from parity_tests import fuzz
from parity_tests.harness.candidates import StandIns
from parity_tests.harness.cases import Case
from parity_tests.harness.deviations import parse
from parity_tests.harness.fuzzing import fuzz_layer
from parity_tests.harness.options import RunOptions
from parity_tests.harness.run import Run
from parity_tests.specs import spec_named

AVG_POOL1D = torch.nn.functional.avg_pool1d


def wrong_on_strides_of_3(input, *arguments):
    """Wrong only where no case of the sweep is: none has this stride, given as such."""
    output = AVG_POOL1D(input, *arguments)
    return output * 1.01 if arguments[0] != arguments[1] == (3,) and input.shape[-1] > 6 else output


def fuzzed(stand_in, cases=100, seed=0, ledger=()):
    run = Run(RunOptions(devices=("cpu",), dtype="float32", seed=seed))
    run.entries = {"cpu": ledger}
    candidate = StandIns("wrong.py", {"avg_pool1d": stand_in})
    return run, candidate, fuzz_layer(run, spec_named("AvgPool1d"), candidate, cases)


@pytest.fixture(scope="module")
def found():
    run, candidate, layer = fuzzed(wrong_on_strides_of_3)
    return run, candidate, layer.findings[0]


def test_fault_outside_the_sweep_is_found_and_made_small(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, candidate, finding = found
    assert dict(finding.case.arguments)["stride"] == 3
    assert set(finding.case.shapes[0][:-1]) == {1} and finding.case.shapes[0][-1] == 7
    text = fuzz.told(run, candidate, finding)
    path = re.search(r"^script: (.*)$", text, re.MULTILINE)[1]
    assert finding.case.id in text and "out of bound" in text and (tmp_path / path).is_file()
    assert "rerun: python -m parity_tests.fuzz --again .parity/AvgPool1d-" in text


def test_right_implementation_gives_no_finding_and_a_seed_the_same_cases():
    def right(*arguments):
        seen.append(tuple(arguments[0].shape))
        return AVG_POOL1D(*arguments)

    runs = []
    for seed in (0, 0, 1):
        seen: list = []
        assert fuzzed(right, 30, seed)[2].findings == []
        runs.append(seen)
    assert runs[0] == runs[1] != runs[2]


ENTRY = """
[[deviation]]
name = "known"
cases = 'AvgPool1d-.*'
checks = ["forward", "input_gradients"]
worst = 9.0
cause = "known"
look_again = 2030-01-01
every = false
"""


def test_what_the_ledger_knows_is_no_finding():
    candidate_ledger = parse(ENTRY)
    layer = fuzzed(wrong_on_strides_of_3, ledger=candidate_ledger)[2]
    assert layer.findings == [] and layer.known["known"] > 0 and layer.cases == 100


def test_error_of_the_suite_is_a_finding(monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("a bound")

    run = Run(RunOptions(devices=("cpu",)))
    layer = fuzz_layer(run, spec_named("ReLU"), run.candidates[0], 5, broken)
    assert "the suite raised ZeroDivisionError: a bound" in layer.findings[0].errors[0].message


def test_findings_become_entries_of_a_ledger(found, tmp_path):
    finding, path = found[2], tmp_path / "found.toml"
    fuzz.append(path, [finding])
    (entry,) = parse(path.read_text())
    assert entry.matches(finding.case.id) and all(entry.explains(error) for error in finding.errors)


def test_whole_command(tmp_path, monkeypatch, capfd):
    """In a child process: a finding ends with exit code 1, its file gives it again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text(
        "import torch\ndef relu(input, inplace=False):\n    return torch.relu(input) * 1.5\n"
    )
    given = ("--candidate", "wrong.py")
    assert fuzz.main(["--layers", "ReLU", "--cases", "20", *given]) == 1
    said = capfd.readouterr().out
    assert "20 generated cases of 1 layers" in said and "seed 0: the same seed gives" in said
    path = re.search(r"--again (\S+)", said)[1]
    assert fuzz.main(["--again", path, *given]) == 1
    assert "ReLU forward" in capfd.readouterr().out


NO_CASES = {
    "no case: the reference refuses it": Case(
        "AdaptiveLogSoftmaxWithLoss",
        (("in_features", 4), ("n_classes", 5), ("cutoffs", (2,))),
        ((2, 1),),
        (("method", "log_prob"),),
    ),
    "no case: its bound is infinite": Case(
        "Transformer",
        (("d_model", 12), ("nhead", 2), ("dim_feedforward", 1), ("dropout", 0.0), ("num_encoder_layers", 6)),
        ((12, 12), (1, 12)),
    ),
}


@pytest.mark.parametrize("said", NO_CASES)
def test_a_finding_that_is_no_case_any_more_says_so(said, tmp_path, capfd):
    path = tmp_path / "before.case"
    path.write_bytes(pickle.dumps(NO_CASES[said]))
    assert fuzz.main(["--again", str(path)]) == 0 and capfd.readouterr().out.startswith(said)


BAD = {
    "--layers Conv4d": "--layers 'Conv4d' is not known; near it are Conv",
    "--families poling": "--families 'poling' is not known; near it are pooling",
    "--cases 0": "--cases '0' is not a whole number of at least 1",
    "--seed x": "--seed 'x' is not a whole number of at least 0",
    "--limit 0": "--limit '0' is not a whole number of seconds of at least 1",
    "--candidate nowhere.py": "there is no such file; give the path of a Python file",
    "--device tpu": "torch finds no such device here",
    "--dtype float8": "--dtype 'float8' is not known; choose one of",
    "--save nowhere/found.toml": "there is no such folder; make it",
    "--again nowhere.case": "there is no such file; a finding names its own",
    "--depth 3": "unrecognized arguments: --depth 3; --help lists what there is",
}


@pytest.mark.parametrize("arguments", BAD)
def test_wrong_argument_is_one_sentence(arguments, capsys):
    assert fuzz.main(arguments.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith("ERROR: ") and BAD[arguments] in said.err


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
