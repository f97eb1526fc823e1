"""How the suite is built stays so: who imports whom, docstrings, no typed tolerances, one file each."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import refimpl
from parity_tests.selftest.test_signatures import BACKWARDS, CLASSES, FUNCTIONS
from parity_tests.specs import FAMILIES

ROOT = Path(refimpl.__file__).parent.parent
FOLDERS = {
    "refimpl": "{}.py",
    "parity_tests/specs": "{}.py",
    "parity_tests/faults": "{}.py",
    "parity_tests/conformance": "test_{}.py",
    "parity_tests/selftest": "test_{}.py",
}
BELOW_SPECS = ("parity_tests.harness.covering",)
STANDARD = {"numpy", "refimpl", *sys.stdlib_module_names}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, and whether at its top level rather than where they are used."""
    tree, found = ast.parse(path.read_text()), []
    for node in (node for part in tree.body if not for_types_only(part) for node in ast.walk(part)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in tree.body) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node in tree.body))
    return found


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Who imports whom.


def test_importing_refimpl_loads_nothing_of_the_trial():
    code = (
        "import sys, refimpl; print(sorted({'torch', 'pytest', 'parity_tests', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sources("refimpl"), ids=name_of)
def test_refimpl_imports_numpy_and_the_standard_library(path):
    """numba only where something is compiled, never at the top of a file."""
    for module, at_top in imports(path):
        first = module.partition(".")[0]
        assert first in STANDARD or (first == "numba" and not at_top and path.name == "taps.py"), module


@pytest.mark.parametrize("path", sources("parity_tests"), ids=name_of)
def test_knowledge_flows_one_way(path):
    """refimpl <- specs <- harness <- tests; of the harness a specification may use only the covering
    arrays."""
    kind = path.parent.name
    forbidden = {
        "specs": (
            "parity_tests.harness",
            "parity_tests.faults",
            "parity_tests.selftest",
            "parity_tests.conformance",
        ),
        "harness": ("parity_tests.selftest", "parity_tests.conformance", "parity_tests.benchmarks"),
        "faults": ("parity_tests.selftest", "parity_tests.conformance", "parity_tests.benchmarks"),
    }.get(kind, ())
    for module, _ in imports(path):
        assert not module.startswith(forbidden) or module in BELOW_SPECS, module


@pytest.mark.parametrize("path", sources("parity_tests/specs"), ids=name_of)
def test_specifications_do_not_need_torch(path):
    assert not [module for module, _ in imports(path) if module.partition(".")[0] in ("torch", "pytest")]


# One concept, one file name everywhere.


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_its_file_everywhere(family, folder):
    assert (ROOT / folder / FOLDERS[folder].format(family)).is_file()


@pytest.mark.parametrize("family", FAMILIES)
def test_public_names_are_exported(family):
    names = importlib.import_module(f"refimpl.{family}").__all__
    assert names and all(hasattr(refimpl, name) for name in names)


# No typed tolerances.


@pytest.mark.parametrize("path", sources("refimpl", "parity_tests"), ids=name_of)
def test_no_typed_tolerances(path):
    """Bounds are derived in error_bounds.py; the words for typed ones appear nowhere else."""
    on_trial = ROOT / "parity_tests/strength/others.py"  # how others judge
    if path.name != "error_bounds.py" and path != on_trial:
        words = "|".join(
            ["r" + "tol", "a" + "tol", "all" + "close", "is" + "close", "assert_" + "close", "app" + "rox"]
        )
        assert re.findall(rf"\b(?:assert_)?({words})\b", path.read_text()) == []


# Docstrings: sentence, formula or shape, error, what it raises, source.


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_of_a_function(name):
    text = inspect.getdoc(getattr(refimpl, name))
    sentence = text.splitlines()[0] if "." in text.splitlines()[0] else text.split("\n\n")[0]
    assert sentence.endswith("."), f"{name} begins with no sentence: {sentence!r}"
    assert "->" in text or "Shapes" in text, f"{name}: no shapes"
    assert re.search(r"\b[Ee]rror\b", text), f"{name}: no error"
    assert re.search(r"\b([Rr]aises|exceptions)\b", text), f"{name}: not said what it raises"
    assert "Source: torch.nn.functional." in text, f"{name}: no source"


@pytest.mark.parametrize("name", CLASSES)
def test_docstring_of_a_class(name):
    text = inspect.getdoc(getattr(refimpl, name))
    assert f"torch.nn.{name}" in text, f"{name}: no source"
    assert re.search(r"formula|error|Error|as `|:", text), (
        f"{name}: neither formula nor error, and no reference"
    )


@pytest.mark.parametrize("name", BACKWARDS)
def test_docstring_of_a_backward(name):
    assert re.match(r"Gradients? of sum\(grad_output \* ", inspect.getdoc(getattr(refimpl, name)))


# Sizes: one concept a file.


@pytest.mark.parametrize("path", sources("refimpl"), ids=name_of)
def test_a_reference_module_is_short(path):
    assert len(path.read_text().splitlines()) <= 400
