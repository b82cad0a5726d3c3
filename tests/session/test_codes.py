"""What is refused, or told, when a plan meets a pipeline and a machine: each with its code and no other."""

from __future__ import annotations

import sys
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from pipelines.all import build, run, same
from pipelines.plans import attached, plan_for, read

from planner import api
from planner.device.torch_device import TorchDevice
from planner.diagnostics.diagnostic import PlanError
from planner.schedule.card import Card
from planner.session import device_state
from planner.session.checks import check_pipeline
from planner.session.machine import pick_device
from planner.session.versions import version_notes
from planner.virtual import backend
from planner.virtual.audit import Verdict
from planner.virtual.compare import findings
from planner.virtual.device import SimDevice

SD = "StableDiffusionPipeline"


@pytest.fixture
def sd() -> Any:
    SimDevice()
    return build(SD)


def of(found: Any) -> list[str]:
    return [d.code.name for d in found]


def raised(caught: pytest.ExceptionInfo[PlanError]) -> list[str]:
    return of(caught.value.diagnostics)


@pytest.mark.parametrize(
    ("device", "gpu_id", "said", "code"),
    [
        ("sim:0", 0, "", "device-twice"),
        (None, 1, "device: cuda:0", "device-twice"),
        ("cpu", None, "", "cpu-as-execution-device"),
        ("sim:7", None, "", "no-accelerator"),
        ("sim", 3, "", "no-accelerator"),
    ],
)
def test_devices(sd: Any, device: str | None, gpu_id: int | None, said: str, code: str) -> None:
    with pytest.raises(PlanError) as caught:
        pick_device(plan_for(sd, said), device, gpu_id)
    assert raised(caught) == [code]


def grouped(pipe: Any) -> Any:
    pipe.unet.enable_group_offload(torch.device("sim:0"), offload_type="leaf_level")
    return pipe


def mapped(pipe: Any) -> Any:
    pipe.hf_device_map = {"unet": 0, "vae": "cpu"}
    return pipe


def mapped_component(pipe: Any) -> Any:
    pipe.unet.hf_device_map = {"up": 0, "down": "cpu"}
    return pipe


def sharded(pipe: Any) -> Any:
    kind = type("DTensor", (torch.nn.Parameter,), {})
    pipe.vae.extra = kind(torch.zeros(1))
    return pipe


def modular(pipe: Any) -> Any:
    return type("Mine", (type("ModularPipeline", (), {}),), {})()


def no_pipeline(pipe: Any) -> Any:
    return torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (grouped, "group-offloaded"),
        (mapped, "device-mapped"),
        (mapped_component, "device-mapped"),
        (sharded, "tensor-parallel"),
        (modular, "modular-pipeline"),
        (no_pipeline, "not-a-pipeline"),
    ],
)
def test_pipelines_that_others_move(sd: Any, change: Any, code: str) -> None:
    plan = plan_for(sd)
    found = check_pipeline(plan, change(sd))
    assert [d.code.name for d in found if d.severity.value == "error"] == [code]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("components: {unet: {tiling: on}}", "tiling-or-slicing-unsupported"),
        ("components: {unet: {slicing: on}}", "tiling-or-slicing-unsupported"),
        ("run: {prompt: a cat}", "ignored-on-loaded-pipeline"),
        ("exclude: [zzz]", "component-missing"),
    ],
)
def test_what_a_plan_asks_of_a_loaded_pipeline(sd: Any, line: str, code: str) -> None:
    assert of(check_pipeline(plan_for(sd, line), sd)) == [code]


def test_another_dtype(sd: Any) -> None:
    plan = plan_for(sd)
    loaded = plan.document.sources[0].text
    said = loaded.replace(f"pipeline: {SD}", f"pipeline: {{class: {SD}, dtype: float16}}")
    assert of(check_pipeline(read(said), sd)) == ["dtype-differs"]


def test_another_device_has_it(sd: Any) -> None:
    session, _ = attached(plan_for(sd), sd)
    assert {*of(check_pipeline(plan_for(sd), sd, SimDevice()))} == {"component-under-another-plan"}
    session.remove()


def test_stock_offload_is_taken_off(sd: Any) -> None:
    sd.enable_model_cpu_offload(device="sim")
    session, _ = api.attach(plan_for(sd), sd, SimDevice())
    assert "stock-offload-removed" in of(session.notes)
    session.remove()


