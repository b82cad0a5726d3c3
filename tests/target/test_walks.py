"""What a pipeline does not have is in no walk of it: absent components, entry points, copies, subclasses."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from models import stages
from pipelines import wide  # noqa: F401 - adds the wide classes
from pipelines.all import build
from pipelines.plans import attached, plan_for, read
from pipelines.registry import WIDE, one_a_family

import planner
from planner.diagnostics.diagnostic import PlanError
from planner.session.checks import check_pipeline
from planner.target import catalogue
from planner.target.loaded import describe
from planner.target.model import WalkStage, WalkUse
from planner.target.walks import callable_at, runnable
from planner.virtual.audit import snapshot

FINAL = "text_model.final_layer_norm"


def walk_of(pipe: Any) -> str:
    return stages(describe(pipe).walk or ())


def refused(plan: Any, pipe: Any) -> list[str]:
    """Applies and removes; the codes of what was refused."""
    try:
        planner.apply(plan, pipe, device="sim:0").remove()
    except PlanError as error:
        return [d.code.name for d in error.diagnostics]
    return []


# Of every class, tests/translation validates the improved plan; tests/generate follows the walk in a call.
@pytest.fixture(scope="module", params=one_a_family())
def pipe(request: pytest.FixtureRequest) -> Any:
    """Classes in turn, each built once: a plan that is removed leaves it as it was."""
    return build(request.param)


def test_the_improved_plan_of_a_loaded_pipeline_applies_to_it(pipe: Any) -> None:
    assert refused(planner.translate(pipe, improve=True), pipe) == []


@pytest.mark.wide
@pytest.mark.parametrize("name", sorted(WIDE))
def test_the_improved_plan_of_a_wide_one_too(name: str) -> None:
    pipe = build(name)
    assert refused(planner.translate(pipe, improve=True), pipe) == []


def test_the_improved_plan_of_its_class_applies_to_it(pipe: Any) -> None:
    """A plan made from the class alone names what may be called; what is not there is skipped."""
    assert refused(planner.translate(type(pipe), improve=True), pipe) == []


def test_every_use_of_a_loaded_walk_can_be_called(pipe: Any) -> None:
    pending = list(describe(pipe).walk or ())
    assert pending
    while pending:
        stage = pending.pop()
        pending += stage.stages
        assert stage.runs or stage.stages
        for use in stage.runs:
            part = pipe.components[use.component]
            assert isinstance(part, torch.nn.Module)
            assert not use.entry or callable_at(part, use.entry)


@pytest.mark.parametrize("there", [True, False])
def test_an_entry_point_that_a_version_of_transformers_does_not_have(there: bool) -> None:
    """CLIPTextModel has ``text_model`` in transformers 4 and not in 5."""

    class TextEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)
            if there:
                self.text_model = torch.nn.Module()
                self.text_model.final_layer_norm = torch.nn.LayerNorm(4)

    pipe = build("StableDiffusionPipeline")
    pipe.register_modules(text_encoder=TextEncoder())
    target = describe(pipe)
    assert (f"text_encoder.{FINAL}" in walk_of(pipe)) is there
    assert target.components["text_encoder"].entries == (FINAL,)
    assert target.components["text_encoder"].lacks == (() if there else (FINAL,))
    plan = plan_for(pipe, f"order: text_encoder -> text_encoder.{FINAL} -> unet -> vae")
    session = planner.apply(plan, pipe, device="sim:0")
    notes = [(d.code.name, d.span.column if d.span else 0) for d in session.notes]
    assert notes == (
        [] if there else [("not-in-this-pipeline", len("order: text_encoder -> text_encoder.") + 1)]
    )
    assert [n.id for n in session.schedule.course.walk] == [
        "text_encoder",
        *([f"text_encoder.{FINAL}"] if there else []),
        "unet",
        "vae",
    ]
    session.remove()


def test_but_one_that_no_class_has_is_an_error() -> None:
    pipe = build("StableDiffusionPipeline")
    plan = plan_for(pipe, "order: text_encoder.text_model.final_layer_nrm -> unet -> vae")
    assert [d.code.name for d in check_pipeline(plan, pipe)] == ["unknown-entry-point"]


@pytest.mark.parametrize("name", ["image_encoder", "safety_checker", "vae", "text_encoder"])
def test_a_component_that_is_none_is_in_no_walk(name: str) -> None:
    pipe = build("StableDiffusionPipeline")
    pipe.register_modules(**{name: None})
    assert name not in walk_of(pipe)
    assert not describe(pipe).components[name].present
    assert refused(plan_for(pipe), pipe) == []


class Net(torch.nn.Module):
    """A component of somebody's own."""

    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(3))

    @property
    def device(self) -> torch.device:
        return next(self.blocks.parameters()).device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        return x


