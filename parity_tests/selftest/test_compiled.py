"""Candidates that run torch in other ways: right ones are accepted, faults are caught, time is kept."""

import pytest
import torch

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import check_rejection, run_checks
from parity_tests.harness.compiled import Compiled, Inductor, is_followed
from parity_tests.harness.deviations import in_force, ledger
from parity_tests.harness.findings import ParityError
from parity_tests.harness.loading import NAMED, make_candidate
from parity_tests.harness.options import RunOptions
from parity_tests.harness.report import closing
from parity_tests.harness.repro import script
from parity_tests.harness.run import Planned, Run
from parity_tests.harness.transformed import Inference, Vmap
from parity_tests.specs import spec_named

QUICK = RunOptions(sweep="quick", dtype="float32")


def cases(layer, candidate, options=QUICK):
    spec = spec_named(layer)
    return spec, [case for case in sweep_of(spec, options).cases if candidate.reaches(spec, case)]


def failing(layer, candidate, count=4, choose=lambda case: True):
    """What the checks say of a few cases, in one list."""
    spec, chosen = cases(layer, candidate)
    chosen = [case for case in chosen if choose(case)][:count]
    assert chosen
    return [error.check for case in chosen for error in run_checks(spec, case, candidate).errors]


def right(graph, inputs):
    return graph.forward


def twice(graph, inputs):
    """A back end whose floating-point results are twice what they should be."""

    def wrong(*given):
        return tuple(
            2 * x if isinstance(x, torch.Tensor) and x.is_floating_point() else x
            for x in graph.forward(*given)
        )

    return wrong


def without_negation(graph, inputs):
    """A back end that loses what comes after the layer."""
    for node in list(graph.graph.nodes):
        if "neg" in str(node.target):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()
    return graph.forward


def one_graph_for_all(graphs={}):  # noqa: B006  (what is kept from call to call is the point)
    def backend(graph, inputs):
        return graphs.setdefault("first", graph.forward)

    return backend


@pytest.mark.parametrize("layer", ["ReLU", "AvgPool2d"])
def test_compiled_layers_are_accepted(layer):
    assert failing(layer, Compiled(right)) == []


def test_ahead_of_time_autograd_is_accepted():
    assert failing("Hardtanh", make_candidate("aot_eager", "cpu"), count=2) == []


def test_half_of_the_cases_have_a_neighbour_in_their_graph():
    _, chosen = cases("Hardtanh", Eager(), RunOptions())
    followed = sum(map(is_followed, chosen))
    assert len(chosen) // 3 < followed < len(chosen) * 2 // 3


@pytest.mark.parametrize("backend", [twice, without_negation])
def test_wrong_graphs_are_caught(backend):
    choose = is_followed if backend is without_negation else lambda case: True
    assert "forward" in failing("Hardtanh", Compiled(backend), count=3, choose=choose)


def test_graph_of_other_arguments_is_caught():
    """A back end that keeps its first graph: the neighbour's."""
    backend = one_graph_for_all()
    assert "forward" in failing("Hardtanh", Compiled(backend), count=6)


def test_what_makes_no_single_graph_is_a_failure_and_no_silent_fall_back(monkeypatch):
    def printing(input, *args, **kwargs):
        torch._dynamo.graph_break()
        return input.clamp(0)

    monkeypatch.setattr(torch.nn.functional, "relu", printing)

    def choose(case):
        return not dict(case.arguments).get("inplace")

    assert failing("ReLU", Eager(), choose=choose) == []
    assert set(failing("ReLU", Compiled(right), count=1, choose=choose)) == {"metadata"}


@pytest.mark.parametrize("layer", ["Linear", "GELU", "Softmax"])
def test_inference_is_accepted_without_gradients(layer):
    assert failing(layer, Inference()) == []


def test_fault_of_a_fast_path_is_caught(monkeypatch):
    plain = torch.nn.functional.hardtanh

    def fast(input, *args, **kwargs):
        output = plain(input, *args, **kwargs)
        return output * 2 if torch.is_inference_mode_enabled() else output

    monkeypatch.setattr(torch.nn.functional, "hardtanh", fast)
    assert failing("Hardtanh", Eager()) == []
    assert "forward" in failing("Hardtanh", Inference())


