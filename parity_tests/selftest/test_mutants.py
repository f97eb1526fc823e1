"""Mutants: what is mutated, that a mutant takes the place of the original, what is said of them."""

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray")

import parity_tests
from parity_tests.mutants.apply import Carrier, Process, changed_codes, key_of, parts_of
from parity_tests.mutants.explained import Entry, entries, explained, stale
from parity_tests.mutants.mutate import OPERATORS, mutants_of
from parity_tests.mutants.reach import Watch
from parity_tests.mutants.results import Verdict, load, merged, save, table
from refimpl.taps import Kernel

ROOT = Path(parity_tests.__file__).parents[1]

MODULE = '''"""Numbers such as 1 in texts stay."""

from __future__ import annotations

LIMIT = 3
__all__ = ["twice"] * 1


def walk(visit, arrays, geometry):
    for i in range(geometry[0]):
        visit(arrays, i)


def twice(x: int | None, more=0) -> int | None:
    if x is None:
        raise ValueError(f"x is {x}, needed is {1 + 1}")
    if not x == LIMIT and more == 0:
        return x + x
    return max(y for y in (x, more + 7))


def multiplier(factor):
    def multiply(x):
        return factor * x

    return multiply


by_two = multiplier(2)


class Holder:
    size = 5

    def get(self, plus=1):
        return self.size + plus

    def __repr__(self):
        return "1" * 2
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the name refimpl.mutated, loaded from a file of its own."""
    import importlib.util

    file = tmp_path / "mutated.py"
    file.write_text(MODULE)
    spec = importlib.util.spec_from_file_location("refimpl.mutated", file)
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "refimpl.mutated", made)
    spec.loader.exec_module(made)
    made.other_name = made.twice
    made.kernel = Kernel(made.walk, made.twice)
    return made


@pytest.fixture
def become(module):
    """Puts the mutant that turns `before` into `after` into the process; gives whether it was put in."""
    file = Path(module.__file__)
    process = Process()
    process.memories.clear()  # those of the whole suite
    process.kernels = [kernel for kernel in process.kernels if kernel is module.kernel]

    def put(before, after, afresh=False):
        mutants = list(mutants_of(file.parent, file.name))
        found = [m for m in mutants if (m.before, spaced(m.after)) == (before, spaced(after))]
        assert len(found) == 1, [(m.before, m.after) for m in mutants]
        return process.become(file, found[0].source, afresh)

    return put


def spaced(text):
    """With single blanks: an operator of cosmic-ray's may leave another one."""
    return " ".join(text.replace("=", " = ").replace("=  =", "==").split()).replace(" = ", "=")


def test_mutants_are_those_of_the_code_and_not_of_what_it_says(tmp_path):
    (tmp_path / "mutated.py").write_text(MODULE)
    found = list(mutants_of(tmp_path, "mutated.py"))
    changes = {(m.function, spaced(m.before), spaced(m.after)) for m in found}

    def mutated(function, before, after):
        return (function, spaced(before), spaced(after)) in changes

    assert mutated("twice", "return x + x", "return x - x")
    assert mutated("twice", "if not x == LIMIT and more == 0:", "if not x != LIMIT and more == 0:")
    assert mutated("twice", "if not x == LIMIT and more == 0:", "if not x == LIMIT or more == 0:")
    assert mutated("", "LIMIT = 3", "LIMIT = 4") and mutated("", "LIMIT = 3", "LIMIT = 2")
    assert mutated("Holder.get", "return self.size + plus", "return self.size - plus")
    assert mutated("", "def get(self, plus=1):", "def get(self, plus= 2):")
    told = "\n".join(before for _, before, _ in changes)
    assert "raise" not in told and "__all__" not in told and '"1" * 2' not in told and "texts" not in told
    assert not any("|" in m.before and m.operator.startswith("ReplaceBinary") for m in found)
    assert all(m.source != MODULE and m.source.count("\n") == MODULE.count("\n") for m in found)
    assert len({m.source for m in found}) == len(found)


def test_mutants_of_a_reference_are_cosmic_rays_own():
    """The same sources as cosmic-ray's own walk gives."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path = "refimpl/shapes.py"
    source, sources = (ROOT / path).read_text(), set()
    for name in OPERATORS:
        occurrence, mutated = 0, source
        while mutated is not None:
            sources.add(mutated)
            mutated = mutate_code(source, get_operator(f"core/{name}")(), occurrence)
            occurrence += 1
    found = [mutant.source for mutant in mutants_of(ROOT, path)]
    assert found and set(found) <= sources - {source}


def test_a_mutant_takes_the_place_of_a_function_under_every_name(module, become):
    assert become("return x + x", "return x - x")
    assert module.twice(5) == module.other_name(5) == 0


def test_a_mutant_inside_of_what_a_function_holds(module, become):
    assert become("return max(y for y in (x, more + 7))", "return max(y for y in (x, more - 7))")
    assert module.twice(3, 1) == 3


def test_a_mutant_of_a_constant_of_a_default_of_a_class_and_of_what_is_enclosed(module, become):
    holder = module.Holder()
    assert become("LIMIT = 3", "LIMIT = 4", afresh=True)
    assert (module.LIMIT, module.twice(3), module.twice(4)) == (4, 6, 7)
    assert become("size = 5", "size = 6", afresh=True)
    assert holder.get() == 7
    assert become("def get(self, plus=1):", "def get(self, plus=2):", afresh=True)
    assert become("by_two = multiplier(2)", "by_two = multiplier( 3)", afresh=True)
    assert module.by_two(5) == 15


def test_kernels_of_mutated_functions_are_interpreted(module, become):
    module.kernel._compiled = print
    assert become("return x + x", "return x - x")
    assert module.kernel._compiled is None and module.kernel.taps_interpreted < 0
    assert {part.__name__ for part in parts_of(module.kernel)} == {"walk", "twice"}


def test_only_what_differs_itself_has_changed():
    old = compile("def f():\n    def g():\n        return 1\n    return g\n", "m", "exec")
    new = compile("def f():\n    def g():\n        return 2\n    return g\n", "m", "exec")
    assert [before.co_name for before, _ in changed_codes(old, new)] == ["g"]


def test_a_generator_that_a_mutant_leaves_out_has_no_pair():
    text = "def f(x):\n    for y in {}:\n        return y\n\ndef g():\n    return 1\n"
    old, new = (compile(text.format(over), "m", "exec") for over in ("(z for z in x)", "[]"))
    assert [before.co_name for before, _ in changed_codes(old, new)] == ["f"]


def test_the_watch_sees_functions_and_kernels(module):
    watch = Watch(frozenset([module.__file__]))
    _, reach = watch.of(lambda: module.by_two(2))
    assert {name for _, name, _ in reach.keys} == {"multiplier.<locals>.multiply"}
    kernel = Kernel(module.walk, lambda arrays, i: None)
    _, reach = watch.of(lambda: kernel((), (3,), 3))
    assert key_of(module.walk.__code__) in reach.keys and reach.taps == 3


# What is said of them.

ONE = Verdict("refimpl/conv.py", 3, "f", "NumberReplacer", "a + 1", "a + 2", 0, "survived")
KILLED = replace(
    ONE, after="a + 0", outcome="killed", by="parity_tests/conformance/test_conv.py::test_parity"
)
OF_ONE = Entry("conv", "f", "a + 1  ->  a + 2", "", "both are the same")


def test_an_entry_explains_the_mutant_that_it_names():
    assert explained([ONE, KILLED], [OF_ONE]) == {ONE: "both are the same"}
    assert explained([ONE], [replace(OF_ONE, function="g")]) == {}
    assert explained([ONE], [Entry("all_modules", "", "", r"a \+ \d", "whatever is added")]) != {}


def test_an_entry_that_says_what_is_not_so_is_told():
    assert stale([ONE], [OF_ONE]) == []
    assert "no such mutant" in stale([ONE], [replace(OF_ONE, change="a + 1  ->  b")])[0]
    assert "is killed by" in stale([KILLED], [replace(OF_ONE, change="a + 1  ->  a + 0")])[0]
    assert stale([ONE], [replace(OF_ONE, module="linear", change="?")]) == []  # was not hunted


def test_an_entry_without_a_reason_is_refused(tmp_path):
    (tmp_path / "conv.toml").write_text('[[mutant]]\nfunction = "f"\nchanges = ["a"]\n')
    with pytest.raises(ValueError, match="needed are changes, function, reason"):
        entries(tmp_path)


def test_every_entry_is_of_a_module():
    names = {
        file.stem for folder in ("refimpl", "parity_tests/harness") for file in (ROOT / folder).glob("*.py")
    }
    assert {entry.module for entry in entries()} <= names | {"all_modules"}


def test_the_table_counts_what_is_killed_of_what_is_not_equivalent():
    unreached = replace(ONE, before="b", outcome="unreached")
    lines = table([ONE, KILLED, unreached], {ONE: "reason"})
    assert lines[2] == "| refimpl/conv.py | 3 | 1 | 0 | 0 | 0 | 1 | 1 | 50.0 % |"
    assert lines[3].startswith("| all 1 modules | 3 |")


def test_the_later_verdict_of_a_mutant_counts(tmp_path):
    later = replace(ONE, line=9, outcome="killed", by="a test")
    save("refimpl/conv.py", merged([ONE, KILLED], [later]), tmp_path)
    assert load("refimpl/conv.py", tmp_path) == [later, KILLED]
    assert load("refimpl/linear.py", tmp_path) == []


def hunt(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-m", "parity_tests.mutants", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_hunt_from_end_to_end(tmp_path):
    """A few mutants of a small module: the tests named kill most of them, and who survives is told."""
    where = ("--modules", "refimpl/shapes.py", "--tests", "selftest/test_shapes.py", "--sweeps", "quick")
    first = hunt(tmp_path, *where, "--every", "6", "--workers", "1")
    found = load("refimpl/shapes.py", tmp_path / ".parity/mutants")
    assert found, first.stderr
    assert {verdict.outcome for verdict in found} >= {"killed"}
    assert "| refimpl/shapes.py |" in first.stdout
    alive = [verdict for verdict in found if verdict.outcome in ("survived", "unreached")]
    assert first.returncode == (1 if alive else 0)
    shown = hunt(tmp_path, *where, "--show")
    assert shown.stdout == first.stdout and shown.returncode == first.returncode


def test_a_test_that_the_module_itself_turns_red_kills_no_mutant(tmp_path):
    """A test that is red in any process but its own says nothing of a mutant in a child."""
    liar = tmp_path / "test_liar.py"
    liar.write_text(
        "import os\n\nfrom refimpl.shapes import per_axis\n\n"
        "HERE = os.getpid()\n\n\n"
        "def test_here():\n"
        "    per_axis(1, 2, 'x')\n"
        "    assert os.getpid() == HERE\n"
    )
    where = ("--modules", "refimpl/shapes.py", "--tests", str(liar), "--sweeps", "quick", "--every", "3")
    said = hunt(tmp_path, *where, "--workers", "1")
    assert "test_here is red for refimpl/shapes.py as it is" in said.stderr, said.stderr
    outcomes = {verdict.outcome for verdict in load("refimpl/shapes.py", tmp_path / ".parity/mutants")}
    assert outcomes and outcomes <= {"survived", "unreached"}


def test_a_library_that_is_not_there_is_told():
    without = "import sys; sys.modules['cosmic_ray'] = None; import importlib.util as u; find = u.find_spec\n"
    without += "u.find_spec = lambda name, *rest: None if name == 'cosmic_ray' else find(name, *rest)\n"
    run = "import runpy; runpy.run_module('parity_tests.mutants', run_name='__main__')"
    said = subprocess.run([sys.executable, "-c", without + run], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1] == (
        "mutation testing needs cosmic_ray, which is not there: pip install cosmic-ray"
    )


def test_a_module_that_is_not_there_is_told(tmp_path):
    said = hunt(tmp_path, "--modules", "refimpl/no_such.py")
    assert said.returncode == 1 and "there is no module refimpl/no_such.py" in said.stderr


def test_what_a_function_says_of_its_signature_is_carried_over():
    def told(default):
        def function(*arguments):
            return arguments

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        function.__signature__ = inspect.Signature([inspect.Parameter("x", kind, default=default)])
        return function

    old, new = told(1), told(2)
    assert Carrier("refimpl.mutated").pair(new, old)
    assert inspect.signature(old) == inspect.signature(new)
    assert not Carrier("refimpl.mutated").pair(told(2), old)


def test_whether_a_kernel_is_inlined_is_carried_over():
    old, same, new = (Kernel(key_of, key_of, inline) for inline in (False, False, True))
    assert not Carrier("refimpl.mutated").pair(same, old)
    assert Carrier("refimpl.mutated").pair(new, old) and old.inline == new.inline


def test_a_table_of_nothing_is_not_green(tmp_path):
    for way in ("--show", "--alive"):
        said = hunt(tmp_path, "--modules", "refimpl/conv.py", way)
        assert said.returncode == 1 and "nothing is known of refimpl/conv.py: run without" in said.stderr
    said = hunt(tmp_path, "--every", "0")
    assert said.returncode == 2 and "--every is 0" in said.stderr
