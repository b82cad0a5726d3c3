"""Plans to graphs: order, rings, nesting, absent components, notes."""

from __future__ import annotations

import networkx as nx
import pytest
from models import plan, stage, target

from planner.graph.build import build_graph
from planner.graph.model import Graph
from planner.plan.model import Plan, Policy
from planner.target.model import Target

SIZES = {"text_encoder": 10, "unet": 100, "vae": 20}


def graph_of(made: Plan, known: Target) -> tuple[Graph, list[str]]:
    graph, found = build_graph(made, known)
    assert graph is not None, found
    return graph, [d.code.name for d in found]


def names(graph: Graph) -> list[str]:
    return [f"{node.id}: {' '.join(map(str, node.runs))}" for node in graph.walk]


def test_stages_follow_each_other() -> None:
    graph, found = graph_of(
        plan([stage("a", "text_encoder"), stage("b", "unet"), stage("c", "vae")]), target(SIZES)
    )
    assert names(graph) == ["a: text_encoder", "b: unet", "c: vae"]
    assert graph.edges == (("a", "b"), ("b", "c"))
    assert nx.is_directed_acyclic_graph(graph.dag())
    assert found == []


def test_after_takes_a_stage_out_of_line() -> None:
    stages = [
        stage("a", "text_encoder"),
        stage("b", "vae.encode", after=[]),
        stage("c", "unet", after=["a", "b"]),
    ]
    graph, found = graph_of(plan(stages), target(SIZES))
    assert graph.unordered == (("a", "b"),)
    assert [n.id for n in graph.walk] == ["a", "b", "c"]
    assert found == ["unordered-stages"]


def test_the_walk_is_the_files_order_among_the_allowed() -> None:
    stages = [
        stage("late", "vae.decode", after=["mid"]),
        stage("mid", "unet", after=["early"]),
        stage("early", "text_encoder", after=[]),
    ]
    graph, _ = graph_of(plan(stages), target(SIZES))
    assert [n.id for n in graph.walk] == ["early", "mid", "late"]


def test_every_ring_is_printed_from_its_first_stage() -> None:
    stages = [
        stage("a", "text_encoder", after=["c"], line=7),
        stage("b", "unet", after=["a"]),
        stage("c", "vae", after=["b"]),
        stage("x", "vae", after=["y"]),
        stage("y", "vae", after=["x"]),
    ]
    graph, found = build_graph(plan(stages), target(SIZES))
    assert graph is None
    said = [d.message for d in found]
    assert said == [
        "stages wait for each other in a ring: a -> b -> c -> a",
        "stages wait for each other in a ring: x -> y -> x",
    ]
    assert found[0].span is not None
    assert found[0].span.line == 7


def test_nested_stages_are_flattened_and_repeat() -> None:
    chunk = stage("chunk", [stage("denoise", "unet", loop="steps"), stage("decode", "vae.decode")], loop="4")
    graph, _ = graph_of(plan([stage("a", "text_encoder"), chunk]), target(SIZES))
    assert [n.id for n in graph.walk] == ["a", "chunk/denoise", "chunk/decode"]
    (repeat,) = graph.repeats
    assert (repeat.id, repeat.first, repeat.last, repeat.loop.count) == ("chunk", 1, 2, 4)


def test_a_ring_inside_a_nested_stage() -> None:
    chunk = stage("chunk", [stage("p", "unet", after=["q"]), stage("q", "vae", after=["p"])])
    graph, found = build_graph(plan([chunk]), target(SIZES))
    assert graph is None
    assert [d.code.name for d in found] == ["ring"]


def test_components_that_are_none_leave_the_walk() -> None:
    known = target(SIZES | {"image_encoder": 5}, none=["image_encoder"])
    stages = [
        stage("a", "text_encoder"),
        stage("i", "image_encoder"),
        stage("b", "unet", after=["i"]),
        stage("c", "vae"),
    ]
    graph, _ = graph_of(plan(stages), known)
    assert [n.id for n in graph.walk] == ["a", "b", "c"]
    assert "image_encoder" not in graph.placements