def copied(cls: str, *names: str, run: tuple[str, ...] = ()) -> Any:
    """A pipeline with the name of one of diffusers and these components, that runs them in this order."""

    def init(self: Any, **parts: Any) -> None:
        diffusers.DiffusionPipeline.__init__(self)
        self.register_modules(**parts)

    def call(self: Any) -> Any:
        x = torch.ones(1, 16).to(self._execution_device)
        for name in run or names:
            x = getattr(self, name)(x)
        return (x,)

    arguments = ", ".join(names)
    made: dict[str, Any] = {"init": init}
    exec(f"def __init__(self, {arguments}): init(self, {', '.join(f'{n}={n}' for n in names)})", made)
    own = {
        "__init__": made["__init__"],
        "__call__": torch.no_grad()(call),
        "model_cpu_offload_seq": "->".join(names),
    }
    return type(cls, (diffusers.DiffusionPipeline,), own)(**{name: Net() for name in names})


COPIES = {
    "FluxPipeline": ("text_encoder", "text_encoder_2", "transformer", "vae"),
    "StableDiffusionPipeline": ("text_encoder", "unet", "vae"),
    "StableDiffusionXLPipeline": ("text_encoder_2", "unet", "vae"),
    "KolorsPipeline": ("text_encoder", "unet", "vae"),
    "StableDiffusionXLControlNetPipeline": ("text_encoder", "text_encoder_2", "unet", "vae"),
    "WanImageToVideoPipeline": ("text_encoder", "transformer", "vae"),
    "HunyuanVideoPipeline": ("text_encoder", "transformer", "vae", "upscaler"),
    "StableDiffusion3Pipeline": ("transformer",),
}
"""Classes that copy one of diffusers, without some of its components, or with some of their own."""


@pytest.mark.parametrize("cls", COPIES)
def test_a_copy_that_lacks_components(cls: str) -> None:
    pipe = copied(cls, *COPIES[cls])
    known = catalogue.find(cls)
    assert known is not None
    assert set(describe(pipe).lacks) == set(known.components) - set(COPIES[cls])
    expected = pipe()[0]
    truth = snapshot(pipe)
    session, device = attached(plan_for(pipe), pipe)
    found = judged_call(session, device, pipe, truth)
    assert torch.equal(found, expected)
    session.remove()
    assert refused(planner.translate(pipe, improve=True), pipe) == []


def judged_call(session: Any, device: Any, pipe: Any, truth: Any) -> torch.Tensor:
    from planner.session.verdict import judge
    from planner.virtual.audit import audit

    with audit(pipe, device, before=truth) as seen:
        (made,) = pipe()
    assert not [d for d in judge(session, seen) if d.severity.value == "error"]
    return torch.as_tensor(made.cpu())


@pytest.mark.parametrize("cls", ["FluxPipeline", "StableDiffusionXLPipeline"])
def test_a_plan_that_names_what_a_copy_lacks(cls: str) -> None:
    """As one that is None: there is nothing to plan, and a note says so."""
    pipe = copied(cls, *COPIES[cls])
    lacks = "image_encoder"
    plan = plan_for(pipe, f"order: {lacks} -> {' -> '.join(COPIES[cls])}")
    session = planner.apply(plan, pipe, device="sim:0")
    assert "not-in-this-pipeline" in [d.code.name for d in session.notes]
    session.remove()
    plan = plan_for(pipe, "order: imge_encoder -> vae")
    assert refused(plan, pipe) == ["component-missing"]


def test_a_copy_with_nothing_of_the_class_has_no_walk() -> None:
    pipe = copied("FluxPipeline", "front", "back")
    assert describe(pipe).walk is None
    assert refused(plan_for(pipe), pipe) == ["unknown-walk"]
    assert refused(plan_for(pipe, "order: front -> back"), pipe) == []


