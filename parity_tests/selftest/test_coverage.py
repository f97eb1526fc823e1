"""Every public class of torch.nn is specified or excused; layers that torch has not are left out aloud."""

import re
import warnings

import pytest
import torch

from parity_tests.faults import all_faults
from parity_tests.harness import coverage
from parity_tests.harness.coverage import absence, covered, in_torch, public_classes, without_a_reason
from parity_tests.selftest.sessions import conformance, here, python
from parity_tests.specs import all_specs
from parity_tests.specs.not_covered import KINDS, NOT_COVERED

pytest_plugins = ["pytester"]
PRESENT = [name for name in NOT_COVERED if hasattr(torch.nn, name)]  # a later torch may have dropped some


def of_kind(kind):
    return [name for name in PRESENT if NOT_COVERED[name].kind == kind]


def test_every_class_of_torch_nn_has_a_specification_or_a_reason():
    missing = without_a_reason()
    print(f"{len(covered())} of {len(public_classes())} classes of torch.nn have a specification")
    assert not missing, f"neither specified nor in NOT_COVERED: {', '.join(missing)}"


def test_the_list_of_classes_is_torchs_own():
    """What torch itself calls public is among them, and nothing else than classes of layers is."""
    named = {
        name for name in torch.nn.modules.__all__ if issubclass(getattr(torch.nn, name), torch.nn.Module)
    }
    assert named <= set(public_classes()) and len(public_classes()) > 150


def test_a_class_is_not_excused_and_specified():
    assert not {*NOT_COVERED} & {spec.name for spec in all_specs()}


def test_only_reasons_that_are_accepted():
    assert {reason.kind for reason in NOT_COVERED.values()} <= set(KINDS)
    assert all(reason.sentence for reason in NOT_COVERED.values())


@pytest.mark.parametrize("name", of_kind("abstract base"))
def test_an_abstract_base_has_no_forward(name):
    assert getattr(torch.nn, name).forward is torch.nn.Module.forward


@pytest.mark.parametrize("name", of_kind("lazy variant"))
def test_a_lazy_variant_becomes_a_layer_that_is_specified(name):
    assert getattr(torch.nn, name).cls_to_become.__name__ in covered()


@pytest.mark.parametrize("name", of_kind("container"))
def test_a_container_has_no_parameters_of_its_own(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one is deprecated
        assert not list(getattr(torch.nn, name)().parameters())


def test_unsynchronised_batch_norm_is_batch_norm():
    """What SyncBatchNorm does without other processes is batch_norm, to the bit."""
    input = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.nn.SyncBatchNorm(4)(input), torch.nn.BatchNorm1d(4)(input))


# A torch without a layer that the suite knows, as an older one is.


@pytest.fixture
def without_layer(monkeypatch):
    monkeypatch.delattr(torch.nn, "LinearCrossEntropyLoss", raising=False)


def test_cases_of_an_absent_layer_are_not_run_and_that_is_said(pytester, without_layer):
    options = ("--sweep", "quick", "-k", "L1Loss or LinearCrossEntropyLoss")
    run = here(pytester, *conformance("loss"), *options)
    assert run.ret == 0 and run.parseoutcomes()["passed"] > 10
    run.stdout.fnmatch_lines(
        [f"not run: * cases, LinearCrossEntropyLoss is not in torch {torch.__version__}"]
    )
    run.stdout.no_fnmatch_line("LinearCrossEntropyLoss*")


def test_a_run_of_an_absent_layer_alone_is_not_green(pytester, without_layer):
    run = here(pytester, *conformance("loss"), "--sweep", "quick", "-k", "LinearCrossEntropyLoss")
    assert run.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_everything_can_be_imported_without_a_layer(tmp_path):
    code = f"""
import torch
for owner, name in ((torch.nn, "LinearCrossEntropyLoss"), (torch.nn.functional, "linear_cross_entropy")):
    if hasattr(owner, name):
        delattr(owner, name)
from parity_tests.faults import all_controls, all_faults
from parity_tests.harness.coverage import coverage_lines, public_classes, without_a_reason
assert "LinearCrossEntropyLoss" not in public_classes() and not without_a_reason()
assert coverage_lines()[0].startswith(f"{{len(public_classes()) - {len(PRESENT)}}} of")
named = {{layer for entry in (*all_faults().values(), *all_controls().values()) for layer in entry.layers}}
assert "LinearCrossEntropyLoss" not in named and len(named) > 100
"""
    run = python(tmp_path, "-c", code)
    assert run.returncode == 0, run.stderr


def test_readme_ends_with_what_is_covered():
    lines = coverage.coverage_lines()
    assert lines[0].startswith(f"{len(covered())} of the {len(public_classes())} classes of torch.nn")
    text = "\n".join(lines)
    assert all(re.search(rf"\b{name}\b", text) for name in PRESENT)


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_every_layer_owns_two_faults_of_which_one_is_in_a_gradient(spec):
    if not in_torch(spec):
        pytest.skip(absence(spec))
    owned = [fault.caught_by for fault in all_faults().values() if spec.name in fault.layers]
    assert len(owned) >= 2 and any(check.endswith("gradients") for check in owned), owned
