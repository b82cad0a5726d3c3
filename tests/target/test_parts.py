"""What headers tell of a model's modules is what the built model has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import diffusers
import pytest
from pipelines.all import CASES
from pipelines.registry import WIDE, build
from torch import nn

from planner.target.casting import tied
from planner.target.headers import Stored
from planner.target.parts import EMBEDDINGS, OPEN, Part, parts_in, parts_of


def header(module: nn.Module) -> tuple[Part, ...]:
    """The parts as a file of ``module``'s weights tells them: tied tensors are saved once."""
    seen: set[int] = set()
    tensors = []
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if id(tensor) not in seen:
            stored = Stored(name=name, dtype="F32", numel=tensor.numel(), shape=tuple(tensor.shape))
            tensors.append((stored, tensor.nbytes))
        seen.add(id(tensor))
    names = [stored.name for stored, _ in tensors]
    return parts_in(tensors, "bfloat16", library=True, tied=tied(names, [type(module).__name__]))


def differences(module: nn.Module) -> Iterator[str]:
    built = {part.name: part for part in parts_of(module) if not part.tied}
    told = {part.name: part for part in header(module) if part.kinds}
    for name in sorted(built.keys() | told.keys()):
        if name not in built or name not in told:
            yield f"{name}: {built.get(name)} {told.get(name)}"
            continue
        one, other = built[name], told[name]
        if (one.shape, one.parameters, one.nbytes) != (other.shape, other.parameters, other.nbytes):
            yield f"{name}: {one} {other}"
        convolution = all("Conv" in kind for kind in other.kinds) and one.kinds <= other.kinds
        if one.kinds != other.kinds and not convolution:
            yield f"{name}: {set(one.kinds)} {set(other.kinds)}"


def compare(name: str) -> None:
    pipe = build(name)
    found = {
        key: list(differences(module))
        for key, module in pipe.components.items()
        if isinstance(module, nn.Module)
    }
    assert not any(found.values()), found


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_header_tells_the_modules_of_a_model(name: str) -> None:
    compare(name)


@pytest.mark.wide
def test_a_header_tells_the_modules_of_every_model() -> None:
    import pipelines.wide  # noqa: F401

    for name in sorted(WIDE):
        with suppress(ImportError):  # a scheduler's own package
            compare(name)


def test_the_names_of_embeddings_are_those_of_the_source() -> None:
    """Also of models that no test builds."""
    folder = Path(diffusers.__file__).parent
    embeddings, linear = set(), set()
    for path in sorted((folder / "models").rglob("*.py")):
        for target, call in assigned(ast.parse(path.read_text(encoding="utf-8"))):
            biased = next((key.value for key in call.keywords if key.arg == "bias"), ast.Constant(True))
            if called(call) == "Embedding":
                embeddings.add(target)
            elif called(call) == "Linear" and not (isinstance(biased, ast.Constant) and biased.value is True):
                linear.add(target)
    assert len(embeddings) > 10
    assert len(linear) > 50
    assert embeddings <= EMBEDDINGS | OPEN
    assert linear & EMBEDDINGS == set()
    assert EMBEDDINGS.isdisjoint(OPEN)


def assigned(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            for inner in ast.walk(node.value):
                if isinstance(inner, ast.Call):
                    yield node.targets[0].attr, inner


def called(call: ast.Call) -> str:
    function: Any = call.func
    return str(getattr(function, "attr", getattr(function, "id", "")))


def test_what_is_shared_by_two_kinds_or_read_without_a_call_is_left_out() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = nn.Embedding(8, 4)
            self.attention = nn.MultiheadAttention(4, 2)
            self.one = nn.Linear(4, 4)
            self.head = nn.Linear(4, 8, bias=False)
            self.head.weight = self.embed_tokens.weight
            self.two = nn.Linear(4, 4)
            self.two.weight = self.one.weight

    assert [(part.name, part.tied) for part in parts_of(Model())] == [("one", False), ("two", True)]


def test_a_matrix_in_an_unknown_model_may_be_either() -> None:
    weight = Stored(name="a.weight", dtype="F16", numel=6, shape=(3, 2))
    bias = Stored(name="a.bias", dtype="F16", numel=3, shape=(3,))
    (part,) = parts_in([(weight, 12)], "float16")
    assert part.kinds == {"Linear", "Embedding"}
    assert (part.dtype, part.shape) == ("float16", (3, 2))
    (part,) = parts_in([(weight, 24), (bias, 12)], "float16")
    assert part.kinds == {"Linear"}
    assert (part.dtype, part.parameters, part.nbytes) == ("float32", 9, 36)
