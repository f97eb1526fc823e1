"""The mutants of a module: one operator or one number changed, by the operators of cosmic-ray.

Of cosmic-ray's operators, one replacement for each operator of the language: what `a - b` in place of `a + b`
does not show, `a * b` rarely shows.  A number becomes one more, and one less where it is not 0.  Left as they
are: annotations, what `raise` says, strings, `__repr__`, `__all__`, the `strict` of a zip (a guard of ours),
and what only a type checker reads.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

OPERATORS = (
    *(
        f"ReplaceBinaryOperator_{pair}"
        for pair in (
            "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul",
            "BitOr_BitAnd", "BitAnd_BitOr",
        )
    ),
    *(
        f"ReplaceComparisonOperator_{pair}"
        for pair in ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Is_IsNot", "IsNot_Is")
    ),
    "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_Invert", "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue",
    "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak",
    "NumberReplacer", "ZeroIterationForLoop",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    line, before, after   the first line that differs, and what it holds without and with the change
    function              the qualified name of the function around it, "" outside of any
    occurrence            which of several equal changes of equal lines in that function
    source                the whole module with the change
    """

    path: str
    line: int
    function: str
    operator: str
    before: str
    after: str
    occurrence: int
    source: str


def mutants_of(root: Path, path: str) -> Iterator[Mutant]:
    """Every mutant of one module that compiles, in the order of its lines."""
    from cosmic_ray.ast import ast_nodes, get_ast

    source = (root / path).read_text(encoding="utf-8")
    lines, functions, seen = source.splitlines(), functions_of(source), {source}
    tree = get_ast(source)
    nodes = [node for node in ast_nodes(tree) if not _left_alone(node)]
    found = []
    for name in OPERATORS:
        operator = _operator(name)
        for node in nodes:
            for index, (start, _) in enumerate(operator.mutation_positions(node)):
                if _says_no_more(name, node, index):
                    continue
                mutated = _with(tree, node, operator, index)
                if mutated not in seen and _compiles(mutated):
                    seen.add(mutated)
                    found.append((start, name, mutated))
    equal: Counter[tuple[str, str, str]] = Counter()
    for (line, _), name, mutated in sorted(found, key=lambda entry: entry[0]):
        number, before, after = _difference(lines, mutated.splitlines(), line)
        place = functions.get(number, ""), before, after
        yield Mutant(path, number, place[0], name, before, after, equal[place], mutated)
        equal[place] += 1


@lru_cache
def _operator(name: str) -> Any:
    from cosmic_ray.plugins import get_operator

    return get_operator(f"core/{name}")()


def _with(tree: Any, node: Any, operator: Any, index: int) -> str:
    """The source with one node mutated; the tree is as before afterwards."""
    touched = [part for part in (node.parent, node, *getattr(node, "children", ())) if part is not None]
    children = [(part, list(part.children)) for part in touched if hasattr(part, "children")]
    values = [(part, part.value) for part in touched if hasattr(part, "value")]
    mutated = operator.mutate(node, index)
    if mutated is not node:
        node.parent.children = [mutated if child is node else child for child in node.parent.children]
    source = tree.get_code()
    for part, before in children:
        part.children = before
    for part, before in values:
        part.value = before
    return source


def _says_no_more(operator: str, node: Any, index: int) -> bool:
    """Whether a mutant tells what others tell: -1 for 0, which is 1 too; `not a == b` beside `a != b`."""
    if operator == "NumberReplacer":
        return index == 1 and float(ast.literal_eval(node.value).real) == 0
    if operator == "AddNot":
        condition = node.children[2 if node.type == "test" else 1]
        return condition.type in ("comparison", "not_test") and len(condition.children) < 4
    return False


def _left_alone(node: Any) -> bool:
    """Whether a node is part of an annotation, a message, a description or what only a type checker reads."""
    child = node
    while (parent := child.parent) is not None:
        if _leaves_alone(parent, child):
            return True
        child = parent
    return node.type == "if_stmt" and _text(node.children[1]) == "TYPE_CHECKING"


def _leaves_alone(parent: Any, child: Any) -> bool:  # noqa: PLR0911  (one a kind)
    first = parent.children[0]
    match parent.type:
        case "raise_stmt" | "assert_stmt" | "fstring" | "import_from" | "import_name":
            return True
        case "tfpdef":
            return child is not first
        case "annassign":
            return child is parent.children[1]
        case "funcdef":
            return parent.name.value == "__repr__" or child is parent.annotation
        case "if_stmt":
            return _text(parent.children[1]) == "TYPE_CHECKING"
        case "expr_stmt":
            return _text(first) == "__all__"
        case "argument":
            return _text(first) == "strict"
        case "dictorsetmaker":
            return "__doc__" in child.get_code()
    return False


def _text(node: Any) -> str:
    return node.get_code().strip()


def _compiles(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _difference(before: list[str], after: list[str], line: int) -> tuple[int, str, str]:
    """Number of the first line that differs, and that line before and after."""
    for number, (old, new) in enumerate(zip(before, after, strict=False), 1):
        if old != new:
            return number, old.strip(), new.strip()
    return line, before[line - 1].strip(), "(shorter)"


def functions_of(source: str) -> dict[int, str]:
    """line -> the qualified name of the innermost function around it; lines outside of any are left out."""
    found: dict[int, str] = {}

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inner = f"{name}.{child.name}" if name else child.name
            if isinstance(child, ast.FunctionDef):
                for statement in child.body:
                    found.update(dict.fromkeys(range(statement.lineno, statement.end_lineno + 1), inner))
            visit(child, inner)

    visit(ast.parse(source), "")
    return found
