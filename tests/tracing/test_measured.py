"""What is traced takes what a card showed."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest
import torch
from packaging.version import Version

from planner.cards.kernels import HOPPER, Kernels
from planner.tracing import attention, convolution
from planner.tracing.mode import Tracer
from planner.tracing.patches import as_on_gpu
from planner.tracing.tensor import CUDA, META, Traced
from tracing.measured import CASES, TABLE, traced

DEFAULT = ("sdxl 1024x1024", "flux-dev 1024x1024")
NAMES = [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.wide) for n in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_peaks_are_those_of_the_card(name: str) -> None:
    case = CASES[name]
    peaks = dict(case["peaks"])
    if Version(metadata.version("transformers")) >= Version("5.20"):  # T5's bias is made contiguous there
        peaks = {u: p for u, p in peaks.items() if case["parts"][u.split(".")[0]]["cls"] != "T5EncoderModel"}
    found: dict[str, int] = {}
    for use in traced(case, HOPPER).uses:
        entry = f"{use.component}.{use.entry}".rstrip(".")
        found[entry] = max(found.get(entry, 0), use.peak())
    for entry, peak in peaks.items():
        assert found[entry] == pytest.approx(peak, rel=0.01), entry


def test_the_table_says_what_it_was_measured_with() -> None:
    assert {"card", "torch", "cudnn", "diffusers", "transformers"} <= TABLE.keys()
    assert sum(len(case["peaks"]) for case in CASES.values()) >= 20


def test_half_of_a_peak_is_scratch_that_can_be_done_without() -> None:
    use = next(u for u in traced(CASES["sdxl 1024x1024"], HOPPER).uses if u.component == "vae")
    assert use.peak(scratch=False) < 0.7 * use.peak()


F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
SCRATCH = (
    ((1, 256, 512, 512), (256, 256, 3, 3), F16, True, 1180160, 0.01),
    ((4, 256, 1024, 1024), (128, 256, 3, 3), F16, False, 3221815808, 0.01),
    ((4, 256, 1024, 1024), (128, 256, 1, 1), F16, True, 0, 0.01),
    ((1, 256, 11, 480, 720), (128, 256, 3, 3, 3), BF16, False, 2745171968, 0.01),
    ((4, 192, 480, 832), (96, 192, 3, 3), F32, False, 1842348032, 0.01),
    ((1, 128, 1024, 1024), (128, 128, 3, 3), F32, False, 1080624128, 0.01),
    ((1, 128, 1024, 1024), (3, 128, 3, 3), F16, False, 285231616, 0.01),
    ((1, 128, 1024, 1024), (3, 128, 3, 3), F32, False, 553667072, 0.01),
    ((1, 128, 1024, 1024), (3, 128, 3, 3), BF16, True, 16803328, 0.01),
)
"""Input, weight, dtype, channels-last, measured bytes (those of a kernel of 1: 512), tolerance."""


@pytest.mark.parametrize(("shape", "kernel", "dtype", "last", "measured", "near"), SCRATCH)
def test_scratch_of_convolutions(
    shape: Any, kernel: Any, dtype: Any, last: bool, measured: int, near: float
) -> None:
    source = torch.empty(shape, dtype=dtype, device=META)
    if last:
        source = source.to(memory_format=convolution.LAST[len(shape)])
    weight = torch.empty(kernel, dtype=dtype, device=META)
    n = len(shape) - 2
    pad = [0 if k == 1 else 1 for k in kernel[2:]]
    if n == 3:
        pad[0] = 0
    out = convolution.output(source, weight, [1] * n, pad, [1] * n, False, [0] * n, 1)
    assert convolution.scratch(HOPPER, source, weight, out, 1) == pytest.approx(measured, rel=near)


def test_a_permuted_bias_is_attended_to_in_the_open() -> None:
    """T5's, before transformers made it contiguous: scores and weights in float32, and which are minus
    infinity, are there at once."""
    tracer = Tracer(HOPPER)
    shape, scores = (1, 64, 512, 64), 64 * 512 * 512
    q = Traced(torch.empty(shape, dtype=BF16, device=META), CUDA)
    bias = Traced(torch.empty((512, 512, 64), dtype=BF16, device=META).permute(2, 0, 1).unsqueeze(0), CUDA)
    peaks = {}
    for mask in (bias, Traced(torch.empty((1, 64, 512, 512), dtype=BF16, device=META), CUDA)):
        with as_on_gpu(tracer):
            for one in (q, mask):
                tracer.ledger.know(one.meta)
            tracer.ledger.begin()
            torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=mask)
            tracer.ledger.end()
        live, peaks[mask is bias] = 0, 0
        sizes: list[int] = []
        for event in tracer.ledger.events:
            if event > 0:
                sizes.append(event)
                live += event
            else:
                live -= sizes[event]
            peaks[mask is bias] = max(peaks[mask is bias], live)
    assert peaks[True] > 2 * 4 * scores + scores
    assert peaks[False] < scores


@pytest.mark.parametrize(
    ("kernels", "size", "masked", "kind"),
    [
        (HOPPER, 128, True, "cudnn"),
        (HOPPER, 256, False, "flash"),
        (HOPPER, 512, False, "efficient"),
        (HOPPER, 100, True, "math"),
        (Kernels(name="ampere", sms=82), 128, False, "flash"),
        (Kernels(name="ampere", sms=82), 128, True, "efficient"),
        (Kernels(name="turing", sms=40, attention="efficient"), 128, False, "efficient"),
    ],
)
def test_which_kernel_attends(kernels: Kernels, size: int, masked: bool, kind: str) -> None:
    q = torch.empty((1, 8, 64, size), dtype=F16, device=META)
    mask = torch.empty((1, 1, 64, 64), dtype=F16, device=META) if masked else None
    assert attention.chosen(kernels, q, q, q, mask, False) == kind
