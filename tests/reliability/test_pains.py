"""The pains of `table.py` that no other test shows to be gone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pipelines.all import build, run, same
from pipelines.plans import attached, plan_for

from planner.virtual.audit import audit
from planner.virtual.device import SimDevice
from reliability.world import MODES, SD, modes


def whole(name: str = SD, **more: Any) -> Any:
    SimDevice()
    return run(build(name).to("sim:0"), name, **more)


@pytest.mark.parametrize("mode", modes())
def test_01_the_execution_device_is_the_plans_whatever_stands_where(mode: str) -> None:
    pipe = build(SD)
    with attached(plan_for(pipe, *MODES[mode]), pipe)[0]:
        assert pipe._execution_device == torch.device("sim:0")
        run(pipe, SD)
        assert pipe._execution_device == torch.device("sim:0")


@pytest.mark.parametrize("mode", modes())
def test_02_no_loader_touches_the_plan(mode: str) -> None:
    from reliability.world import lora

    pipe = build(SD)
    session, device = attached(plan_for(pipe, *MODES[mode]), pipe)
    schedule, hooks = (
        session.schedule,
        {n: pipe.components[n]._hf_hook for n in ("unet", "text_encoder", "vae")},
    )
    run(pipe, SD)
    pipe.load_lora_weights(lora(1), adapter_name="one")
    run(pipe, SD)
    assert session.schedule is schedule
    assert {n: pipe.components[n]._hf_hook for n in hooks} == hooks
    assert {device.type for device in devices(pipe.unet)} <= {"cpu", "sim"}
    assert len(devices(pipe.unet)) == 1, "the adapter is not where its component is"
    pipe.unload_lora_weights()
    session.remove()
    assert device.ledger.live == 0


def test_05_components_set_to_none_leave_the_device() -> None:
    pipe = build(SD)
    session, device = attached(plan_for(pipe, "idle: keep"), pipe)
    with torch.no_grad():
        prompt, negative = pipe.encode_prompt("a cat", "sim:0", 1, True)
    assert device.ledger.by_label.keys() == {"text_encoder"}
    pipe.text_encoder = None
    assert device.ledger.live == 0
    made = run(pipe, SD, prompt=None, prompt_embeds=prompt, negative_prompt_embeds=negative)
    assert same(made, whole())
    session.remove()
    assert device.ledger.live == 0


@pytest.mark.parametrize("idle", ["release", "keep"])
def test_07_embeddings_made_before_the_call(idle: str) -> None:
    pipe = build(SD)
    session, device = attached(plan_for(pipe, f"idle: {idle}"), pipe)
    with torch.no_grad():
        prompt, negative = pipe.encode_prompt("a cat", "sim:0", 1, True)
    assert ("text_encoder" in device.ledger.by_label) is (idle == "keep")
    made = run(pipe, SD, prompt=None, prompt_embeds=prompt, negative_prompt_embeds=negative)
    assert same(made, whole())
    session.remove()


def test_13_an_encoding_vae_does_not_stay_in_the_loop() -> None:
    name = "StableDiffusionImg2ImgPipeline"
    pipe = build(name)
    from pipelines.plans import tight

    plan = plan_for(pipe)
    session, device = attached(plan, pipe, tight(pipe, plan))
    beside: list[set[str]] = []
    pipe.unet.register_forward_pre_hook(lambda *_: beside.append({*device.ledger.by_label}))
    assert same(run(pipe, name), whole(name))
    assert beside
    assert all(there == {"unet"} for there in beside)
    session.remove()


def test_24_a_component_added_later_comes_under_the_plan() -> None:
    pipe = build(SD)
    session, device = attached(plan_for(pipe), pipe)
    pipe.register_modules(image_encoder=build("StableDiffusionImageVariationPipeline").image_encoder)
    assert same(run(pipe, SD), whole())
    taken = pipe.image_encoder
    with torch.no_grad():
        taken(torch.zeros(1, 3, 32, 32).to("sim:0"))
    assert "image_encoder" in {entry.label for entry in device.ledger.events}
    assert device.ledger.live == 0
    session.remove()


@pytest.mark.parametrize("mode", ["offload", "stream"])
def test_26_an_early_end_leaves_nothing(mode: str) -> None:
    pipe = build(SD)
    session, device = attached(plan_for(pipe, *MODES[mode]), pipe)
    assert same(run(pipe, SD, output_type="latent"), whole(output_type="latent"))
    assert device.ledger.live == 0
    assert session.resident() == ()
    session.remove()


@pytest.mark.parametrize("mode", modes())
def test_27_tied_weights_stay_tied_and_cross_once(mode: str) -> None:
    pipe = build(SD)
    text = pipe.text_encoder
    inner = getattr(text, "text_model", text)
    inner.embeddings.again = inner.embeddings.position_embedding  # the same module, twice
    first, second = inner.encoder.layers[0].mlp.fc1, inner.encoder.layers[1].mlp.fc1
    second.weight = first.weight  # the same tensor, in two blocks
    expected = run(pipe, SD)
    session, device = attached(plan_for(pipe, *MODES[mode]), pipe)
    for _ in range(3):
        with audit(pipe, device) as seen:
            run(pipe, SD)
        assert seen.misses == ()
        assert second.weight is first.weight
    session.remove()
    assert second.weight is first.weight
    assert same(run(pipe, SD), expected)


def test_28_a_component_that_is_there_and_does_not_run_holds_nobody() -> None:
    """Its neighbours leave as if it were not there."""
    pipe = build(SD)
    pipe.register_modules(image_encoder=build("StableDiffusionImageVariationPipeline").image_encoder)
    from pipelines.plans import tight

    plan = plan_for(pipe, "order: text_encoder -> image_encoder -> unet -> vae")
    session, device = attached(plan, pipe, tight(pipe, plan))
    beside: list[set[str]] = []
    pipe.unet.register_forward_pre_hook(lambda *_: beside.append({*device.ledger.by_label}))
    assert same(run(pipe, SD), whole())
    assert all("text_encoder" not in there and "image_encoder" not in there for there in beside)
    session.remove()


def test_33_a_generator_of_the_device_makes_the_same_picture() -> None:
    seeds: dict[str, Any] = {"generator": torch.Generator("sim:0").manual_seed(3)}
    expected = whole(**seeds)
    pipe = build(SD)
    with attached(plan_for(pipe), pipe)[0]:
        assert same(run(pipe, SD, generator=torch.Generator("sim:0").manual_seed(3)), expected)


def test_37_requests_at_once_are_served_one_after_another() -> None:
    from concurrent.futures import ThreadPoolExecutor

    seeds = range(4)
    expected = [whole(generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    pipe = build(SD)
    session, device = attached(plan_for(pipe, *MODES["stream, kept"]), pipe)
    calls = [lambda s=seed: run(pipe, SD, generator=torch.Generator().manual_seed(s)) for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda call: call(), calls))
    assert all(map(same, made, expected))
    assert device.faults == ()
    session.remove()


def devices(module: torch.nn.Module) -> set[torch.device]:
    return {tensor.device for tensor in (*module.parameters(), *module.buffers())}
