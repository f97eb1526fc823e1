"""Walks and readings: interpreted equals compiled, when what is compiled, what is cached, and life without
numba."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import same_bits, same_numbers
from refimpl import taps
from refimpl.taps import INTERPRETED_TAPS, Kernel, execution, float_array, inside, zeros_like_kind


def pairs(visit, arrays, geometry):
    """Every pair (i, j)."""
    rows, columns = geometry
    for i in range(rows):
        for j in range(columns):
            visit(arrays, i, j)


def row_sums(arrays, i, j):
    total, matrix = arrays
    total[i] += matrix[i, j]


def column_sums(arrays, i, j):
    total, matrix = arrays
    total[j] += matrix[i, j]


def factor(x):
    return 3.0 * x


def scaled_sums(arrays, i, j):
    total, matrix = arrays
    total[i] += factor(matrix[i, j])


def run_of(reading, matrix, mode="interpreted", work=None):
    kernel, total = Kernel(pairs, reading), zeros_like_kind((max(matrix.shape),), matrix)
    with execution(mode):
        kernel((total, matrix), matrix.shape, matrix.size if work is None else work)
    return kernel, total


def all_kernels() -> Iterator[Kernel]:
    """Every kernel of refimpl's modules."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("refimpl."):
            yield from (value for value in vars(module).values() if isinstance(value, Kernel))


def python(code: str, cache: str = "", **more: str) -> str:
    """What a fresh Python prints."""
    environment = {"PYTHONPATH": ":".join(sys.path), "NUMBA_CACHE_DIR": cache, "PATH": "", **more}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Interpreted and compiled.


@pytest.mark.parametrize("reading", [row_sums, column_sums, scaled_sums])
def test_interpreted_equals_compiled_bit_for_bit(reading):
    pytest.importorskip("numba")
    matrix = np.random.default_rng(1).standard_normal((17, 33))
    same_bits(run_of(reading, matrix)[1], run_of(reading, matrix, "compiled")[1])


def test_a_walk_reads_like_its_formula():
    matrix = np.arange(6.0).reshape(2, 3)
    same_numbers(run_of(row_sums, matrix)[1][:2], np.array([3.0, 12.0]))
    same_numbers(run_of(column_sums, matrix)[1], np.array([3.0, 5.0, 7.0]))


def test_exact_numbers_are_never_compiled():
    matrix = np.full((2, 3), Fraction(1, 3), dtype=object)
    kernel, total = run_of(row_sums, matrix, "auto", work=10 * INTERPRETED_TAPS)
    assert kernel._compiled is None and total[0] == 1


def test_small_work_is_interpreted_until_it_adds_up():
    """A kernel is compiled once it has interpreted 50,000 taps, about what compiling would have cost, and
    stays so."""
    pytest.importorskip("numba")
    kernel, matrix = Kernel(pairs, row_sums), np.ones((2, 3))
    for _ in range(2):
        kernel((np.zeros(3), matrix), (2, 3), 25_000)
        assert kernel._compiled is None
    assert kernel.taps_interpreted == 50_000
    kernel((np.zeros(3), matrix), (2, 3), 1)
    assert kernel._compiled is not None and kernel.taps_interpreted == 50_000
    kernel((total := np.zeros(3), matrix), (2, 3), 1)
    assert total[0] == 3 and kernel.taps_interpreted == 50_000


def test_large_work_is_compiled_at_once_unless_told_otherwise():
    pytest.importorskip("numba")
    assert run_of(row_sums, np.ones((2, 3)), "auto", INTERPRETED_TAPS + 1)[0]._compiled is not None
    assert run_of(row_sums, np.ones((2, 3)), "interpreted", INTERPRETED_TAPS + 1)[0]._compiled is None
    assert run_of(row_sums, np.ones((2, 3)), "compiled", 6)[0]._compiled is not None
    assert run_of(row_sums, np.ones((2, 3)), "auto", 6)[0]._compiled is None


def test_execution_is_restored_and_checked():
    with pytest.raises(KeyError), execution("interpreted"):
        raise KeyError
    with execution("interpreted"), execution("auto"):
        pass
    assert taps._mode.get() == "auto"
    with pytest.raises(ValueError, match="'fast' is not one of"), execution("fast"):
        pass


# The cache.


def test_compiled_code_is_cached_between_processes(tmp_path):
    """The second process compiles nothing: every kernel comes from the first one's files."""
    pytest.importorskip("numba")
    code = """
        import numpy as np, refimpl
        from refimpl import conv_taps
        x, w = np.ones((1, 2, 5, 6)), np.ones((3, 2, 2, 3))
        with refimpl.execution("compiled"):
            y = refimpl.conv2d(x, w)
            refimpl.conv2d_backward(y, x, w)
        kernels = conv_taps._forward, conv_taps._input_gradient, conv_taps._weight_gradient
        stats = [kernel._compiled.stats for kernel in kernels]
        print([sum(s.cache_hits.values()) for s in stats], [sum(s.cache_misses.values()) for s in stats])
    """
    assert python(code, str(tmp_path)) == "[0, 0, 0] [1, 1, 1]"
    written = sorted(tmp_path.rglob("*.nb[ci]"))
    assert python(code, str(tmp_path)) == "[1, 1, 1] [0, 0, 0]"
    assert sorted(tmp_path.rglob("*.nb[ci]")) == written and len(written) == 6


