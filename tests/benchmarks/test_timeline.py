"""What a timeline counts in each stretch."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from benchmarks.timeline import Span, main, rows


def test_a_span_counts_in_each_stretch_that_it_lies_in() -> None:
    wait = Span(0.375, 0.75, "", "cudaMalloc")
    made = rows([Span(0.125, 0.625, "kernel", "k"), Span(0.25, 0.5, "to the device", "c"), wait], 0.25)
    assert [row.start for row in made] == [0.0, 0.25, 0.5, 0.75]
    assert [row.busy.get("kernel", 0) for row in made] == [0.5, 1.0, 0.5, 0]
    assert [row.busy.get("to the device", 0) for row in made] == [0, 1.0, 0, 0]
    assert [row.waited for row in made] == [(), (wait,), (), ()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_cuda_it_says_so() -> None:
    result = CliRunner().invoke(main, ["tiny-flux", "resident"])
    assert result.exit_code == 1
    assert "needs CUDA" in result.output
