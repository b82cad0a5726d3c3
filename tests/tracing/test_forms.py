"""Layers whose weights are stored in another form: what they allocate while they run, as it really is."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import planner
from planner.cards.kernels import HOPPER
from planner.forms.cast import Cast
from planner.predict.profile import UseProfile
from planner.tracing.forms import FORMS, Form, run
from planner.tracing.mode import Tracer
from planner.tracing.modules import copied
from planner.tracing.patches import as_on_gpu

ROWS, WIDE, NARROW = 64, 1024, 256
TOLERANCE = 0.02
"""Scales, and what torch's allocator rounds: the copies of the weights are ten times as large."""


class Peak(TorchDispatchMode):
    """The most bytes of storages that were made inside and lived at once, on the CPU."""

    def __init__(self, there: list[torch.Tensor]) -> None:
        super().__init__()
        self.live = self.most = 0
        self._seen: dict[int, Any] = {t.untyped_storage()._cdata: t for t in there}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in torch.utils._pytree.tree_leaves(out):
            if type(one) is torch.Tensor and (key := one.untyped_storage()._cdata) not in self._seen:
                size = one.untyped_storage().nbytes()
                self.live += size
                gone = partial(self._gone, key, size)
                self._seen[key] = weakref.ref(one.untyped_storage(), gone)
                self.most = max(self.most, self.live)
        return out

    def _gone(self, key: int, size: int, _: Any) -> None:
        self.live -= size
        self._seen.pop(key, None)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(NARROW, WIDE)
        self.down = nn.Linear(WIDE, NARROW, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.nn.functional.gelu(self.up(x)))


def predicted(form: Form | None, rows: int = ROWS) -> UseProfile:
    tracer = Tracer(HOPPER)
    module = copied(Layers().to(torch.bfloat16), tracer)
    given = tracer.given(torch.zeros(rows, NARROW, dtype=torch.bfloat16, device="meta"))
    before = nn.Module.__call__

    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        if form is not None and isinstance(self, nn.Linear):
            return run(form, tracer, before, self, args, kwargs)
        return before(self, *args, **kwargs)

    with as_on_gpu(tracer):
        tracer.ledger.begin()
        nn.Module.__call__ = called  # type: ignore[method-assign]
        try:
            out = module(given)
        finally:
            nn.Module.__call__ = before  # type: ignore[method-assign]
        tracer.ledger.end()
        del out
    ledger = tracer.ledger
    return UseProfile(
        component="x", events=tuple(ledger.events), operations=ledger.operations, sections=ledger.sections
    )


def inner(module: nn.Module) -> list[torch.Tensor]:
    """The plain tensors that its weights are made of."""
    found: list[Any] = [*module.parameters()]
    plain = []
    while found:
        one = found.pop()
        if hasattr(one, "__tensor_flatten__"):
            found += [getattr(one, name) for name in one.__tensor_flatten__()[0]]
        else:
            plain.append(one)
    return plain


def measured(change: Callable[[nn.Module], None]) -> int:
    module = Layers().to(torch.bfloat16).requires_grad_(False)
    change(module)
    given = torch.zeros(ROWS, NARROW, dtype=torch.bfloat16)
    with torch.no_grad():
        module(given)
        with Peak([given, *inner(module)]) as peak:
            module(given)
    return peak.most


def cast(module: nn.Module) -> None:
    for layer in module.children():
        for key, parameter in [*layer._parameters.items()]:
            if parameter is not None:
                stored = Cast(parameter.to(torch.float8_e4m3fn), parameter.dtype)
                layer._parameters[key] = nn.Parameter(stored, requires_grad=False)


def int8(module: nn.Module) -> None:
    ao = pytest.importorskip("torchao.quantization")
    ao.quantize_(module, ao.Int8WeightOnlyConfig(set_inductor_config=False))


@pytest.mark.parametrize(
    ("rule", "change"),
    [(("layerwise_cast", "float8_e4m3fn"), cast), (("torchao", "int8_weight_only"), int8)],
)
def test_as_it_really_runs(rule: tuple[str, str], change: Callable[[nn.Module], None]) -> None:
    real = measured(change)
    assert real > 2 * WIDE * NARROW
    assert predicted(FORMS[rule]).peak() == pytest.approx(real, rel=TOLERANCE)


def test_plain_weights_make_none() -> None:
    assert predicted(None).peak() == pytest.approx(measured(lambda module: None), rel=TOLERANCE)


def test_four_bits_make_a_weight_but_for_few_rows() -> None:
    form = FORMS["bitsandbytes", "nf4"]
    more = predicted(form).peak() - predicted(None).peak()
    assert 0 < more <= 2 * WIDE * NARROW
    assert predicted(form, rows=1).events == predicted(None, rows=1).events


def test_casting_takes_time() -> None:
    def moved(form: Form | None) -> int:
        use = predicted(form)
        return sum(use.operations[at].bytes * times for s in use.sections for at, times in s.work)

    more = moved(FORMS["layerwise_cast", "float8_e5m2"]) - moved(None)
    assert more == pytest.approx(2 * 3 * WIDE * NARROW, rel=TOLERANCE)


RULE = "quantization=[{component: unet, backend: layerwise_cast, storage_dtype: float8_e4m3fn%s}]"


def test_a_plans_rules_are_traced(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(
        "version: 1\n"
        "pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl', dtype: float16}\n"
        "run: {prompt: a cat, height: 64, width: 64}\n"
    )

    def events(*rules: str) -> tuple[int, ...]:
        call = planner.profile(planner.load(str(path), overrides=rules))
        assert all(any("unet" in note for note in call.notes) for _ in rules)
        return next(use.events for use in call.uses if use.component == "unet")

    plain, all_of_it, some = events(), events(RULE % ""), events(RULE % ", match: to_q")
    assert len(plain) < len(some) < len(all_of_it)
