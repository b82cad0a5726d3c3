"""Graphs to schedules: who comes, who leaves, and what does not fit."""

from __future__ import annotations

import pytest
from models import MIB, plan, stage, target

from planner.graph.build import build_graph
from planner.passes.residency import residency
from planner.plan.model import Plan, Policy
from planner.schedule.lower import lower
from planner.schedule.model import Schedule
from planner.schedule.verify import verify
from planner.source.limits import LISTED
from planner.target.model import Target

SIZES = {"text_encoder": 10, "text_encoder_2": 40, "unet": 100, "vae": 20}
SDXL = "text_encoder -> text_encoder_2 -> unet -> vae"


def compiled(made: Plan, known: Target) -> Schedule:
    graph, _ = build_graph(made, known)
    assert graph is not None
    schedule, found = lower(graph)
    assert schedule is not None, found
    assert verify(schedule, graph) == ()
    return schedule


def refused(made: Plan, known: Target) -> list[tuple[str, str]]:
    graph, _ = build_graph(made, known)
    assert graph is not None
    schedule, found = lower(graph)
    assert schedule is None
    return [(d.code.name, d.message) for d in found if d.severity.value == "error"]


def moves(schedule: Schedule) -> str:
    signs = {"load": "+", "place": "*", "evict": "-", "use": "", "prefetch": ">"}
    return " ".join(signs[s.do] + s.component for s in schedule.steps)


def test_without_a_budget_each_use_holds_only_what_it_needs() -> None:
    assert moves(compiled(plan(SDXL), target(SIZES))) == (
        "+text_encoder text_encoder -text_encoder +text_encoder_2 text_encoder_2 -text_encoder_2 "
        "+unet unet -unet +vae vae -vae"
    )


def test_what_no_later_use_needs_leaves_and_what_one_needs_stays_while_there_is_room() -> None:
    order = "vae.encode -> text_encoder -> unet -> vae.decode"
    known = target({"text_encoder": 10, "unet": 100, "vae": 20})
    roomy = compiled(plan(order, vram=130), known)
    assert moves(roomy) == "+vae vae +text_encoder text_encoder -text_encoder +unet unet -unet vae -vae"
    tight = compiled(plan(order, vram=110), known)
    assert moves(tight) == (
        "+vae vae +text_encoder text_encoder -text_encoder -vae +unet unet -unet +vae vae -vae"
    )
    assert (roomy.peak, tight.peak) == (120 * MIB, 100 * MIB)
    assert (roomy.moved, tight.moved) == (130 * MIB, 150 * MIB)


