"""The line that says whether the plan changes the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.api import load
from planner.report.image import image_line

SAME = "image: same as without a plan"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", SAME),
        ("pipeline: {class: X, dtype: bfloat16}", SAME),
        ("components: {unet: offload, vae: {tiling: off}}", SAME),
        ("idle: keep\norder: unet -> vae", SAME),
        ("components:\n  unet: offload\n  vae:\n    tiling: on", "image: changed by vae tiling (line 6)"),
        ("components: {unet: offload, vae: {slicing: off}}", SAME),
        (
            "components: {vae: {slicing: on}}",
            "image: same as without a plan; vae slicing (line 3) may round otherwise",
        ),
        (
            "components:\n  vae:\n    slicing: on\n    tiling: on",
            "image: changed by vae tiling (line 6); vae slicing (line 5) may round otherwise",
        ),
        (
            "components: {vae: {tiling: on}}\n"
            "quantization:\n"
            "  - {component: unet, backend: torchao, type: int8_weight_only}\n"
            "  - {component: unet, backend: layerwise_cast, storage_dtype: float8_e4m3fn}",
            "image: changed by vae tiling (line 3), unet torchao int8_weight_only (line 5), "
            "unet layerwise_cast float8_e4m3fn (line 6)",
        ),
    ],
)
def test_the_lines_that_change_it(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    pipeline = "" if text.startswith("pipeline") else "pipeline: X\n"
    path.write_text(f"version: 1\n{pipeline}{text}\n")
    assert image_line(load(path)) == line


def test_another_file_is_named(tmp_path: Path) -> None:
    base, above = tmp_path / "base.plan.yaml", tmp_path / "x.plan.yaml"
    base.write_text("version: 1\npipeline: X\ncomponents: {vae: {tiling: on}}\n")
    above.write_text("version: 1\nextends: base.plan.yaml\n")
    assert image_line(load(above)) == f"image: changed by vae tiling ({base}:3)"
    own = load(base, overrides=["components.unet.tiling=on"])
    assert image_line(own) == "image: changed by vae tiling (line 3), unet tiling (--set:1)"
