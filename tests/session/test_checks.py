"""What is seen only when the pipeline is there."""

from __future__ import annotations

from typing import Any

import pytest
from pipelines.all import build
from pipelines.plans import plan_for

from planner.session.checks import check_pipeline


@pytest.fixture(scope="module")
def pipe() -> Any:
    return build("StableDiffusionPipeline")


@pytest.mark.parametrize("entry", ["zzz", "config", "decoder.zzz", "zzz.decode"])
def test_an_entry_point_that_the_model_lacks(pipe: Any, entry: str) -> None:
    found = check_pipeline(plan_for(pipe, f"order: text_encoder -> unet -> vae.{entry}"), pipe)
    (problem,) = [d for d in found if d.severity.value == "error"]
    assert problem.code.name == "unknown-entry-point"
    assert f'"vae" (AutoencoderKL) has no entry point "{entry}"' == problem.message
    assert problem.span is not None
    assert problem.span.column == len("order: text_encoder -> unet -> ") + 1


@pytest.mark.parametrize(
    "entry", ["vae", "vae.decode", "vae.forward", "vae.decoder", "vae.decoder.mid_block"]
)
def test_an_entry_point_that_it_has(pipe: Any, entry: str) -> None:
    plan = plan_for(pipe, f"order: text_encoder -> unet -> {entry}")
    assert [d for d in check_pipeline(plan, pipe) if d.severity.value == "error"] == []
