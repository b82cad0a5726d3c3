"""What the language cannot say yet is told as that, with the nearest thing; no message has a hole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import planner
from planner.document.language.plan import schema

HEAD = "version: 1\npipeline: {class: FluxPipeline}\n"


def said(text: str, folder: Path) -> list[tuple[str, str, str]]:
    path = folder / "x.plan.yaml"
    path.write_text(text if "version" in text else f"version: 1\n{text}\n")
    return [(d.code.id, d.message, d.hint) for d in planner.validate(path).errors]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("components: {transformer: {device: 'cuda:1'}}", "one plan is for one device"),
        ("components: {transformer: 'cuda:1'}", "one plan is for one device"),
        ("components: {transformer: {policy: stream, device: [0, 1]}}", "one plan is for one device"),
        ("device: [cuda:0, cuda:1]", "one plan is for one device"),
        ("device: 'cuda:0,1'", "one plan is for one device"),
        ("device_map: balanced", "one plan is for one device"),
        ("budget: {vram: {0: 10GiB, 1: 10GiB}}", "one plan is for one device"),
        ("components: {vae: cpu}", "computing on the CPU is not there yet"),
        ("components: {vae: {device: cpu}}", "computing on the CPU is not there yet"),
        ("components: {vae: {policy: cpu}}", "computing on the CPU is not there yet"),
        ("components: {transformer: disk}", "weights left on disk are not there yet"),
        ("budget: {disk: 100GiB}", "weights left on disk are not there yet"),
        ("offload_folder: /tmp/x", "weights left on disk are not there yet"),
        ("budget: {unified: 32GiB}", "unified memory is not told apart yet"),
        ("budget: {memory: 32GiB}", "unified memory is not told apart yet"),
        ("components: {vae: {dtype: float32}}", "one dtype for the whole pipeline"),
    ],
)
def test_what_is_not_there_yet(text: str, hint: str, tmp_path: Path) -> None:
    (found,) = said(HEAD + text + "\n", tmp_path)
    assert hint in found[2]


@pytest.mark.parametrize(
    ("dtype", "message", "hint"),
    [
        ("{unet: float16}", "may not be a mapping: expected float32", "one dtype"),
        ("[float16]", 'may not be ["float16"]', "one dtype"),
        ("float8_e4m3fn", "float8_e4m3fn", "backend: layerwise_cast, storage_dtype: float8_e4m3fn"),
        ("fp8", "fp8", "layerwise_cast"),
        ("int8", "int8", "backend: torchao, type: int8_weight_only"),
        ("nf4", "nf4", "backend: bitsandbytes, type: nf4"),
        ("fp16", "fp16", 'did you mean "float16"?'),
        ("bf16", "bf16", 'did you mean "bfloat16"?'),
        ("flaot16", "flaot16", 'did you mean "float16"?'),
    ],
)
def test_a_dtype(dtype: str, message: str, hint: str, tmp_path: Path) -> None:
    (found,) = said(f"version: 1\npipeline: {{class: FluxPipeline, dtype: {dtype}}}\n", tmp_path)
    assert message in found[1]
    assert hint in found[2]


@pytest.mark.parametrize("value", ["{a: b}", "[]", "[x]", "x y", "5", "1.5", "true", "''", "-1"])
def test_no_message_has_a_hole(value: str, tmp_path: Path) -> None:
    places = [key for key in schema()["properties"] if key not in ("version", "pipeline")]
    places += [
        "budget: {vram",
        "pipeline: {class: FluxPipeline, dtype",
        "pipeline: {class: FluxPipeline, source",
    ]
    places += ["components: {vae", "components: {vae: {policy", "components: {vae: {tiling"]
    for place in places:
        close = "}" * place.count("{")
        head = "version: 1\n" if place.startswith("pipeline") else HEAD
        for code, message, _ in said(f"{head}{place}: {value}{close}\n", tmp_path):
            if code.startswith("P2"):
                assert not re.search(r" :|  |: $|found$|be$|expected $|another form", message), (
                    place,
                    message,
                )