def test_a_subclass_whose_vae_has_other_methods() -> None:
    class Vae(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.config = inner, inner.config

        @property
        def dtype(self) -> torch.dtype:
            return torch.float32

        def decode_all(self, x: torch.Tensor) -> Any:
            return self.inner.decode(x)

    class Renamed(diffusers.StableDiffusionXLPipeline):
        pass

    pipe = Renamed(**build("StableDiffusionXLPipeline").components)
    pipe.register_modules(vae=Vae(pipe.vae))
    assert "vae" not in walk_of(pipe)
    session = planner.apply(plan_for(pipe), pipe, device="sim:0")
    assert [d.code.name for d in session.notes] == ["on-demand"]
    session.remove()


def test_a_module_under_two_names_is_used_under_its_first() -> None:
    pipe = build("StableDiffusionXLPipeline")
    pipe.register_modules(text_encoder=pipe.text_encoder_2)
    info = describe(pipe).components["text_encoder_2"]
    assert (info.module, info.same_as) == (False, "text_encoder")
    assert walk_of(pipe) == "(text_encoder)? (unet)* (vae.decode)?"
    order = "order: text_encoder -> text_encoder_2 -> unet -> vae"
    session, _ = attached(plan_for(pipe, order), pipe)
    walk = [str(run) for node in session.schedule.course.walk for run in node.runs]
    assert walk == ["text_encoder", "text_encoder", "unet", "vae"]
    session.remove()
    found = refused(plan_for(pipe, "components: {text_encoder_2: resident}"), pipe)
    assert found == ["no-weights"]


def test_a_component_that_is_no_module() -> None:
    class Remote:
        """A text encoder that runs elsewhere."""

    pipe = build("StableDiffusionXLPipeline")
    pipe.register_modules(text_encoder=Remote())
    assert walk_of(pipe) == "(text_encoder_2)? (unet)* (vae.decode)?"
    assert refused(plan_for(pipe), pipe) == []


def test_a_class_that_diffusers_itself_cannot_list() -> None:
    class Fewer(diffusers.FluxPipeline):
        def __init__(
            self, scheduler: Any, vae: Any, text_encoder: Any, tokenizer: Any, transformer: Any
        ) -> None:
            super().__init__(scheduler, vae, text_encoder, tokenizer, None, None, transformer)

    parts = build("FluxPipeline").components
    pipe = Fewer(*(parts[n] for n in ("scheduler", "vae", "text_encoder", "tokenizer", "transformer")))
    plan = read("version: 1\npipeline: FluxPipeline\n")
    for act in (lambda: planner.apply(plan, pipe), lambda: planner.translate(pipe, improve=True)):
        with pytest.raises(PlanError) as caught:
            act()
        (problem,) = caught.value.diagnostics
        assert problem.code.name == "not-a-pipeline"
        assert '"image_encoder", "text_encoder_2"' in problem.message


def test_what_remains_of_a_walk() -> None:
    def use(text: str) -> WalkUse:
        component, _, entry = text.partition(".")
        return WalkUse(component=component, entry=entry)

    def stage(id: str, runs: str, *inside: WalkStage) -> WalkStage:
        return WalkStage(id=id, runs=tuple(map(use, runs.split())), stages=inside)

    walk = (
        stage("a", "one one.x"),
        stage("b", "", stage("c", "two"), stage("d", "one.y")),
        stage("e", "", stage("f", "two.z")),
    )
    assert runnable(walk, lambda u: u) == walk
    assert runnable(walk, lambda u: None) is None
    assert runnable(None, lambda u: u) is None
    assert (
        stages(runnable(walk, lambda u: u if u.component == "one" else None) or ()) == "(one one.x) ((one.y))"
    )
    assert stages(runnable(walk, lambda u: use("one")) or ()) == "(one) ((one) (one)) ((one))"


def test_what_cannot_be_called() -> None:
    class Odd:
        number = 3

        @property
        def broken(self) -> int:
            raise RuntimeError

        def method(self) -> None: ...

    assert callable_at(Odd(), "method")
    assert not any(
        callable_at(Odd(), entry) for entry in ("number", "broken", "nothing", "method.zzz.a", "number.a")
    )
    unet = build("StableDiffusionPipeline").unet
    assert not callable_at(unet, "sample_size"), "a value of its config"
    assert callable_at(unet, "conv_in")
