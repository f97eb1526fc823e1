"""Layers under torch.autocast: right ones are accepted; what is cast wrongly, or not at all, is caught."""

import numpy as np
import pytest
import torch

from parity_tests.harness.autocast import Autocast
from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.items import try_law
from parity_tests.harness.loading import make_candidate
from parity_tests.harness.options import OptionError, RunOptions
from parity_tests.harness.repro import script
from parity_tests.harness.run import Run
from parity_tests.harness.trial import trial_of
from parity_tests.specs import spec_named
from refimpl.error_bounds import FLOATS, Contract, round_to, strictest

CANDIDATE = Autocast()


def cases(layer, dtype, sweep="default"):
    spec = spec_named(layer)
    found = sweep_of(spec, RunOptions(sweep=sweep, dtype=dtype)).cases
    return spec, [case for case in found if CANDIDATE.reaches(spec, case) and not case.rejects]


def plain(case):
    """Nothing of what torch is known to do otherwise."""
    contiguous = case.layout == case.parameter_layout == "contiguous"
    return contiguous and case.data == "normal" and all(0 not in shape for shape in case.shapes)


def failing(layer, dtype, count=6):
    """What the checks say of a few cases, in one list."""
    spec, chosen = cases(layer, dtype)
    chosen = [case for case in chosen if plain(case)]
    assert len(chosen) >= count
    return [e.check for case in chosen[:count] for e in run_checks(spec, case, CANDIDATE).errors]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("layer", ["Linear", "Conv2d", "MSELoss", "ReflectionPad2d", "AvgPool3d", "Hardtanh"])
def test_layers_of_each_list_are_accepted(layer, dtype):
    assert failing(layer, dtype) == []


# By the documented lists, not by what torch does: layer -> dtype of the outputs for inputs of these four.
TYPES = {
    "Linear": ("float64", "bfloat16", "bfloat16", "bfloat16"),
    "PReLU": ("float64", "bfloat16", "bfloat16", "bfloat16"),
    "scaled_dot_product_attention": ("float64", "bfloat16", "bfloat16", "bfloat16"),
    "CrossEntropyLoss": ("float64", "float32", "float32", "float32"),
    "MaxUnpool1d": ("float64", "float32", "float32", "float32"),
    "ReplicationPad3d": ("float64", "float32", "float32", "float32"),
    "ReflectionPad3d": ("float64", "float32", "bfloat16", "float16"),
    "CircularPad2d": ("float64", "float32", "bfloat16", "float16"),
    "LayerNorm": ("float64", "float32", "bfloat16", "float16"),
    "GELU": ("float64", "float32", "bfloat16", "float16"),
}


@pytest.mark.parametrize("layer", TYPES)
def test_each_layer_computes_in_the_type_of_its_list(layer):
    for dtype, computed in zip(("float64", "float32", "bfloat16", "float16"), TYPES[layer], strict=True):
        spec, chosen = cases(layer, dtype, "quick")
        assert {CANDIDATE.computes(spec, case) for case in chosen} == {computed}


def test_the_pad_of_a_mode_and_rank_is_looked_up_by_itself():
    spec, chosen = cases("pad", "bfloat16")
    types = {}
    for case in chosen:
        arguments = dict(case.arguments)
        key = arguments.get("mode", "constant"), len(arguments["pad"]) // 2
        types.setdefault(key, set()).add(CANDIDATE.computes(spec, case))
    assert types["constant", 2] == types["circular", 2] == types["reflect", 3] == {"bfloat16"}
    assert types["reflect", 2] == types["replicate", 3] == {"float32"}


def test_the_area_of_a_volume_is_a_pool_of_the_list():
    spec, chosen = cases("interpolate", "float16")
    by_area = {len(c.shapes[0]): CANDIDATE.computes(spec, c) for c in chosen if "mode_area" in c.id}
    assert by_area == {3: "float16", 4: "float16", 5: "float32"}


def own(function, cast, back):
    """A function that leaves autocast and casts by itself: real operands first, the result afterwards."""

    def wrong(*args, **kwargs):
        under, args = torch.is_autocast_enabled("cpu"), list(args)
        with torch.autocast("cpu", enabled=False):
            if under:
                args = [cast(x) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in args]
            output = function(*args, **kwargs)
            return back(output) if under else output

    return wrong


def as_is(x):
    return x


