"""What goes with what: backend and format x policy x LoRA x torch.compile x device type x version, as data.

Each cell has its reason and where it is known from. ``shown``: a test of this project runs it; ``untried``:
the libraries say that it works, or our own code should, and no test has run it; ``no``: refused before any
weight is read. ``needs`` are the oldest versions with which a cell is what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from packaging.version import Version

from planner.quantization.backends import BACKENDS

Verdict = Literal["shown", "untried", "no"]
Needs = tuple[tuple[str, str], ...]
"""Distributions and the oldest version of each."""

AXES: Mapping[str, tuple[str, ...]] = {
    "policy": ("resident", "offload", "stream"),
    "with": ("lora", "compile"),
    "device": ("cuda", "xpu", "mps", "sim"),
}
COLUMNS = tuple(value for values in AXES.values() for value in values)
WORDS: Mapping[str, str] = {
    **{policy: f"policy: {policy}" for policy in AXES["policy"]},
    "lora": "LoRAs",
    "compile": "torch.compile",
}
"""Columns as a message names them, where that is another word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Whether a row goes with a column, why, the source of the fact, and the test that shows it. ``only``:
    the component that is refused, "" for every one."""

    verdict: Verdict
    reason: str
    reference: str
    needs: Needs = ()
    test: str = ""
    only: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One backend with those of its formats that behave alike."""

    backend: str
    types: tuple[str, ...]
    cells: Mapping[str, Cell]

    @property
    def name(self) -> str:
        """``torchao int8_weight_only``; the backend alone where all formats are alike."""
        alone = self.types == BACKENDS[self.backend].types
        return self.backend if alone else f"{self.backend} {', '.join(self.types)}"

    def legal(self, axis: str) -> tuple[str, ...]:
        """The values of ``axis`` that are not refused."""
        return tuple(value for value in AXES[axis] if self.cells[value].verdict != "no")


UNDER_A_PLAN = "tests/quantization/test_cells.py::test_under_a_plan_it_is_what_it_is_without"
WITH_AN_ADAPTER = "tests/quantization/test_cells.py::test_an_adapter_is_added_to_it"
COMPILED = "tests/quantization/test_cells.py::test_it_is_captured_whole"
AFTER_LOAD = "tests/quantization/test_later.py::test_the_picture_is_that_of_the_same_by_hand"
A_CAST_LAYER = "tests/quantization/test_cast.py::test_a_compiled_layer_has_it_whole"
A_LOADED_ONE = "tests/quantization/test_load.py::test_bitsandbytes_that_is_loaded_is_compared_and_runs"
A_FILE = "tests/quantization/test_load.py::test_a_gguf_file"
ON_CUDA = "tests/gpu/test_quantized.py::test_the_picture_is_that_of_the_same_on_the_device"
AN_ADAPTER_ON_CUDA = "tests/gpu/test_quantized.py::test_with_a_lora"

_OURS = "planner/session/component.py"
_DIFFUSERS = "https://github.com/huggingface/diffusers"
_QUANTIZERS = f"{_DIFFUSERS}/blob/v0.42.1/src/diffusers/quantizers"
_BNB = f"{_QUANTIZERS}/bitsandbytes/bnb_quantizer.py#L64"
_BNB_README = "https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.50.2/README.md"
_BNB_DOCS = BACKENDS["bitsandbytes"].reference
_PEFT = "https://github.com/huggingface/peft/blob/v0.21.2/src/peft/tuners/lora"
_TORCHAO = "https://docs.pytorch.org/ao/stable/workflows/inference.html"
_MPS_FLOAT8 = "https://github.com/pytorch/pytorch/issues/132624"


def _untried(reason: str, reference: str = _OURS, *needs: tuple[str, str]) -> Cell:
    return Cell(verdict="untried", reason=reason, reference=reference, needs=needs)


def _no(reason: str, reference: str = _OURS) -> Cell:
    return Cell(verdict="no", reason=reason, reference=reference)


def _shown(test: str, cell: Cell) -> Cell:
    return replace(cell, verdict="shown", test=test)


