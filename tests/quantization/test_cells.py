"""Each cell of the matrix that is said to be shown is shown here, or by the test that it names."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from covering import covering
from pipelines.all import build, run, same
from pipelines.plans import attached, plan_for
from torch import nn

from planner.document.language.plan import schema
from planner.quantization.backends import BACKENDS, SELECTORS
from planner.quantization.matrix import (
    AXES,
    COLUMNS,
    COMPILED,
    ROWS,
    UNDER_A_PLAN,
    WITH_AN_ADAPTER,
    going,
    instead,
    needs_of,
    row_of,
)
from planner.virtual import backend
from quantization.making import MADE

ROOT = Path(__file__).parents[2]
PIPELINE = "FluxPipeline"


def shown(test: str, axis: str) -> list[tuple[str, str, str]]:
    """Backend, format and column of each cell that ``test`` is said to show."""
    return [
        (row.backend, kind, column)
        for row in ROWS
        for kind in row.types
        for column in AXES[axis]
        if row.cells[column].test == test
    ]


def under_a_plan() -> list[Any]:
    """Each format under each policy that is shown."""
    cells = shown(UNDER_A_PLAN, "policy")
    formats = [*dict.fromkeys((backend, kind) for backend, kind, _ in cells)]
    return [p for p in covering(formats, AXES["policy"]) if (*p.values[0], p.values[1]) in cells]


def quantized(backend: str, kind: str, model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MADE[backend, kind](model)
    return model


@pytest.fixture(scope="module")
def sim() -> None:
    backend.install()


@pytest.mark.usefixtures("sim")
@pytest.mark.parametrize(("cell", "policy"), under_a_plan(), ids=str)
def test_under_a_plan_it_is_what_it_is_without(cell: tuple[str, str], policy: str) -> None:
    """Bit for bit, on the virtual accelerator beside the CPU, in two calls."""
    name, kind = cell
    pipe = build(PIPELINE)
    quantized(name, kind, pipe.transformer)
    truth = run(pipe, PIPELINE)
    session, _ = attached(plan_for(pipe, f"components: {{transformer: {policy}}}"), pipe)
    assert same(run(pipe, PIPELINE), truth)
    assert same(run(pipe, PIPELINE), truth)
    session.remove()
    assert same(run(pipe, PIPELINE), truth)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(256, 128, dtype=torch.bfloat16)
        self.two = nn.Linear(128, 64, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor) -> Any:
        return self.two(self.one(x))


@pytest.mark.parametrize(("name", "kind", "column"), shown(WITH_AN_ADAPTER, "with"))
def test_an_adapter_is_added_to_it(name: str, kind: str, column: str) -> None:
    """The quantized layer's output and the adapter's, summed; without the adapter as before."""
    from peft import LoraConfig, inject_adapter_in_model

    model: Any = quantized(name, kind, Two())
    x = torch.randn(2, 256, dtype=torch.bfloat16)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = model.one(x)
        inject_adapter_in_model(LoraConfig(r=4, target_modules=["one"], init_lora_weights=False), model)
        layer = model.one
        added = layer.lora_B["default"](layer.lora_A["default"](x)) * layer.scaling["default"]
        assert added.abs().max() > 0
        assert torch.equal(layer(x), before + added)
        layer.enable_adapters(False)
        assert torch.equal(layer(x), before)


@pytest.mark.parametrize(("name", "kind", "column"), shown(COMPILED, "with"))
def test_it_is_captured_whole(name: str, kind: str, column: str) -> None:
    """One graph without a break, and the same output."""
    torch.compiler.reset()
    model: Any = quantized(name, kind, Two())
    x = torch.randn(2, 256, dtype=torch.bfloat16)
    with torch.no_grad():
        truth = model(x)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert torch.equal(compiled(x), truth)


def test_what_is_said_to_be_shown_is_shown_by_a_test_that_there_is() -> None:
    for row in ROWS:
        for column in COLUMNS:
            cell = row.cells[column]
            assert bool(cell.test) == (cell.verdict == "shown"), (row.name, column)
            if cell.test:
                file, _, name = cell.test.partition("::")
                tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
                assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {column for *_, column in shown(UNDER_A_PLAN, "device")} == {"sim"}


def test_every_format_has_one_row_and_every_cell_its_reason() -> None:
    listed = [(row.backend, kind) for row in ROWS for kind in row.types]
    assert sorted(listed) == sorted((b.name, kind) for b in BACKENDS.values() for kind in b.types)
    for row in ROWS:
        assert set(row.cells) == set(COLUMNS)
        for column, cell in row.cells.items():
            assert cell.reason
            assert cell.reference.startswith("https://") or (ROOT / cell.reference).is_file(), column
            assert not (cell.verdict == "no" and cell.needs)


def test_what_is_refused_has_something_near_that_is_not() -> None:
    for row in ROWS:
        for column, cell in row.cells.items():
            near = going(row, column)
            assert near
            assert all(that.cells[column].verdict != "no" for that in near)
            if cell.verdict == "no":
                assert near[0].name in instead(row, column)
    assert instead(row_of("bitsandbytes", "int8"), "stream").startswith(
        "policy: offload; or bitsandbytes nf4"
    )
    assert going(row_of("bitsandbytes", "nf4"), "sim")[0].cells["sim"].verdict == "shown"


def test_the_newest_version_of_those_asked_for() -> None:
    needs = dict(needs_of(row_of("bitsandbytes", "int8"), "offload", "compile", "xpu"))
    assert needs == {"bitsandbytes": "0.48", "accelerate": "1.1.0"}
    assert needs_of(row_of("layerwise_cast", "float8_e5m2"), "cuda", "offload") == ()


def test_editors_complete_every_backend_and_option() -> None:
    known = schema()["$defs"]["rule"]["properties"]
    assert known["backend"]["enum"] == list(BACKENDS)
    options = {key for one in BACKENDS.values() for key in (one.type_key, *one.options)}
    assert set(known) - options == set(SELECTORS)
    for one in BACKENDS.values():
        said = known[one.type_key]["description"]
        assert all(kind in said for kind in one.types if one.name != "gguf")