@pytest.mark.parametrize(
    ("asks", "code"), [("is_left_in_place", "left-in-place"), ("repacked", "moved-by-module")]
)
def test_components_that_only_their_class_moves(
    sd: Any, asks: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No library that is installed has such tensors: the one question that decides is answered here."""
    monkeypatch.setattr(f"planner.session.attach.{asks}", lambda *_: True)
    session, _ = attached(plan_for(sd), sd)
    assert of(session.notes).count(code) == 3  # the text encoder, the UNet and the VAE
    session.remove()


def test_a_card_with_less_free_than_the_plan_asks_for(sd: Any) -> None:
    card = Card(name="cuda:0", kind=None, total=12 << 30, free=6 << 30, left=1 << 29)
    room, found = card.room(plan_for(sd, "budget: {vram: 8GiB}"), 0)
    assert of(found) == ["budget-lowered"]
    assert room.budget == (6 << 30) - (1 << 29)


def test_moves_from_outside(sd: Any) -> None:
    session, _ = attached(plan_for(sd), sd)
    with pytest.raises(PlanError) as caught:
        sd.unet.to("sim:0")
    assert raised(caught) == ["move-refused"]
    with pytest.warns(match="P715 placement-call-ignored"):
        sd.to("sim:0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.to("sim:0")  # said once
    session.remove()


def test_out_of_memory(sd: Any) -> None:
    session, _ = attached(plan_for(sd), sd, device=SimDevice(capacity=1000))
    with pytest.raises(torch.OutOfMemoryError) as caught:
        run(sd, SD)
    assert sum("P714 out-of-memory" in note for note in caught.value.__notes__) == 1
    session.remove()


def test_versions(sd: Any) -> None:
    assert of(version_notes(plan_for(sd), SD, "99.0")) == ["other-diffusers"]
    assert of(version_notes(plan_for(sd), SD)) == []


def test_bytes_that_are_not_the_hosts() -> None:
    fields: dict[str, Any] = dict.fromkeys(Verdict.__dataclass_fields__, ())
    verdict = Verdict(**{**fields, "left": {}, "wrong": ("unet",)})
    assert of(findings(verdict)) == ["wrong-bytes"]


def test_a_place_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_libraries", [])
    monkeypatch.setattr(torch._C, "_get_privateuse1_backend_name", lambda: "npu")
    with pytest.raises(PlanError) as caught:
        backend.install()
    assert raised(caught) == ["backend-taken"]


def test_a_torch_without_python_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_libraries", [])
    none: Any = types.SimpleNamespace()
    monkeypatch.setattr(torch.utils, "backend_registration", none)
    monkeypatch.setitem(sys.modules, "torch.utils.backend_registration", none)
    with pytest.raises(PlanError) as caught:
        backend.install()
    assert raised(caught) == ["no-python-backend"]


def test_a_torch_without_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_storage_Use_Count")
    with pytest.raises(PlanError) as caught:
        TorchDevice(torch.device("cpu"))
    assert raised(caught) == ["no-reference-counts"]


def test_a_callback_that_waits_for_another_threads_call(sd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_state, "PATIENCE", 0.1)
    session, _ = attached(plan_for(sd), sd)
    seen: list[BaseException | None] = []

    def asks(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(run, pipe, SD).exception())
        return tensors

    run(sd, SD, callback_on_step_end=asks)
    assert [type(error) for error in seen] == [PlanError] * len(seen) != []
    assert {code for error in seen for code in of(error.diagnostics)} == {"device-busy"}  # type: ignore[union-attr]
    session.remove()


def test_weights_that_change_between_forward_and_backward(sd: Any) -> None:
    session, _ = attached(plan_for(sd), sd)
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    loss = sd.unet(x, 1, torch.randn(1, 7, 32)).sample.sum()
    with torch.no_grad():
        for weight in sd.unet.parameters():
            weight.mul_(1.5)
    with pytest.raises(PlanError) as caught:
        loss.backward()
    assert raised(caught) == ["weights-changed-before-backward"]
    session.remove()


def test_no_room_where_it_was_found(sd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sd.unet.to("sim:0")
    session, _ = attached(plan_for(sd), sd)

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(type(sd.unet)._planned_base, "to", full)
    session.remove()
    assert "not-put-back" in of(session.notes)
    assert sd.unet.device.type == "cpu"


def test_a_component_that_the_pipeline_was_told_to_leave_out(sd: Any) -> None:
    expected = run(build(SD).to("sim:0"), SD)
    sd._exclude_from_cpu_offload = ["vae"]
    session, _ = api.attach(plan_for(sd), sd, SimDevice())
    assert "excluded-by-pipeline" in of(session.notes)
    assert session.resident() == ("vae",)
    assert same(run(sd, SD), expected)
    assert session.resident() == ("vae",)
    session.remove()
    said, _ = api.attach(plan_for(sd, "components: {vae: offload}"), sd, SimDevice())
    assert "excluded-by-pipeline" not in of(said.notes)
    said.remove()
