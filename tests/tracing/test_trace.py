"""Calls traced without a device: as right as a card that was measured, of the uses of a real call, and with
nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines.all import arguments, build

import planner
from planner.cards.kernels import HOPPER
from planner.cli.main import run
from planner.graph.activations import Activations
from planner.predict.needs import activations_of
from planner.predict.profile import UseProfile
from planner.predict.stored import FormError, from_json, to_json
from planner.schedule.card import imagined
from planner.tracing.cached import key
from planner.tracing.guard import ensure_guard
from planner.tracing.hollow import source_of
from planner.tracing.mode import Tracer
from planner.tracing.patches import as_on_gpu
from planner.tracing.trace import trace

PLAN = """\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}
budget: {vram: 2GiB}
run: {prompt: a cat, height: 256, width: 256, num_inference_steps: 2}
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "home"))
    (tmp_path / "x.plan.yaml").write_text(PLAN)
    return str(tmp_path / "x.plan.yaml")


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = build("FluxPipeline")
    before = (
        torch.nn.functional.scaled_dot_product_attention,
        torch.nn.Module.__call__,
        torch.cuda._lazy_init,
    )
    weights = {name: t.data_ptr() for name, t in pipe.transformer.named_parameters()}

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("here")

    monkeypatch.setattr(pipe.vae, "decode", fails)
    with pytest.raises(planner.PlanError) as raised:
        trace(pipe, arguments("FluxPipeline"), HOPPER)
    assert [found.code.id for found in raised.value.diagnostics] == ["P932"]
    after = (
        torch.nn.functional.scaled_dot_product_attention,
        torch.nn.Module.__call__,
        torch.cuda._lazy_init,
    )
    assert before == after
    assert weights == {name: t.data_ptr() for name, t in pipe.transformer.named_parameters()}


def test_a_profile_is_the_same_after_it_was_stored() -> None:
    found = trace(build("FluxPipeline"), arguments("FluxPipeline"), HOPPER)
    text = to_json(found)
    assert from_json(text).uses == found.uses
    assert to_json(from_json(text)) == text


def test_scratch_is_not_needed() -> None:
    use = UseProfile(component="vae", events=(1024, 4096, -1, 512), scratch=frozenset({1}))
    assert (use.peak(), use.peak(scratch=False)) == (5120, 1536)


def test_activations_that_do_not_fit_are_told(plan: str) -> None:
    known = planner.activations(plan)
    assert {*known} == {"text_encoder", "text_encoder_2", "unet", "vae"}
    small = ["budget.vram=780MiB"]
    assert planner.validate(plan, overrides=small, card=imagined(24 << 30)).ok
    found = planner.validate(plan, overrides=small, card=imagined(24 << 30), activations=known)
    assert {error.code.id for error in found.errors} == {"P607"}
    assert any("vae.decode" in error.message for error in found.errors)
    least = str(found.errors[0].hint).split("budget.vram=")[1].split()[0]
    fits = planner.validate(
        plan, overrides=[f"budget.vram={least}"], card=imagined(24 << 30), activations=known
    )
    assert not fits.errors


def test_predicted_activations_take_the_place_of_a_share(plan: str) -> None:
    """15% of 6.5 MiB would make the U-Net's 5.89 stream; it is known to take less."""
    room = 13 << 19
    guessed = planner.compile(plan, budget=room)
    known = planner.compile(
        plan, budget=room, activations=dict.fromkeys(guessed.graph.placements, Activations(1 << 19, 1 << 19))
    )
    assert [c.graph.placements["unet"].policy.value for c in (guessed, known)] == ["stream", "offload"]


def test_explain_shows_the_uses(plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", plan, "--card", "24GiB", "--activations"]) == 0
    out = capsys.readouterr().out
    assert "activations" in out
    assert "decode" in out.splitlines()[-1]


def test_the_most_of_any_turn_counts() -> None:
    found = activations_of(trace(build("FluxPipeline"), arguments("FluxPipeline"), HOPPER))
    assert all(one.reserved >= one.needed > 0 for one in found.values())


def test_a_profile_is_traced_once_and_read_without_torch(plan: str) -> None:
    """In a process of its own: what reads a profile that is kept imports no torch."""
    first = planner.activations(plan)
    code = (
        "import sys, time\n"
        "start = time.perf_counter()\n"
        "import planner\n"
        f"found = planner.activations({plan!r})\n"
        "assert 'torch' not in sys.modules\n"
        "print(sorted(found), time.perf_counter() - start)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith(str(sorted(first)))


def test_what_is_kept_is_of_these_configs_arguments_and_kernels(plan: str) -> None:
    read = planner.validate(plan).plan
    assert read is not None
    folder = source_of(read)
    call = {"height": 256}
    keys = [
        key(read, folder, call, HOPPER),
        key(read, folder, {"height": 512}, HOPPER),
        key(read, folder, call, replace(HOPPER, attention="flash")),
        key(replace(read, pipeline=replace(read.pipeline, dtype="float16")), folder, call, HOPPER),
    ]
    assert len(set(keys)) == 4
    assert keys[0] == key(read, folder, dict(call), HOPPER)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"form": 0}', '{"form": 1}'])
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(FormError):
        from_json(text)


def test_the_guard_lets_tensors_be_indexed() -> None:
    """The canary of planner.tracing.guard: on a torch without CUDA this fails without it."""
    ensure_guard()
    tracer = Tracer(HOPPER)
    with as_on_gpu(tracer):
        made = tracer.given(torch.arange(12).reshape(3, 4))
        assert made.device.type == "cuda"
        assert made[1, 2:].tolist() == [6, 7]
        assert made[made > 8].tolist() == [9, 10, 11]


def test_the_layer_of_a_block_is_its_section() -> None:
    found = trace(build("FluxPipeline"), arguments("FluxPipeline"), HOPPER)
    use = next(use for use in found.uses if use.component == "transformer")
    blocks = {section.block for section in use.sections}
    assert any(block.startswith("transformer_blocks.") for block in blocks)
    kinds = {use.operations[at].kind for section in use.sections for at, _ in section.work}
    assert {"matmul", "attention", "memory"} <= kinds


def test_sections_count_every_multiplication() -> None:
    """A linear layer of (3, 5) over 7 rows: 2 * 7 * 5 * 3."""
    tracer = Tracer(HOPPER)
    a, b = (tracer.given(torch.empty(shape, device="meta")) for shape in ((7, 5), (5, 3)))
    with as_on_gpu(tracer):
        tracer.ledger.begin()
        a @ b
        tracer.ledger.end()
    (operation,) = tracer.ledger.operations
    assert (operation.kind, operation.flops, operation.shape) == ("matmul", 210, (1, 7, 3, 5))
    assert operation.bytes == 4 * (35 + 15 + 21)
