"""Host memory under a plan: who is pinned first, what is told of the rest, and when there is too little."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines.all import build, same
from pipelines.all import run as generate
from pipelines.plans import attached, plan_for
from registering import Runtime

import planner
from planner.cli.main import run
from planner.device import pinned
from planner.device.mapped import copy_out
from planner.device.pinned import Pins
from planner.diagnostics.diagnostic import Diagnostic, PlanError
from planner.host import packing
from planner.loading.builtin import builtin_folder, dtype_argument, quiet
from planner.session import ram
from planner.session.pipeline_class import session_of
from planner.target.loaded import describe
from planner.virtual.device import SimDevice

XL = "StableDiffusionXLPipeline"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``machine(room)``: from now on sessions register with a runtime that has so much room."""

    def make(room: int | None = None) -> Runtime:
        runtime = Runtime(room)
        made = Pins.__init__

        def init(self: Pins, device: torch.device, budget: int | None = None) -> None:
            made(self, device, budget)
            self._runtime = runtime

        monkeypatch.setattr(Pins, "__init__", init)
        return runtime

    monkeypatch.setattr(pinned, "PIECE", 1 << 16)
    return make


def told(notes: list[Diagnostic]) -> dict[str, tuple[str, list[str]]]:
    """By code: the severity, and the components that are named."""
    found = [d for d in notes if "stay pageable" in d.message]
    return {d.code.name: (d.severity.value, re.findall(r"(\w+) [\d.]+ [KM]iB", d.message)) for d in found}


def test_all_that_is_allowed_is_registered_and_nothing_told(machine: Any) -> None:
    runtime, pipe = machine(), build(XL)
    session, _ = attached(plan_for(pipe), pipe)
    sizes = [info.bytes or 0 for info in describe(pipe).components.values() if info.module]
    assert 0.9 * sum(sizes) < sum(runtime.registered.values())
    assert told(session.notes) == {}
    session.remove()
    assert runtime.registered == {}


def test_the_budget_goes_to_what_streams_and_the_rest_is_told(machine: Any) -> None:
    runtime, pipe = machine(), build(XL)
    stream = {"policy": "stream"}
    size = describe(pipe).components["unet"].bytes or 0
    lines = (f"budget: {{pinned: {size + (64 << 10)}B}}", f"components: {{unet: {stream}}}", "exclude: [vae]")
    session, _ = attached(plan_for(pipe, *lines), pipe)
    assert session.schedule.pins[0] == "unet"
    assert session.schedule.pins[-1] == "vae"
    assert sum(runtime.registered.values()) <= size + (64 << 10)
    severity, names = told(session.notes)["pageable-by-budget"]
    assert severity == "note"
    assert "vae" in names
    assert "unet" not in names
    assert set(told(session.notes)) == {"pageable-by-budget"}
    session.remove()


def test_a_machine_that_refuses_is_told_apart(machine: Any) -> None:
    pipe = build(XL)
    size = describe(pipe).components["unet"].bytes or 0
    machine(size + (4 << 10))  # the last page is registered whole
    session, _ = attached(plan_for(pipe, "components: {unet: stream}"), pipe)
    severity, names = told(session.notes)["pageable-by-machine"]
    assert severity == "warning"
    assert "unet" not in names
    assert set(told(session.notes)) == {"pageable-by-machine"}
    session.remove()


