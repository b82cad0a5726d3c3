"""What follows what, against networkx; and walks of as many stages as a plan may have."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.graph.reach import Reach
from planner.source.limits import LISTED, STAGES


@settings(max_examples=200)
@given(st.integers(0, 9), st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30))
def test_it_is_what_networkx_says(count: int, pairs: set[tuple[int, int]]) -> None:
    ids = [f"s{i}" for i in range(count)]
    edges = [(f"s{a}", f"s{b}") for a, b in pairs if a < b < count]
    dag = nx.DiGraph(edges)
    dag.add_nodes_from(ids)
    reach = Reach(ids, edges)
    assert sorted(reach.reduced()) == sorted(nx.transitive_reduction(dag).edges)
    after = {name: nx.descendants(dag, name) for name in ids}
    apart = [(a, b) for i, a in enumerate(ids) for b in ids[i + 1 :] if b not in after[a]]
    assert list(reach.unordered()) == apart


def stages(count: int, more: str) -> str:
    return "stages:\n" + "".join(f"  - {{id: s{i}, runs: [unet]{more}}}\n" for i in range(count))


SHAPES = {
    "one after another": lambda n: stages(n, ""),
    "none after another": lambda n: stages(n, ", after: []"),
    "each may be left out": lambda n: stages(n, ", optional: true"),
    "a ring of all": lambda n: stages(n, "").replace(
        "s0, runs: [unet]", f"s0, runs: [unet], after: [s{n - 1}]"
    ),
    "an order": lambda n: "order: " + " -> ".join(["unet", "vae"] * (n // 2)) + "\n",
    "in groups": lambda n: (
        "stages:\n"
        + "".join(
            f"  - {{id: g{g}, loop: 2, stages: ["
            + ", ".join(f"{{id: s{i}, runs: [unet], after: []}}" for i in range(n // 2 - 1))
            + "]}\n"
            for g in range(2)
        )
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("budget", ["", "budget: {vram: 40MiB}\n"])
def test_the_largest_walk_of_each_shape(tmp_path: Path, shape: str, budget: str) -> None:
    path = tmp_path / "x.plan.yaml"
    head = (
        f"version: 1\npipeline: {{class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}}\n{budget}"
    )
    path.write_text(head + SHAPES[shape](STAGES.most))
    result = planner.validate(path)
    assert "too-many-stages" not in [d.code.name for d in result.errors]
    assert [d.code.name for d in result.errors] == (["ring"] if "ring" in shape else [])
    assert sum(d.code.name == "unordered-stages" for d in result.notes) <= LISTED.most + 1


def test_one_stage_more(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    head = "version: 1\npipeline: StableDiffusionXLPipeline\n"
    inside = ", ".join(f"{{id: s{i}, runs: [unet]}}" for i in range(STAGES.most))
    for said in (
        f"stages: [{{id: g, stages: [{inside}]}}]\n",
        "order: " + " -> ".join(["unet"] * (STAGES.most + 1)),
    ):
        path.write_text(head + said)
        assert [d.code.name for d in planner.validate(path).errors] == ["too-many-stages"]
