"""Which classes of the installed torch.nn the suite knows, and which layers that it knows torch has not."""

from __future__ import annotations

import inspect

import torch

from parity_tests.specs import all_specs
from parity_tests.specs.not_covered import KINDS, NOT_COVERED
from parity_tests.specs.spec import LayerSpec


def public_classes() -> tuple[str, ...]:
    """Every public class of torch.nn that is a Module."""
    found = {name: value for name, value in vars(torch.nn).items() if not name.startswith("_")}
    return tuple(
        sorted(
            name
            for name, value in found.items()
            if inspect.isclass(value) and issubclass(value, torch.nn.Module)
        )
    )


def in_torch(spec: LayerSpec) -> bool:
    """Whether the installed torch has the layer: some came with a later version."""
    return hasattr(torch.nn.functional if spec.is_function else torch.nn, spec.name)


def absence(spec: LayerSpec) -> str:
    """Why no case of a layer that torch has not is run."""
    return f"{spec.name} is not in torch {torch.__version__}"


def covered() -> tuple[str, ...]:
    """Public classes that have a specification."""
    known = {spec.name for spec in all_specs() if not spec.is_function}
    return tuple(name for name in public_classes() if name in known)


def without_a_reason() -> tuple[str, ...]:
    """Public classes that have neither a specification nor a reason: to be empty."""
    known = {*covered(), *NOT_COVERED}
    return tuple(name for name in public_classes() if name not in known)


def coverage_lines() -> list[str]:
    """In Markdown: how many classes are covered, and the others by kind, each with its sentence."""
    classes = public_classes()
    counts = f"{len(covered())} of the {len(classes)} classes of torch.nn have a specification"
    lines = [f"{counts}; the others are:", ""]
    for kind in KINDS:
        of_kind = {name: reason.sentence for name, reason in NOT_COVERED.items() if reason.kind == kind}
        present = {name: sentence for name, sentence in of_kind.items() if name in classes}
        sentences = [
            f"{', '.join(name for name in present if present[name] == sentence)} ({sentence})"
            for sentence in dict.fromkeys(present.values())
        ]
        lines += [f"* {kind}: {'; '.join(sentences)}."] if sentences else []
    if without_a_reason():
        lines.append(f"* not covered: {', '.join(without_a_reason())}.")
    return lines
