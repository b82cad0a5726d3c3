"""What goes with what: backend and format x policy x LoRA x torch.compile x device type, as data.

Each cell has its reason and where it is known from. ``untried`` is what the libraries say works, or our own
code should, and no test has run yet; ``no`` is refused before any weight is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from planner.quantization.backends import BACKENDS

Verdict = Literal["untried", "no"]

AXES: Mapping[str, tuple[str, ...]] = {
    "policy": ("resident", "offload", "stream"),
    "with": ("lora", "compile"),
    "device": ("cuda", "xpu", "mps", "sim"),
}
COLUMNS = tuple(value for values in AXES.values() for value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Whether a row goes with a column, why, and the source of the fact."""

    verdict: Verdict
    reason: str
    reference: str


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


_OURS = "planner/session/member.py"
_PR = "https://github.com/huggingface/diffusers/pull"
_ISSUE = "https://github.com/huggingface/diffusers/issues"
_QUANTIZERS = "https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/quantizers"
_PEFT = "https://github.com/huggingface/peft/blob/v0.21.2/src/peft/tuners/lora"
_TORCHAO = "https://docs.pytorch.org/ao/stable/workflows/inference.html"


def _ours(reason: str) -> Cell:
    return Cell(verdict="untried", reason=reason, reference=_OURS)


def _untried(reason: str, reference: str) -> Cell:
    return Cell(verdict="untried", reason=reason, reference=reference)


def _no(reason: str, reference: str) -> Cell:
    return Cell(verdict="no", reason=reason, reference=reference)


_MOVED = {
    "resident": _ours("its tensors cross as the plain ones that they are made of"),
    "offload": _ours("its tensors cross as the plain ones that they are made of"),
    "stream": _ours("a block's tensors are put together again over the bytes that came"),
}
_NO_FLOAT8 = "no float8 kernels on this device"
_NO_PACKAGE = "nothing is loaded by it yet"


def _int8_movable() -> Cell:
    reason = "needs bitsandbytes >= 0.48 and transformers >= 4.58, else it stays where it is"
    return _untried(reason, f"{_PR}/12972")