def early(made: Plan, known: Target) -> list[tuple[str, int, int]]:
    """Who comes early, and MiB of it then and later."""
    steps = compiled(made, known).steps
    later = {s.component: s.bytes or 0 for s in steps if s.do == "load"}
    comes = [(s.component, s.bytes or 0, later.get(s.component, 0)) for s in steps if s.do == "prefetch"]
    return [(name, first // MIB, rest // MIB) for name, first, rest in comes]


def test_the_next_comes_while_one_runs_as_far_as_there_is_room() -> None:
    known = target(SIZES, in_blocks=[*SIZES])
    roomy = compiled(plan(SDXL, vram=200), known)
    assert moves(roomy) == (
        "+text_encoder >text_encoder_2 text_encoder -text_encoder >unet text_encoder_2 "
        "-text_encoder_2 >vae unet -unet vae -vae"
    )
    assert (roomy.peak, roomy.moved) == (140 * MIB, 170 * MIB)
    # 15 MiB of 100 are left to activations, and a part of the UNet comes beside the encoder.
    assert early(plan(SDXL, vram=100), known) == [("text_encoder_2", 40, 0), ("unet", 45, 55)]
    assert compiled(plan(SDXL, vram=100), known).peak == 100 * MIB


def test_encoders_that_may_both_be_left_out_come_one_after_the_other() -> None:
    stages = [stage("prompt", "text_encoder text_encoder_2", optional=True), stage("denoise", "unet")]
    made, known = plan(stages, vram=200), target(SIZES, in_blocks=[*SIZES])
    assert early(made, known) == [("text_encoder_2", 40, 0), ("unet", 100, 0)]


@pytest.mark.parametrize(
    ("made", "known"),
    [
        (plan(SDXL), target(SIZES, in_blocks=[*SIZES])),
        (plan(SDXL, vram=200, semantics="diffusers"), target(SIZES, in_blocks=[*SIZES])),
        (plan(SDXL, vram=200), target(SIZES)),
        (plan(SDXL, vram=100), target(SIZES, in_blocks=["vae"])),
        (
            plan([stage("a", "text_encoder"), stage("b", "vae", optional=True)], vram=200),
            target({"text_encoder": 10, "vae": 20}, in_blocks=["vae"]),
        ),
    ],
    ids=["no budget", "diffusers", "blocks not known", "no room", "it may not run"],
)
def test_nobody_comes_early(made: Plan, known: Target) -> None:
    assert early(made, known) == []


def test_whoever_streams_has_the_link_for_itself() -> None:
    known = target(SIZES, in_blocks=[*SIZES])
    graph, _ = build_graph(plan(SDXL, vram=80, policies={"unet": Policy.STREAM}), known)
    assert graph is not None
    graph, _ = residency(graph)
    schedule, _ = lower(graph)
    assert schedule is not None
    assert [s.component for s in schedule.steps if s.do == "prefetch"] == ["text_encoder_2", "unet"]


def test_diffusers_evicts_only_the_predecessor() -> None:
    known = target(
        SIZES | {"controlnet": 30}, walk=["text_encoder", "text_encoder_2", "controlnet+unet*", "vae.decode"]
    )
    schedule = compiled(plan(SDXL, semantics="diffusers"), known)
    assert moves(schedule) == (
        "+text_encoder text_encoder -text_encoder +text_encoder_2 text_encoder_2 "
        "+controlnet controlnet -text_encoder_2 +unet unet -unet +vae vae -controlnet -vae"
    ) or moves(schedule).endswith("-unet +vae vae -vae -controlnet")
    assert schedule.peak == 130 * MIB


def test_resident_and_excluded_are_placed_once_and_stay() -> None:
    made = plan(SDXL, policies={"vae": Policy.RESIDENT}, exclude=["text_encoder"])
    known = target(SIZES)
    text = moves(compiled(made, known))
    assert text.startswith("*text_encoder *vae ")
    assert "-vae" not in text
    assert "-text_encoder " not in text


def test_a_looped_stage_holds_all_its_components() -> None:
    known = target({"controlnet": 30, "unet": 100, "vae": 20})
    stages = [stage("denoise", "controlnet unet", loop="steps"), stage("decode", "vae.decode")]
    assert compiled(plan(stages, vram=130), known).peak == 130 * MIB
    ((code, message),) = refused(plan(stages, vram=129), known)
    assert code == "stage-too-large"
    assert "1.00 MiB more" in message


def test_a_component_larger_than_the_budget() -> None:
    ((code, message),) = refused(plan(SDXL, vram=90), target(SIZES))
    assert code == "component-too-large"
    assert "100.00 MiB" in message


def test_every_stage_that_does_not_fit_is_named() -> None:
    stages = [stage("a", "text_encoder unet", loop="2"), stage("b", "text_encoder_2 unet", loop="2")]
    assert [code for code, _ in refused(plan(stages, vram=105), target(SIZES))] == ["stage-too-large"] * 2


def test_two_stages_that_nothing_orders_must_fit_together() -> None:
    stages = [stage("a", "text_encoder_2"), stage("b", "unet", after=[]), stage("c", "vae", after=["a", "b"])]
    known = target({"text_encoder_2": 40, "unet": 100, "vae": 20})
    compiled(plan(stages, vram=140), known)
    ((code, message),) = refused(plan(stages, vram=139), known)
    assert code == "unordered-too-large"
    assert '"a" and "b"' in message


def test_many_stages_that_nothing_orders_are_a_few_findings() -> None:
    known = target({"text_encoder_2": 40, "unet": 100})
    many = [stage(f"s{n}", "unet" if n % 2 else "text_encoder_2", after=[]) for n in range(100)]
    found = refused(plan(many, vram=120), known)
    assert {code for code, _ in found} == {"unordered-too-large"}
    assert len(found) == LISTED.most + 1
    assert '"s0" and "s3", and 1 more such' in found[2][1]
    assert "79 more stages" in found[-1][1]


def test_components_on_demand_count_in_every_stage() -> None:
    known = target(SIZES | {"safety_checker": 15})
    compiled(plan(SDXL, vram=115), known)
    assert {code for code, _ in refused(plan(SDXL, vram=114), known)} == {"stage-too-large"}


def test_diffusers_moves_that_pass_the_budget() -> None:
    known = target(
        {"a": 60, "b": 60, "c": 60}, walk=["a", "c*", "b"]
    )  # c evicts b, which is not there yet, so a stays
    ((code, _),) = refused(plan("a -> b -> c", vram=100, semantics="diffusers"), known)
    assert code == "diffusers-too-large"


def test_a_stream_whose_blocks_are_not_known_is_not_checked() -> None:
    schedule = compiled(plan(SDXL, policies={"unet": Policy.STREAM}), target(SIZES))
    assert schedule.peak is None


def test_sizes_that_are_not_known_are_said_and_nothing_is_promised() -> None:
    graph, _ = build_graph(plan(SDXL, vram=50), target(SIZES | {"unet": None}))
    assert graph is not None
    schedule, found = lower(graph)
    assert schedule is not None
    assert [d.code.name for d in found] == ["fit-not-checked"]
    assert schedule.peak is None
    assert schedule.moved is None


@pytest.mark.parametrize("vram", [120, 1000])
def test_keep_leaves_on_the_device_what_fits(vram: int) -> None:
    schedule = compiled(plan(SDXL, vram=vram, idle="keep"), target(SIZES))
    ends = moves(schedule).split(" vae")[-1]
    assert ends == ""
    if vram == 1000:
        assert "-" not in moves(schedule)


def test_an_optional_use_may_leave_its_evictions_undone() -> None:
    """The peak is that of the worst way through: without b, a is not evicted before c under diffusers."""
    known = target({"a": 60, "b": 10, "c": 60}, walk=["a", "b?", "c*"])
    schedule = compiled(plan("a -> b -> c", semantics="diffusers"), known)
    assert schedule.peak == 120 * MIB


def test_a_repeated_group_is_passed_twice() -> None:
    chunk = stage("chunk", [stage("denoise", "unet", loop="steps"), stage("decode", "vae.decode")], loop="3")
    schedule = compiled(
        plan([stage("p", "text_encoder"), chunk], vram=110),
        target({"text_encoder": 10, "unet": 100, "vae": 20}),
    )
    assert moves(schedule) == (
        "+text_encoder text_encoder -text_encoder +unet unet -unet +vae vae -vae "
        "+unet unet -unet +vae vae -vae"
    )
