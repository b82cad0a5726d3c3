"""The formats that a component may have, and their bytes: what a planner that may quantize chooses from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.plan.model import QuantizationRule
from planner.quantization.backends import BACKENDS, Backend
from planner.quantization.matrix import Verdict, needs_of, row_of, verdict_of
from planner.quantization.probe import lacking
from planner.quantization.sizes import effects, resized
from planner.source.text import Span
from planner.target.model import ComponentInfo, device_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A format for all of a component that its backend can take.

    ``rule``: as a plan would write it; ``modules`` that it changes; ``before`` and ``after``: bytes of the
    component on the device; ``verdict``: ``shown`` when a test runs every cell that was asked for.
    """

    rule: QuantizationRule
    modules: int
    before: int
    after: int
    verdict: Verdict

    @property
    def saved(self) -> int:
        """Bytes that it takes off the device."""
        return self.before - self.after


def choices(
    info: ComponentInfo,
    *,
    policy: str,
    device_type: str,
    loras: bool = False,
    compiled: bool = False,
    versions: Mapping[str, str] | None = None,
) -> tuple[Choice, ...]:
    """The legal formats of one component that make it smaller, the smallest first.

    ``policy``: ``resident``, ``offload`` or ``stream``; ``device_type``: ``cuda``, ``xpu``, ``mps`` or
    ``sim``; ``loras``, ``compiled``: it has adapters, it is compiled; ``versions``: of what is installed, in
    which case a format whose packages are not there is none. Nothing for a component whose modules are not
    known. Options have their usual values.
    """
    if info.weights is None:
        return ()
    columns = (policy, device_type, *(["lora"] if loras else []), *(["compile"] if compiled else []))
    before = device_bytes(size for _, size in info.weights)
    found = []
    for backend in BACKENDS.values():
        for kind in backend.types if backend.when != "never" else ():
            row = row_of(backend.name, kind)
            verdict = verdict_of(row, *columns)
            if verdict == "no" or (versions is not None and lacking(needs_of(row, *columns), versions)):
                continue
            rule = _rule(info.name, backend, kind)
            after = resized(info, [rule]).bytes
            if after is not None and after < before:
                modules = sum(len(effect.made) for effect in effects([rule], info) or ())
                found.append(Choice(rule=rule, modules=modules, before=before, after=after, verdict=verdict))
    return tuple(sorted(found, key=lambda choice: choice.after))


def _rule(component: str, backend: Backend, kind: str) -> QuantizationRule:
    return QuantizationRule(
        component=component,
        backend=backend.name,
        options={backend.type_key: kind},
        spans={},
        span=Span(file="", line=1, column=1, width=1),
    )