@pytest.mark.parametrize("name", ["inference", "autocast"])
def test_bad_arguments_are_put_to_it_and_what_accepts_them_there_alone_is_caught(name, monkeypatch):
    candidate, plain = make_candidate(name, "cpu"), torch.nn.functional.avg_pool1d

    def lenient(input, *args, **kwargs):
        special = torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu")
        return input if special else plain(input, *args, **kwargs)

    spec, chosen = cases("AvgPool1d", candidate)
    chosen = [case for case in chosen if case.rejects]
    assert len(chosen) > 3
    for case in chosen:
        check_rejection(spec, case, candidate)
    monkeypatch.setattr(torch.nn.functional, "avg_pool1d", lenient)
    for case in chosen:
        check_rejection(spec, case, Eager())
        with pytest.raises(ParityError, match="the candidate accepted it"):
            check_rejection(spec, case, candidate)


@pytest.mark.parametrize("layer", ["Conv2d", "MaxPool2d", "Linear", "Softmax", "ReflectionPad1d"])
def test_mapped_layers_are_accepted(layer):
    assert failing(layer, Vmap()) == []


def test_fault_of_a_batching_rule_is_caught(monkeypatch):
    plain = torch.nn.functional.hardtanh

    def fast(input, *args, **kwargs):
        output = plain(input, *args, **kwargs)
        return output.flip(-1) if torch._C._functorch.is_batchedtensor(input) else output

    monkeypatch.setattr(torch.nn.functional, "hardtanh", fast)
    assert failing("Hardtanh", Eager()) == []
    assert "forward" in failing("Hardtanh", Vmap())


def test_only_layers_with_independent_samples_are_mapped():
    assert cases("BatchNorm2d", Vmap())[1] == []
    for layer, axis in (("Softmax", 0), ("LayerNorm", None)):
        mapped = cases(layer, Vmap(), RunOptions())[1]
        assert mapped and all(dict(case.arguments).get("dim", 1) != axis for case in mapped)


@pytest.mark.parametrize("name", [name for name in NAMED if name != "eager"])
def test_repro_script_calls_the_layer_in_the_same_way(name):
    candidate = make_candidate(name, "cpu")
    spec, chosen = cases("Hardtanh", candidate)
    text = script(spec, chosen[0], Eager() if candidate.costly else candidate, (), QUICK)
    text += candidate.script(chosen[0])
    compile(text, "script", "exec")
    called = {"inference": "inference_mode", "autocast": "torch.autocast", "vmap": "func.vmap"}
    assert called.get(name, f"backend='{name}'") in text


def test_time_that_is_over_leaves_cases_out_and_says_so():
    run = Run(RunOptions(minutes=1, sweep="quick"))
    run.started -= 61
    spec, chosen = cases("Hardtanh", Eager())
    records = []
    with pytest.raises(pytest.skip.Exception, match="the 1 minutes of the run were over"):
        Planned(spec, chosen[0], run.candidates[0], run).try_it(records.append)
    run.add(records[0], "skipped")
    assert run.summary.totals["cases"] == 0
    said = [line for line in closing(run.summary, {}, 1, 1.0, 1.0) if line.startswith("not run")]
    assert said == ["not run: 1 cases, the 1 minutes of the run were over; --minutes N gives more"]


def test_costly_candidate_gets_a_small_sweep_and_counts_the_rest():
    run = Run(RunOptions(candidate="inductor"))
    planned = run._plan_layer(spec_named("Conv2d"))
    assert isinstance(run.candidates[0], Inductor) and 5 < len(planned) < 50
    assert run.summary.deselected["too costly for this candidate; --cases N runs more"] > 100
    assert run.progress().startswith("parity: 0 of 0 cases, 0 failed")


def test_ledger_may_name_several_candidates_at_once():
    known = in_force(ledger(), "inductor", "cpu", "2.13.0")
    assert {entry.name for entry in known} >= {
        "compiled-ctc-loss",
        "inductor-average-gradient-ceil-mode",
    }
    assert not any("compiled" in entry.name for entry in in_force(ledger(), "eager", "cpu", "2.13.0"))
