"""Rules against a machine: what is refused before any weight is read, with the nearest that would do."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import Golden
from pipelines.plans import read

from planner.diagnostics.render import text
from planner.quantization.matrix import AXES, ROWS
from planner.quantization.probe import DISTRIBUTIONS, installed, lacking
from planner.quantization.refuse import refusals
from planner.report.matrix import matrix_table
from planner.report.render import to_text

CASES = Path(__file__).parent / "cases"
HERE = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.47.0",
    "gguf": "0.19.0",
    "peft": "0.21.2",
    "torchao": "0.18.0+cu128",
}
"""One package is missing, one is too old for some cells."""


def said(
    rules: str, *lines: str, device: str | None = "cuda", versions: dict[str, str] | None = None
) -> list[str]:
    plan = read(
        "\n".join(["version: 1", "pipeline: FluxPipeline", *lines, f"quantization: [{rules}]"]) + "\n"
    )
    found = refusals(plan, device, HERE if versions is None else versions)
    return [f"{d.code.id} {d.message}; {d.hint}" for d in found]


def test_what_is_installed_is_not_refused() -> None:
    rules = "{component: transformer, backend: torchao, type: int8_weight_only}"
    for device in ("cuda", "sim", None):
        assert said(rules, "components: {transformer: offload}", device=device) == []
    assert said("{component: vae, backend: layerwise_cast}", versions={}) == []


def test_a_device_refuses_a_format() -> None:
    rules = "{component: text_encoder_2, backend: bitsandbytes, type: nf4}"
    assert said(rules, device="cuda") == []
    (one,) = said(rules, device="sim")
    assert one == (
        'P376 "text_encoder_2" by bitsandbytes nf4 does not go with sim: diffusers quantizes on a real '
        "accelerator only; torchao int8_weight_only, int8_dynamic or torchao float8_weight_only goes with sim"
    )


def test_a_component_alone_is_refused() -> None:
    lines, versions = "loras: [{lora_id: ./style.safetensors}]", {**HERE, "optimum-quanto": "0.2.7"}
    (one,) = said("{component: transformer, backend: quanto, type: int8}", lines, versions=versions)
    assert one.startswith('P376 "transformer" by quanto int8 does not go with LoRAs')
    assert said("{component: text_encoder_2, backend: quanto, type: int8}", lines, versions=versions) == []


def test_a_package_is_missing() -> None:
    (one,) = said("{component: transformer, backend: quanto, type: int8}")
    assert one == (
        'P901 package "optimum-quanto" is missing, and "transformer" by quanto int8 needs it; '
        "pip install 'optimum-quanto>=0.2.6'; or torchao int8_weight_only, int8_dynamic, which is here"
    )
    alone = {"accelerate": "1.15.0"}
    (one,) = said("{component: transformer, backend: quanto, type: int8}", device="mps", versions=alone)
    assert "which is here" not in one  # what needs no package has no float8 there
    (one,) = said("{component: transformer, backend: torchao, type: int4_weight_only}")
    assert one.startswith('P901 package "mslk" is missing')
    assert said("{component: transformer, backend: torchao, type: int4_weight_only}", device=None) == []


def test_a_package_is_too_old_for_a_cell() -> None:
    rules = "{component: text_encoder, backend: bitsandbytes, type: int8}"
    assert said(rules) == []
    (one,) = said(rules, "components: {text_encoder: offload}")
    assert one.startswith(
        'P902 package "bitsandbytes" is version 0.47.0, and "text_encoder" by bitsandbytes int8 needs 0.48; '
    )


def test_a_package_is_told_once() -> None:
    rule = "{component: transformer, match: %s, backend: torchao, type: int8_weight_only}"
    found = said(", ".join([rule % "attn", rule % "ff"]), versions={})
    assert len(found) == 1
    assert "layerwise_cast, which is here" in found[0]


def test_a_gguf_file_needs_its_package() -> None:
    lines = "components: {transformer: {source: ./flux-Q4_K_S.gguf}}"
    rules = "{component: vae, backend: layerwise_cast}"
    assert said(rules, lines) == []
    (one,) = said(rules, lines, versions={"accelerate": "1.15.0"})
    assert one == (
        'P901 package "gguf" is missing, and "transformer" by gguf needs it; pip install \'gguf>=0.10.0\''
    )


def test_adapters_are_for_some_components() -> None:
    rule = "{component: %s, backend: torchao, type: int4_weight_only}"
    lines = "loras: [{lora_id: ./style.safetensors}]"
    (one,) = said(rule % "transformer", lines, device=None)
    assert "peft refuses torchao's Int4Tensor" in one
    assert said(rule % "vae", lines, device=None) == []


def cells() -> list[tuple[str, str, str]]:
    return [
        (row.backend, kind, column)
        for row in ROWS
        for kind in row.types
        for column in (*AXES["policy"], "lora", *AXES["device"])
        if row.cells[column].verdict == "no"
    ]


@pytest.mark.parametrize(("backend", "kind", "column"), cells())
def test_every_cell_that_is_refused(backend: str, kind: str, column: str) -> None:
    """Before any weight is read, and with something that is not refused."""
    device = column if column in AXES["device"] else None
    lines = [f"components: {{transformer: {column}}}"] if column in AXES["policy"] else []
    lines += ["loras: [{lora_id: ./style.safetensors}]"] if column == "lora" else []
    key = "storage_dtype" if backend == "layerwise_cast" else "type"
    (one,) = said(f"{{component: transformer, backend: {backend}, {key}: {kind}}}", *lines, device=device)
    assert one.startswith("P376 ")
    assert " goes with " in one or "; policy: " in one


def test_the_matrix_of_a_machine(golden: Golden) -> None:
    table, notes = matrix_table(HERE)
    golden(CASES / "matrix.out", to_text(table, width=140) + "\n" + "\n".join(notes) + "\n")


def test_versions_are_read_without_importing() -> None:
    found = installed()
    assert set(found) <= set(DISTRIBUTIONS)
    assert found["accelerate"]
    assert lacking((("accelerate", "0.1"),), found) == ()
    assert lacking((("a", "1.0"), ("b", "2.0")), {"a": "1.0.dev3+cpu", "b": "1.9"}) == (("b", "2.0"),)
    assert lacking((("a", "1.0"),), {"a": "local"}) == ()


def test_what_is_refused_is_shown_at_its_line() -> None:
    plan = read(
        "version: 1\npipeline: FluxPipeline\nquantization:\n"
        "  - {component: transformer, backend: bitsandbytes, type: int8}\n"
    )
    shown = text(refusals(plan, "sim", HERE), plan.document.sources)
    assert "x.plan.yaml:4:5" in shown