def test_the_command_says_what_will_be_pinned_and_what_the_machine_refused(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(1 << 20)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.plan.yaml").write_text(
        "version: 1\npipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}\nbudget: {pinned: 2MiB}\n"
        "run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64}\n"
    )
    assert run(["apply", "x.plan.yaml", "--simulate"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"host RAM  [\d.]+ MiB, 2.00 of it pinned  ", out)
    assert "stay pageable, which the machine did not register: transformer" in out
    assert "[P731 pageable-by-machine]" in out
    assert run(["explain", "x.plan.yaml"]) == 0
    assert "2.00 of it pinned; pinned first: transformer, " in capsys.readouterr().out


# -- too little of it


@pytest.fixture
def mapped() -> Any:
    with quiet():
        from diffusers import FluxPipeline

        return FluxPipeline.from_pretrained(builtin_folder("tiny-flux"), **{dtype_argument(): torch.float32})


FLUX = "version: 1\npipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}\n"


def plan_of(tmp_path: Path, text: str = "") -> Any:
    (tmp_path / "x.plan.yaml").write_text(FLUX + text)
    return planner.load(tmp_path / "x.plan.yaml")


def refused(call: Any) -> tuple[str, str, int]:
    with pytest.raises(PlanError) as caught:
        call()
    (found,) = [d for d in caught.value.diagnostics if d.severity.value == "error"]
    return found.code.name, found.message, found.code.exit_code


def test_weights_in_files_that_memory_has_no_room_for_are_not_read_at_apply(
    mapped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SimDevice()
    monkeypatch.setattr(ram, "available", lambda: 5 << 20)
    before = {name: p.data_ptr() for name, p in mapped.transformer.named_parameters()}
    said = refused(lambda: planner.apply(plan_of(tmp_path), mapped, device="sim:0"))
    assert said[::2] == ("host-memory-short", 4)
    assert re.fullmatch(
        r"the weights to be read take 7\.(\d\d) MiB of host memory, "
        r"2\.\1 MiB more than the 5\.00 MiB that are available",
        said[1],
    )
    assert {name: p.data_ptr() for name, p in mapped.transformer.named_parameters()} == before
    assert session_of(mapped) is None
    with planner.apply(plan_of(tmp_path, "budget: {ram: 9MiB}\n"), mapped, device="sim:0"):
        monkeypatch.setattr(ram, "available", lambda: 0)
        again = planner.apply(plan_of(tmp_path), mapped, device="sim:0")  # nothing is left to be read
    again.remove()


def test_a_budget_that_is_too_small_is_told_by_every_way_in(mapped: Any, tmp_path: Path) -> None:
    SimDevice()
    plan = plan_of(tmp_path, "budget: {ram: 5MiB}\n")
    for call in (
        lambda: planner.compile(plan),
        lambda: planner.load_pipeline(plan),
        lambda: planner.apply(plan, mapped, device="sim:0"),
    ):
        code, message, exit_code = refused(call)
        assert (code, exit_code) == ("host-too-small", 1)
        assert re.fullmatch(
            r"the weights take 7\.\d\d MiB of host memory, 2\.\d\d MiB more than budget\.ram", message
        )


def test_a_machine_that_has_too_little_reads_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(ram, "available", lambda: 5 << 20)
    monkeypatch.setattr(diffusers.FluxPipeline, "from_pretrained", never)
    assert refused(lambda: planner.load_pipeline(plan_of(tmp_path)))[0] == "host-memory-short"


def test_sizes_that_were_not_known_are_seen_before_the_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.loading import pipeline
    from planner.loading.pipeline import load_pipeline

    monkeypatch.setattr(pipeline, "check_ram", lambda _: [])  # as for a hub id
    monkeypatch.setattr(ram, "available", lambda: 5 << 20)
    assert refused(lambda: load_pipeline(plan_of(tmp_path)))[0] == "host-memory-short"


def test_memory_is_registered_while_the_files_are_read_into_it(
    machine: Any, mapped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, begun = machine(), threading.Event()
    register = runtime.cudaHostRegister

    def registers(*args: Any) -> Any:
        begun.set()
        return register(*args)

    def reads(pairs: Any) -> None:
        assert begun.wait(60)
        copy_out(pairs)

    monkeypatch.setattr(runtime, "cudaHostRegister", registers)
    monkeypatch.setattr(packing, "copy_out", reads)
    hashes = weights_of(mapped)
    session, _ = attached(plan_for(mapped), mapped)
    sizes = [info.bytes or 0 for info in describe(mapped).components.values() if info.module]
    assert 0.9 * sum(sizes) < sum(runtime.registered.values())
    session.remove()
    assert weights_of(mapped) == hashes


def test_two_components_with_a_tensor_in_common() -> None:
    expected, pipe = (build(XL) for _ in range(2))
    for each in (expected, pipe):
        encoders = (each.text_encoder, each.text_encoder_2)
        ours, theirs = ([m for m in e.modules() if isinstance(m, torch.nn.LayerNorm)][-1] for e in encoders)
        theirs.weight = ours.weight
    hashes = weights_of(expected)
    session, device = attached(plan_for(pipe), pipe)
    assert same(generate(pipe, XL), generate(expected.to("sim:0"), XL))
    assert device.faults == ()
    session.remove()
    assert weights_of(pipe) == hashes


def weights_of(pipe: Any) -> dict[tuple[str, str], list[float]]:
    """Every parameter, by component and name."""
    return {
        (component, name): tensor.detach().flatten().tolist()
        for component, module in pipe.components.items()
        if isinstance(module, torch.nn.Module)
        for name, tensor in module.named_parameters()
    }