WRONG = {
    "not cast at all": ("linear", "Linear", as_is, as_is, "metadata"),
    "operands not rounded": ("linear", "Linear", as_is, torch.Tensor.bfloat16, "forward"),
    "result not rounded": ("linear", "Linear", torch.Tensor.bfloat16, torch.Tensor.float, "metadata"),
    "rounded once more": ("mse_loss", "MSELoss", as_is, lambda y: y.bfloat16().float(), "forward"),
    "not widened": ("mse_loss", "MSELoss", as_is, as_is, "metadata"),
    "widened too late": ("mse_loss", "MSELoss", as_is, torch.Tensor.float, "forward"),
    "an unlisted one rounded": ("hardtanh", "Hardtanh", torch.Tensor.bfloat16, torch.Tensor.float, "forward"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_casts_are_caught(fault, monkeypatch):
    name, layer, cast, back, check = WRONG[fault]
    dtype = "bfloat16" if "widened" in fault else "float32"
    monkeypatch.setattr(torch.nn.functional, name, own(getattr(torch.nn.functional, name), cast, back))
    spec, chosen = cases(layer, dtype)
    few = [case for case in chosen if plain(case)][:4]
    if dtype == "float32":
        assert [e.check for case in few for e in run_checks(spec, case, Eager()).errors] == []
    assert check in failing(layer, dtype)


class Rounded(torch.autograd.Function):
    """The operand as it is, its gradient rounded to bfloat16."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient.bfloat16().to(gradient.dtype)


def test_gradient_that_is_rounded_although_the_list_says_float32_is_caught(monkeypatch):
    monkeypatch.setattr(
        torch.nn.functional, "mse_loss", own(torch.nn.functional.mse_loss, Rounded.apply, as_is)
    )
    assert set(failing("MSELoss", "float32")) == {"input_gradients"}


def test_layers_that_mix_types_are_left_out_with_a_sentence():
    run = Run(RunOptions(candidate="autocast", sweep="quick"))
    planned = run._plan_layer(spec_named("LSTM"))
    assert {one.case.dtype for one in planned if not one.case.rejects} == {"float64"}
    assert run.summary.deselected["autocast mixes types inside LSTM, of which no contract speaks"] > 0
    for layer, left in (("Conv2d", "float32"), ("LocalResponseNorm", "bfloat16")):
        spec = spec_named(layer)
        every = [case for case in sweep_of(spec, RunOptions(dtype=left)).cases if not case.rejects]
        reached = [case for case in every if CANDIDATE.reaches(spec, case)]
        assert len(reached) < len(every)
        assert {dict(case.arguments).get("padding_mode", "zeros") for case in reached} <= {"zeros"}
    assert len(cases("LocalResponseNorm", "float32")[1]) > 5


def test_laws_of_random_layers_are_for_results_in_the_type_of_the_case():
    spec, chosen = cases("FractionalMaxPool2d", "bfloat16", "quick")
    run = Run(RunOptions(candidate="autocast"))
    with pytest.raises(pytest.skip.Exception, match="not part of the run"):
        try_law(run, spec, chosen[0], lambda *given: 1)


def test_another_device_is_a_usage_error():
    with pytest.raises(OptionError, match="only the lists of operations for the CPU"):
        make_candidate("autocast", "cuda")


@pytest.mark.parametrize(("layer", "dtype"), [("Linear", "float32"), ("MSELoss", "float16")])
def test_the_truth_is_remembered_for_each_type_by_itself(layer, dtype):
    spec, chosen = cases(layer, dtype, "quick")
    eager, under = (trial_of(spec, chosen[0], candidate) for candidate in (Eager(), CANDIDATE))
    assert eager.required == strictest(dtype) != under.required


def test_a_script_calls_the_layer_under_autocast():
    spec, chosen = cases("Linear", "float32")
    text = script(spec, chosen[0], CANDIDATE, (), RunOptions())
    compile(text, "script", "exec")
    assert "with torch.autocast('cpu', dtype=torch.bfloat16):" in text


@pytest.mark.parametrize(
    ("first", "second"), [("float32", "bfloat16"), ("float32", "float16"), ("bfloat16", "float16")]
)
def test_a_cast_costs_one_rounding(first, second):
    rng, contract = np.random.default_rng(0), strictest(first)
    value = round_to(first, rng.standard_normal(20_000) * 2.0 ** rng.integers(-20, 12, 20_000))
    value[::5] = round_to(second, value[::5])
    error = np.abs(value) * rng.choice([0.0, 0.0, 2.0**-9, 2.0**-6], value.shape)
    given = contract.exact(value + 0.0)
    given = type(given)(value, error, contract)
    cast, share = given.cast(second), 0.0
    for side in (-1.0, 0.3, 1.0):
        away = np.abs(round_to(second, value + side * error) - value)
        assert (away <= cast.error).all()
        share = max(share, float((away / np.where(cast.error > 0, cast.error, 1.0)).max()))
    assert share > 0.9 and cast.contract == Contract(second, contract.accumulate)
    held = (error == 0) & (round_to(second, value) == value)
    assert held.any() and (cast.error[held] == 0).all()


def test_a_cast_to_a_wider_type_is_free_and_overflow_is_kept():
    narrow = strictest("bfloat16").exact(np.array([1.0, 3.0e38]))
    assert narrow.cast("float32") is narrow
    cast = narrow.cast("float16")
    assert np.isfinite(cast.error).all() and cast.value[1] >= FLOATS["float16"].overflow