_TAKEN_APART = {
    "resident": _untried("its tensors cross as the plain ones that they are made of"),
    "offload": _untried("its tensors cross as the plain ones that they are made of"),
    "stream": _untried("a block's tensors are put together again over the bytes that came"),
}
_ON_A_CPU = {policy: _shown(UNDER_A_PLAN, cell) for policy, cell in _TAKEN_APART.items()}
_ON_A_CARD = {policy: _shown(ON_CUDA, cell) for policy, cell in _TAKEN_APART.items()}
_BNB_CELLS = {
    "lora": _shown(
        AN_ADAPTER_ON_CUDA,
        _untried("peft has layers of its own for it", f"{_PEFT}/bnb.py", ("peft", "0.17")),
    ),
    "compile": _shown(
        COMPILED, _untried("no breaks in the graph since 0.46", _BNB_DOCS, ("bitsandbytes", "0.46"))
    ),
    "cuda": _shown(ON_CUDA, _untried("its first device", _BNB_DOCS)),
    "xpu": _untried("since 0.46", _BNB, ("bitsandbytes", "0.46")),
    "sim": _no("diffusers quantizes on a real accelerator only", _BNB),
}
_CAPTURED = _shown(COMPILED, _untried("captured whole, as shown on a CPU"))
_LORA_LOADER = f"{_DIFFUSERS}/blob/v0.42.1/src/diffusers/loaders/lora_pipeline.py#L2119"
_QUANTO_DOCS = BACKENDS["quanto"].reference
_QUANTO = {
    **_ON_A_CPU,
    "lora": replace(
        _no("diffusers' Flux loader looks for a weight that quanto keeps in parts", _LORA_LOADER),
        only="transformer",
    ),
    "compile": _shown(COMPILED, _untried("captured whole; diffusers' docs promise int8 only", _QUANTO_DOCS)),
    "cuda": _shown(ON_CUDA, _untried("its kernels, or plain torch operations", _QUANTO_DOCS)),
    "xpu": _untried("plain torch operations", _QUANTO_DOCS),
    "sim": _shown(UNDER_A_PLAN, _untried("plain torch operations, run on the CPU")),
}
_TORCHAO_LORA = _untried(
    "peft has a layer of its own for it", f"{_PEFT}/torchao.py", ("peft", "0.17"), ("torchao", "0.16.0")
)

ROWS: tuple[Row, ...] = (
    Row(
        backend="torchao",
        types=("int8_weight_only", "int8_dynamic"),
        cells={
            **_ON_A_CPU,
            "lora": _shown(WITH_AN_ADAPTER, _TORCHAO_LORA),
            "compile": _shown(COMPILED, _untried("what it is made for", _TORCHAO)),
            "cuda": _shown(ON_CUDA, _untried("plain torch operations and Triton", _TORCHAO)),
            "xpu": _untried("plain torch operations", _TORCHAO),
            "mps": _untried("plain torch operations", _TORCHAO),
            "sim": _shown(UNDER_A_PLAN, _untried("plain torch operations, run on the CPU")),
        },
    ),
    Row(
        backend="torchao",
        types=("float8_weight_only",),
        cells={
            **_ON_A_CPU,
            "lora": _shown(WITH_AN_ADAPTER, _TORCHAO_LORA),
            "compile": _shown(COMPILED, _untried("what it is made for", _TORCHAO)),
            "cuda": _shown(ON_CUDA, _untried("weights are upcast: any card that has the dtype", _TORCHAO)),
            "xpu": _untried("weights are upcast", _TORCHAO),
            "mps": _no("it has no float8 dtypes", _MPS_FLOAT8),
            "sim": _shown(UNDER_A_PLAN, _untried("weights are upcast, on the CPU")),
        },
    ),
    Row(
        backend="torchao",
        types=("int4_weight_only",),
        cells={
            **_TAKEN_APART,
            "lora": _no("peft refuses torchao's Int4Tensor", f"{_PEFT}/torchao.py#L48"),
            "compile": _untried("what it is made for", _TORCHAO),
            "cuda": _untried("by the kernels of mslk, which also makes it", _TORCHAO, ("mslk", "1.0.0")),
            "xpu": _no("what it makes by default is for mslk, which runs on CUDA", _TORCHAO),
            "mps": _no("no kernels for it", _TORCHAO),
            "sim": _no("its kernels run on a real accelerator only", _TORCHAO),
        },
    ),
    Row(
        backend="torchao",
        types=("float8_dynamic",),
        cells={
            **_ON_A_CARD,
            "lora": _shown(AN_ADAPTER_ON_CUDA, _TORCHAO_LORA),
            "compile": _untried("what it is made for", _TORCHAO),
            "cuda": _shown(ON_CUDA, _untried("needs compute capability 8.9", _TORCHAO)),
            "xpu": _untried("by kernels of torch", _TORCHAO),
            "mps": _no("it has no float8 dtypes", _MPS_FLOAT8),
            "sim": _no("torchao asserts a card with float8 kernels", _TORCHAO),
        },
    ),
    Row(
        backend="layerwise_cast",
        types=BACKENDS["layerwise_cast"].types,
        cells={
            "resident": _shown(AFTER_LOAD, _untried("its bytes are a plain float8 tensor")),
            "offload": _shown(AFTER_LOAD, _untried("its bytes are a plain float8 tensor")),
            "stream": _shown(AFTER_LOAD, _untried("its bytes are plain float8, and half as many cross")),
            "lora": _shown(AFTER_LOAD, _untried("adapters are not cast")),
            "compile": _shown(A_CAST_LAYER, _untried("a weight tells torch what it is made of")),
            "cuda": _shown(
                ON_CUDA, _untried("a cast, no kernels of its own", BACKENDS["layerwise_cast"].reference)
            ),
            "xpu": _untried("a cast, no kernels of its own", BACKENDS["layerwise_cast"].reference),
            "mps": _no("it has no float8 dtypes", _MPS_FLOAT8),
            "sim": _shown(AFTER_LOAD, _untried("a cast, run on the CPU")),
        },
    ),
    Row(
        backend="bitsandbytes",
        types=("nf4", "fp4"),
        cells={
            **{policy: _shown(A_LOADED_ONE, cell) for policy, cell in _TAKEN_APART.items()},
            **_BNB_CELLS,
            "mps": _untried("since 0.49", _BNB, ("bitsandbytes", "0.49")),
        },
    ),
    Row(
        backend="bitsandbytes",
        types=("int8",),
        cells={
            **{
                policy: _shown(A_LOADED_ONE, replace(cell, needs=(("bitsandbytes", "0.48"),)))
                for policy, cell in _TAKEN_APART.items()
            },
            **_BNB_CELLS,
            "mps": _untried("without kernels of its own", _BNB_README, ("bitsandbytes", "0.50")),
        },
    ),
    Row(
        backend="quanto",
        types=("int8",),
        cells={**_QUANTO, "compile": _CAPTURED, "mps": _untried("its kernels", _QUANTO_DOCS)},
    ),
    Row(
        backend="quanto",
        types=("float8",),
        cells={**_QUANTO, "mps": _no("it has no float8 dtypes", _MPS_FLOAT8)},
    ),
    Row(
        backend="quanto",
        types=("int4", "int2"),
        cells={**_QUANTO, "mps": _untried("plain torch operations", _QUANTO_DOCS)},
    ),
    Row(
        backend="gguf",
        types=("file",),
        cells={
            **{policy: _shown(A_FILE, cell) for policy, cell in _TAKEN_APART.items()},
            "lora": _untried("its layer is a Linear to peft", f"{_PEFT}/layer.py"),
            "compile": _untried("plain torch operations", BACKENDS["gguf"].reference),
            "cuda": _untried("unpacked by plain torch operations", f"{_QUANTIZERS}/gguf/utils.py"),
            "xpu": _untried("unpacked by plain torch operations", f"{_QUANTIZERS}/gguf/utils.py"),
            "mps": _untried("unpacked by plain torch operations", f"{_QUANTIZERS}/gguf/utils.py"),
            "sim": _untried("unpacked by plain torch operations, on the CPU"),
        },
    ),
)


