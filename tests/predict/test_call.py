"""A forecast is of what a session does: the same uses in the same stages, bytes moved and bytes held."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pipelines import wide  # noqa: F401  # adds to WIDE
from pipelines.all import CASES, arguments, build
from pipelines.plans import attached, plan_for
from pipelines.registry import WIDE

from planner.api import compile
from planner.cards.kernels import HOPPER
from planner.cards.shipped import card_at
from planner.predict.call import forecast
from planner.predict.forecast import Forecast
from planner.tracing.trace import trace

DEFAULT = {"FluxPipeline": "stream", "StableDiffusionXLPipeline": "offload", "WanPipeline": "resident"}
"""With which policy; all with each are ``wide``."""
NOT_TRACED = ("StableDiffusionSAGPipeline", "AnyFlowFARPipeline")
"""As ``tests/tracing/test_uses.py`` says."""
EACH = [
    pytest.param(name, policy, marks=() if DEFAULT.get(name) == policy else pytest.mark.wide)
    for name in [*CASES, *WIDE]
    for policy in ("offload", "stream", "resident")
    if name not in NOT_TRACED
]


def foreseen(pipe: Any, plan: Any, name: str) -> Forecast:
    compiled = compile(plan, pipe)
    return forecast(compiled.graph, compiled.schedule, trace(pipe, arguments(name), HOPPER), card_at("h200"))


@pytest.mark.parametrize(("name", "policy"), EACH)
def test_what_a_session_moves_and_holds(name: str, policy: str) -> None:
    pipe = build(name)
    parts = [n for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)]
    said = f"{{policy: {policy}{', prefetch: 1' if policy == 'stream' else ''}}}"
    plan = plan_for(pipe, f"components: {{{', '.join(f'{n}: {said}' for n in parts)}}}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        found = foreseen(pipe, plan, name)
    session, _ = attached(plan, pipe)
    for _ in range(2):  # the second knows in which order blocks run
        torch.manual_seed(7)
        with torch.no_grad():
            pipe(**arguments(name))
    record = session.applied.last
    assert record is not None
    uses = [(e.stage, e.component, e.entry or "forward") for e in record.events if e.do == "use"]
    counted = {key: uses.count(key) for key in dict.fromkeys(uses)}
    session.remove()
    assert {(u.stage, u.component, u.entry): u.times for u in found.uses} == counted
    if policy == "stream":
        # Where a forward enters a block twice (a norm, and a dropout that computes nothing), some come again.
        crossing = sum(p.split.crossing for p in session.schedule.placements.values() if p.split)
        assert crossing <= found.moved <= record.moved
    else:
        assert found.moved == record.moved
    assert max(s.weights for s in found.samples) == record.peak
