"""README.md says what is so: its table of layers is the generated one, its examples do what they show."""

import re
from pathlib import Path

import pytest

from parity_tests.harness.readme import with_table
from parity_tests.selftest.sessions import apart, conformance

README = Path(__file__).parents[2] / "README.md"
pytestmark = pytest.mark.skipif(not README.exists(), reason="not a checkout: there is no README.md")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def test_table_of_layers_is_the_generated_one():
    text = README.read_text()
    assert text == with_table(text), "run `make readme`"


def test_kernel_example_is_caught(tmp_path):
    (example,) = [block for block in blocks("python") if block.startswith("# my_kernels.py")]
    (tmp_path / "my_kernels.py").write_text(example)
    options = ("--candidate", "my_kernels.py", "-k", "GELU", "--sweep", "quick")
    result = apart(tmp_path, *conformance("activation"), *options)
    assert result.returncode == 1
    shown = re.search(r"^GELU forward, .*?^script: ", README.read_text(), re.MULTILINE | re.DOTALL)
    assert shown, "the README shows the failure"
    for line in ("GELU forward", "elements out of bound, worst", "meets no contract", "rerun: pytest"):
        assert line in shown.group() and line in result.stdout


def test_reference_example_runs():
    (example,) = [block for block in blocks("python") if "import refimpl" in block]
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["grad_input"].shape == (3, 4, 9, 7) and names["layer"].grads["weight"].shape == (6, 2, 3, 2)
