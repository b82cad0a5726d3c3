"""Peaks that a card showed, by pipelines' configs and calls: ``measured.json`` says with which versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from planner.predict.profile import CallProfile
from planner.tracing.hollow import Part, built
from planner.tracing.trace import trace

TABLE: dict[str, Any] = json.loads(Path(__file__).with_name("measured.json").read_text(encoding="utf-8"))
PROMPT: str = TABLE["prompt"]
"""What was measured with: encoders that do not pad take its length."""
CASES: dict[str, Any] = {case["name"]: case for case in TABLE["pipelines"]}


def traced(case: Any, kernels: Any) -> CallProfile:
    """The call that was measured, on tensors without data."""
    made = built(case["class"], {name: Part(**said) for name, said in case["parts"].items()}, {})
    call = {"prompt": PROMPT, "num_inference_steps": 2, **case["call"]}
    if case["tiling"]:
        made.pipe.vae.enable_tiling()
    if case["image"]:
        from PIL import Image

        call |= {"image": Image.new("RGB", (call["width"], call["height"])), "num_inference_steps": 4}
    return trace(made.pipe, call, kernels, dtypes=made.dtypes)