ROWS: tuple[Row, ...] = (
    Row(
        backend="bitsandbytes",
        types=("nf4", "fp4"),
        cells={
            **_MOVED,
            "lora": _untried("peft has layers of its own for it", f"{_PEFT}/bnb.py"),
            "compile": _untried(
                "its kernels break the graph before 0.46", BACKENDS["bitsandbytes"].reference
            ),
            "cuda": _untried("its first device", BACKENDS["bitsandbytes"].reference),
            "xpu": _untried("since 0.46", f"{_QUANTIZERS}/bitsandbytes/bnb_quantizer.py#L64"),
            "mps": _untried("since 0.49", f"{_QUANTIZERS}/bitsandbytes/bnb_quantizer.py#L64"),
            "sim": _no(
                "diffusers quantizes on a real accelerator",
                f"{_QUANTIZERS}/bitsandbytes/bnb_quantizer.py#L64",
            ),
        },
    ),
    Row(
        backend="bitsandbytes",
        types=("int8",),
        cells={
            **_MOVED,
            "offload": _int8_movable(),
            "lora": _untried("peft has layers of its own for it", f"{_PEFT}/bnb.py"),
            "compile": _untried(
                "its kernels break the graph before 0.46", BACKENDS["bitsandbytes"].reference
            ),
            "cuda": _untried("its first device", BACKENDS["bitsandbytes"].reference),
            "xpu": _untried("since 0.46", f"{_QUANTIZERS}/bitsandbytes/bnb_quantizer.py#L64"),
            "mps": _no("no 8-bit kernels for it", BACKENDS["bitsandbytes"].reference),
            "sim": _no(
                "diffusers quantizes on a real accelerator",
                f"{_QUANTIZERS}/bitsandbytes/bnb_quantizer.py#L64",
            ),
        },
    ),
    Row(
        backend="torchao",
        types=("int8_weight_only", "int8_dynamic"),
        cells={
            **_MOVED,
            "lora": _untried("peft has a layer of its own for it", f"{_PEFT}/torchao.py"),
            "compile": _untried("what it is made for", _TORCHAO),
            "cuda": _untried("plain torch operations and Triton", _TORCHAO),
            "xpu": _untried("plain torch operations", _TORCHAO),
            "mps": _untried("plain torch operations", _TORCHAO),
            "sim": _ours("plain torch operations, run on the CPU"),
        },
    ),
    Row(
        backend="torchao",
        types=("float8_weight_only",),
        cells={
            **_MOVED,
            "lora": _untried("peft has a layer of its own for it", f"{_PEFT}/torchao.py"),
            "compile": _untried("what it is made for", _TORCHAO),
            "cuda": _untried("weights are upcast: any card that has the dtype", _TORCHAO),
            "xpu": _untried("weights are upcast", _TORCHAO),
            "mps": _no(_NO_FLOAT8, "https://github.com/pytorch/pytorch/issues/132624"),
            "sim": _ours("weights are upcast, on the CPU"),
        },
    ),
    Row(
        backend="torchao",
        types=("int4_weight_only",),
        cells={
            **_MOVED,
            "lora": _no("peft refuses torchao's Int4Tensor", f"{_PEFT}/torchao.py#L48"),
            "compile": _untried("what it is made for", _TORCHAO),
            "cuda": _untried("by the kernels of the package mslk", _TORCHAO),
            "xpu": _untried("by kernels of torch", _TORCHAO),
            "mps": _no("no kernels for it", _TORCHAO),
            "sim": _no("its kernels run on a real accelerator only", _TORCHAO),
        },
    ),
    Row(
        backend="torchao",
        types=("float8_dynamic",),
        cells={
            **_MOVED,
            "lora": _untried("peft has a layer of its own for it", f"{_PEFT}/torchao.py"),
            "compile": _untried("what it is made for", _TORCHAO),
            "cuda": _untried("needs compute capability 8.9", _TORCHAO),
            "xpu": _untried("by kernels of torch", _TORCHAO),
            "mps": _no(_NO_FLOAT8, "https://github.com/pytorch/pytorch/issues/132624"),
            "sim": _no("torchao asserts a card with float8 kernels", _TORCHAO),
        },
    ),
    Row(
        backend="quanto",
        types=BACKENDS["quanto"].types,
        cells={
            **_MOVED,
            "lora": _no("peft has no layer for quanto's", f"{_PEFT}/model.py#L59"),
            "compile": _untried("int8 only, its docs say", BACKENDS["quanto"].reference),
            "cuda": _untried("its kernels, or plain torch operations", BACKENDS["quanto"].reference),
            "xpu": _untried("plain torch operations", BACKENDS["quanto"].reference),
            "mps": _untried("its kernels", BACKENDS["quanto"].reference),
            "sim": _ours("plain torch operations, run on the CPU"),
        },
    ),
    Row(
        backend="gguf",
        types=("file",),
        cells={column: _no(_NO_PACKAGE, BACKENDS["gguf"].reference) for column in COLUMNS},
    ),
    Row(
        backend="layerwise_cast",
        types=BACKENDS["layerwise_cast"].types,
        cells={
            "resident": _ours("float8 is a plain tensor"),
            "offload": _ours("float8 is a plain tensor"),
            "stream": _ours("float8 is a plain tensor, and half the bytes cross"),
            "lora": _ours("adapters loaded before the plan is applied stay as they are"),
            "compile": _no(
                "each layer's weights are replaced around its forward, which a graph would not see", _OURS
            ),
            "cuda": _untried("a cast, no kernels of its own", BACKENDS["layerwise_cast"].reference),
            "xpu": _untried("a cast, no kernels of its own", BACKENDS["layerwise_cast"].reference),
            "mps": _no("it has no float8 dtypes", "https://github.com/pytorch/pytorch/issues/132624"),
            "sim": _ours("a cast, run on the CPU"),
        },
    ),
)


def row_of(backend: str, kind: str) -> Row:
    """The row of a backend's format."""
    return next(row for row in ROWS if row.backend == backend and kind in row.types)


def instead(row: Row, column: str) -> str:
    """The nearest that is legal: another value of the axis with the same backend, else another backend.

    ``column`` is a refused one. A policy is changed rather than the backend; a device and what a plan has
    beside it are given.
    """
    near = " or ".join(list(_that(column))[:2])
    if column in AXES["policy"] and (others := row.legal("policy")):
        best = "offload" if "offload" in others else others[0]
        return f"policy: {best}" + (f"; or {near}, which goes with {column}" if near else "")
    return f"{near} goes with {column}" if near else ""


def _that(column: str) -> Iterator[str]:
    """Rows that go with ``column``, those that a test has shown first."""
    for verdict in ("untried",):
        yield from (row.name for row in ROWS if row.cells[column].verdict == verdict)