def test_every_kernel_is_cached_and_inlined_as_it_says():
    pytest.importorskip("numba")
    assert taps._compile(pairs, row_sums, "always").stats.cache_path
    assert [Kernel(pairs, row_sums, *how).inline for how in ((), (True,), (False,))] == [
        "always",
        "always",
        "never",
    ]


def test_fingerprints_tell_all_kernels_apart():
    """No two kernels that are not the same pair share a name in the cache."""
    pytest.importorskip("numba")
    names = {}
    for kernel in all_kernels():
        name = taps._compile(kernel.walk, kernel.reading, kernel.inline).py_func.__qualname__
        names.setdefault((kernel.walk.__module__, name), set()).add((kernel.walk, kernel.reading))
    assert len(names) >= 3
    assert all(len(pair) == 1 for pair in names.values()), names


@pytest.mark.parametrize("changed", ["factor", "constant", "operator", "global"])
def test_a_changed_part_gets_another_fingerprint(changed):
    """Numbers, operations, globals and functions that are only called: whatever changes what is computed."""

    def made(source):
        namespace = {}
        exec(textwrap.dedent(source), namespace)
        return taps._fingerprint(namespace["reading"])

    before = made("WEIGHT = 2.0\ndef reading(a, i):\n    a[0] += WEIGHT * a[i] + 1.0")
    after = {
        "factor": "WEIGHT = 2.0\ndef reading(a, i):\n    a[0] += WEIGHT * a[i] * a[i] + 1.0",
        "constant": "WEIGHT = 2.0\ndef reading(a, i):\n    a[0] += WEIGHT * a[i] + 1.5",
        "operator": "WEIGHT = 2.0\ndef reading(a, i):\n    a[0] -= WEIGHT * a[i] + 1.0",
        "global": "WEIGHT = 2.5\ndef reading(a, i):\n    a[0] += WEIGHT * a[i] + 1.0",
    }[changed]
    assert made(after) != before
    assert made("WEIGHT = 2.0\n\n\ndef reading(a, i):\n    a[0] += WEIGHT * a[i] + 1.0") == before


def test_functions_that_a_reading_calls_are_part_of_its_fingerprint():
    parts = {}
    pytest.importorskip("numba")
    taps._jit(scaled_sums, parts, "always")
    assert list(parts) == [scaled_sums, factor]


# Without numba.


def test_without_numba_everything_is_interpreted():
    code = """
        import sys
        sys.modules["numba"] = None  # as if it were not installed
        import numpy as np, refimpl
        x, w = np.arange(2.0 * 40 * 41).reshape(1, 2, 40, 41) % 7, np.arange(54.0).reshape(3, 2, 3, 3)
        print(refimpl.conv2d(x, w).sum())
        try:
            with refimpl.execution("compiled"):
                pass
        except RuntimeError as error:
            print(error)
    """
    x, w = np.arange(2.0 * 40 * 41).reshape(1, 2, 40, 41) % 7, np.arange(54.0).reshape(3, 2, 3, 3)
    total, sentence = python(code).splitlines()
    assert total == str(refimpl.conv2d(x, w).sum())
    assert sentence == "compiled execution needs numba, which is not installed: pip install numba"


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("mode", ["auto", "interpreted", "compiled"])
def test_only_compiled_execution_needs_a_compiler(monkeypatch, mode, present):
    monkeypatch.setattr(taps, "compiler_present", lambda: present)
    if mode == "compiled" and not present:
        with pytest.raises(RuntimeError, match="needs numba"), execution(mode):
            pass
        return
    with execution(mode):
        assert taps._mode.get() == mode


def test_importing_refimpl_does_not_import_numba():
    assert python("import sys, refimpl; print('numba' in sys.modules)") == "False"


# What walks are made of.


@pytest.mark.parametrize("stride, padding, dilation", [(1, 0, 1), (2, 1, 1), (3, 4, 2), (1, 7, 3)])
def test_inside_are_the_outputs_whose_tap_lies_in_the_input(stride, padding, dilation):
    for k in range(4):
        first, last = inside(k, 9, 6, stride, padding, dilation)
        found = [y for y in range(6) if 0 <= y * stride - padding + k * dilation < 9]
        assert list(range(first, last)) == found


def test_float_array_is_a_copy_and_keeps_exact_numbers():
    given = np.arange(6.0).reshape(2, 3)
    assert not np.shares_memory(float_array(given), given) and float_array(given.T).flags.c_contiguous
    assert float_array(np.float32([0.1])).dtype == np.float64
    assert float_array(np.array([Fraction(1, 3)], dtype=object)).dtype == object
    assert zeros_like_kind((2,), given).dtype == zeros_like_kind((2,), given, None).dtype == np.float64
    assert zeros_like_kind((2,), given, given.astype(object)).dtype == object