def row_of(backend: str, kind: str) -> Row:
    """The row of a backend's format."""
    return next(row for row in ROWS if row.backend == backend and kind in row.types)


def needs_of(row: Row, *columns: str) -> Needs:
    """What must be installed for a row with ``columns``: the newest version that is asked of each."""
    asked = [*BACKENDS[row.backend].needs, *(need for column in columns for need in row.cells[column].needs)]
    found: dict[str, str] = {}
    for name, least in asked:
        found[name] = max(found.get(name, "0"), least, key=Version)
    return tuple(found.items())


def instead(row: Row, column: str) -> str:
    """The nearest that is legal: another value of the axis with the same backend, else another backend.

    ``column`` is a refused one. A policy is changed rather than the backend; a device and what a plan has
    beside it are given.
    """
    near = " or ".join(that.name for that in going(row, column)[:2])
    if column in AXES["policy"] and (policies := row.legal("policy")):
        best = "offload" if "offload" in policies else policies[0]
        return f"policy: {best}; or {near}, which goes with {WORDS.get(column, column)}"
    return f"{near} goes with {WORDS.get(column, column)}"


def going(near: Row, *columns: str) -> list[Row]:
    """The rows that go with all of ``columns``, of the backend of ``near`` first, then those that a test has
    shown. A GGUF file is none: it is another source."""
    rows = [row for row in ROWS if row.backend != "gguf" and verdict_of(row, *columns) != "no"]
    return sorted(rows, key=lambda row: (row.backend != near.backend, verdict_of(row, *columns) == "untried"))


def verdict_of(row: Row, *columns: str) -> Verdict:
    """The worst of a row's cells: ``shown`` when a test runs each of them."""
    verdicts = {row.cells[column].verdict for column in columns}
    return "no" if "no" in verdicts else "untried" if "untried" in verdicts else "shown"