def test_without_stages_the_walk_is_the_classes_own() -> None:
    graph, _ = graph_of(plan(), target(SIZES, walk=["text_encoder", "unet*", "vae.decode"]))
    assert names(graph) == ["text_encoder: text_encoder", "unet: unet", "vae.decode: vae.decode"]
    assert [n.loop is not None for n in graph.walk] == [False, True, False]


def test_two_denoisers_in_one_loop_take_turns() -> None:
    known = target(
        {"transformer": 50, "transformer_2": 50, "vae": 5}, walk=["transformer+transformer_2*", "vae.decode"]
    )
    graph, _ = graph_of(plan(), known)
    assert [n.components for n in graph.walk] == [("transformer",), ("transformer_2",), ("vae",)]


def test_an_unknown_walk_is_an_error_that_writes_one() -> None:
    graph, found = build_graph(plan(), target(SIZES))
    assert graph is None
    (problem,) = found
    assert problem.code.name == "unknown-walk"
    assert "text_encoder -> unet -> vae" in problem.hint


def test_the_denoiser_of_an_order_loops() -> None:
    graph, _ = graph_of(plan("text_encoder -> unet -> vae"), target(SIZES))
    assert [n.loop is not None for n in graph.walk] == [False, True, False]


@pytest.mark.parametrize(
    ("order", "warned"),
    [
        ("text_encoder -> unet -> vae", False),
        ("text_encoder -> unet -> vae.decode", False),
        ("unet -> text_encoder -> vae", True),
        ("text_encoder -> vae.decode -> unet", True),
        ("vae.encode -> text_encoder -> unet -> vae.decode", False),  # an entry the walk does not have
    ],
)
def test_an_order_against_the_class(order: str, warned: bool) -> None:
    known = target(SIZES, walk=["text_encoder", "unet*", "vae.decode"])
    _, found = graph_of(plan(order), known)
    assert ("contradicts-class" in found) is warned


@pytest.mark.parametrize(
    ("stages", "warned"),
    [
        ([["text_encoder"], ["unet"], ["vae"]], False),
        ([["unet"], ["text_encoder"], ["vae"]], True),
        ([["text_encoder"], ["vae.decode"], ["unet"]], True),
        ([["vae", "text_encoder"], ["unet"]], False),  # in one stage
        ([["vae"], ["text_encoder"], ["unet"], ["vae"]], False),  # which of its uses is not said
        ([["vae.encode"], ["text_encoder"], ["unet"], ["vae.decode"]], False),
    ],
)
def test_stages_against_the_class(stages: list[list[str]], warned: bool) -> None:
    known = target(SIZES, walk=["text_encoder", "unet*", "vae.decode"])
    _, found = graph_of(plan([stage(f"s{n}", " ".join(runs)) for n, runs in enumerate(stages)]), known)
    assert ("contradicts-class" in found) is warned


def test_stages_that_say_what_they_follow_are_compared_in_the_order_of_the_walk() -> None:
    known = target(SIZES, walk=["text_encoder", "unet*", "vae.decode"])
    said = [
        stage("denoise", "unet", after=("prompt",)),
        stage("prompt", "text_encoder", after=()),
        stage("decode", "vae", after=("denoise",)),
    ]
    _, found = graph_of(plan(said), known)
    assert "contradicts-class" not in found


def test_excluded_and_on_demand() -> None:
    known = target(SIZES | {"image_encoder": 5, "safety_checker": 5})
    graph, found = graph_of(plan("text_encoder -> unet -> vae", exclude=["image_encoder"]), known)
    assert graph.on_demand == ("safety_checker",)
    assert graph.placements["image_encoder"].policy is Policy.RESIDENT
    assert graph.placements["image_encoder"].excluded
    assert found == ["on-demand"]


def test_the_same_plan_gives_an_equal_graph() -> None:
    known = target(SIZES, walk=["text_encoder", "unet*", "vae.decode"])
    made = plan()
    assert build_graph(made, known) == build_graph(made, known)
