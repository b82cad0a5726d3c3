"""A document of the right shape to a Plan: short forms opened, units read, contradictions found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from planner.diagnostics.diagnostic import Code, Diagnostic, errors, finding
from planner.diagnostics.table import p3_plan as codes
from planner.document.document import Document
from planner.document.node import escaped
from planner.plan.consistent import inconsistencies
from planner.plan.model import (
    Amount,
    Budget,
    Component,
    Idle,
    Lora,
    Name,
    PipelineRef,
    Plan,
    Policy,
    QuantizationRule,
    Semantics,
    Stage,
)
from planner.plan.stages import read_order, read_stages
from planner.plan.units import amount
from planner.source.text import Span
from planner.target.vae_options import VAE_OPTIONS

_AFTER_LOAD = ("layerwise_cast",)
"""Backends that work on a loaded model; the others quantize while the weights are read."""
_RULE_KEYS = ("component", "backend", "match", "classes", "skip", "required")


def build_plan(document: Document) -> tuple[Plan | None, list[Diagnostic]]:
    """The plan that ``document`` says. The schema must have passed it."""
    build = _Build(document)
    plan = build.plan()
    build.found += _contradictions(plan)
    build.found += inconsistencies(plan)
    build.found += _later(plan)
    return (None if errors(build.found) else plan), build.found


class _Build:
    """Reads a document's values one by one, and keeps what was wrong."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.values = document.values
        self.found: list[Diagnostic] = []

    def plan(self) -> Plan:
        """Every field in the order of the model."""
        values = self.values
        stages: tuple[Stage, ...] | None = None
        problems: list[Diagnostic] = []
        if "order" in values:
            stages, problems = read_order(values["order"], self.document)
        elif "stages" in values:
            stages, problems = read_stages(values["stages"], self.document)
        self.found += problems
        return Plan(
            name=values.get("name") or _stem(self.document.sources[0].name),
            pipeline=self.pipeline(),
            device=values.get("device", "auto"),
            budget=Budget(
                **{
                    key: self.amount(f"/budget/{key}", values["budget"][key])
                    for key in ("vram", "ram", "pinned", "leave_free")
                    if key in values.get("budget", {})
                }
            ),
            components=_frozen(
                {name: self.component(name, said) for name, said in values.get("components", {}).items()}
            ),
            stages=stages,
            from_order="order" in values,
            exclude=tuple(
                Name(name=name, span=self.at(f"/exclude/{i}"))
                for i, name in enumerate(values.get("exclude", ()))
            ),
            quantization=tuple(self.rule(i, rule) for i, rule in enumerate(values.get("quantization", ()))),
            loras=tuple(
                Lora(
                    **{**lora, "lora_scale": float(lora.get("lora_scale", 1.0))}, span=self.at(f"/loras/{i}")
                )
                for i, lora in enumerate(values.get("loras", ()))
            ),
            semantics=Semantics(values.get("semantics", "liveness")),
            idle=Idle(values.get("idle", "release")),
            run=_frozen(values.get("run", {})),
            workload=_frozen(values.get("workload", {})),
            requires=_frozen(values.get("requires", {})),
            span=self.at(""),
            document=self.document,
        )

    def pipeline(self) -> PipelineRef:
        said = self.values["pipeline"]
        fields = {"class": said} if isinstance(said, str) else said
        spans = {key: self.document.spans.get(f"/pipeline/{key}", self.at("/pipeline")) for key in fields}
        return PipelineRef(
            cls=fields["class"],
            source=fields.get("source"),
            dtype=fields.get("dtype"),
            variant=fields.get("variant"),
            revision=fields.get("revision"),
            span=spans["class"],
            spans=_frozen(spans),
        )

    def component(self, name: str, said: Any) -> Component:
        pointer = f"/components/{escaped(name)}"
        fields: dict[str, Any] = {"policy": said} if isinstance(said, str) else said
        key_span = self.document.key_spans.get(pointer, self.at(pointer))
        return Component(
            name=name,
            policy=Policy(fields["policy"]) if "policy" in fields else None,
            resident=self.amount(f"{pointer}/resident", fields["resident"]) if "resident" in fields else None,
            prefetch=int(fields["prefetch"]) if "prefetch" in fields else None,
            source=fields.get("source"),
            **{name: fields[name] in (True, "on") for name in VAE_OPTIONS if fields.get(name) is not None},
            options=_frozen({}),
            spans=_frozen({key: self.document.spans.get(f"{pointer}/{key}", key_span) for key in fields}),
            span=key_span,
        )

    def rule(self, number: int, said: Mapping[str, Any]) -> QuantizationRule:
        pointer = f"/quantization/{number}"
        return QuantizationRule(
            component=said["component"],
            backend=said["backend"],
            match=said.get("match"),
            classes=tuple(said.get("classes", ())),
            skip=tuple(said.get("skip", ())),
            required=said.get("required", True),
            options=_frozen({key: value for key, value in said.items() if key not in _RULE_KEYS}),
            spans=_frozen({key: self.at(f"{pointer}/{escaped(key)}") for key in said}),
            span=self.at(pointer),
        )

    def amount(self, pointer: str, text: str) -> Amount | None:
        made = amount(text, self.at(pointer))
        if made is None:
            largest = "100%" if text.endswith("%") else "1024 PiB"
            shown = text if len(text) <= 40 else text[:37] + "..."
            self.say(codes.BAD_SIZE, f'"{shown}" is out of range: more than 0, at most {largest}', pointer)
        return made

    def at(self, pointer: str) -> Span:
        return self.document.spans[pointer]

    def say(self, code: Code, message: str, pointer: str) -> None:
        self.found.append(finding(code, message, span=self.at(pointer), pointer=pointer))


def _contradictions(plan: Plan) -> Iterator[Diagnostic]:
    """What two parts of a plan say against each other."""
    excluded = {}
    for i, name in enumerate(plan.exclude):
        if name.name in excluded:
            said = f'"{name.name}" is excluded twice'
            yield finding(codes.STATED_TWICE, said, span=name.span, pointer=f"/exclude/{i}")
        excluded[name.name] = name
    pending = list(plan.stages or ())
    for stage in pending:
        pending += stage.stages
        for use in stage.runs:
            if use.component in excluded:
                said = (
                    f'"{use.component}" runs here and is excluded in line {excluded[use.component].span.line}'
                )
                yield finding(codes.ORDERED_AND_EXCLUDED, said, span=use.span)
    for component in plan.components.values():
        streams = component.policy is Policy.STREAM
        for key in ("resident", "prefetch"):
            if getattr(component, key) is not None and not streams:
                said = f'"{key}" says how "{component.name}" streams, and its policy does not stream'
                hint = "add policy: stream" if component.policy is None else ""
                yield finding(codes.STREAM_ONLY, said, span=component.spans[key], hint=hint)
        if component.name in excluded and component.policy not in (None, Policy.RESIDENT):
            said = f'"{component.name}" is excluded and has policy "{component.policy.value}"'
            yield finding(codes.EXCLUDED_WITH_POLICY, said, span=component.spans["policy"])
    loading: dict[str, str] = {}
    for rule in plan.quantization:
        first = loading.setdefault(rule.component, rule.backend) if rule.backend not in _AFTER_LOAD else ""
        if first and first != rule.backend:
            said = f'"{rule.component}" is quantized by {first} above: one backend while it is loaded'
            yield finding(codes.TWO_BACKENDS, said, span=rule.spans["backend"])
        source = plan.components[rule.component].source if rule.component in plan.components else None
        from_file = source is not None and source.endswith(".gguf")
        if rule.backend == "gguf" and not from_file:
            said = f'gguf is read from a file that is quantized already, and "{rule.component}" has none'
            hint = f"components: {{{rule.component}: {{source: FILE.gguf}}}}"
            yield finding(codes.NO_GGUF_FILE, said, span=rule.spans["backend"], hint=hint)
        elif from_file and rule.backend not in ("gguf", *_AFTER_LOAD):
            said = f'"{rule.component}" is quantized by its source, a .gguf file'
            yield finding(codes.TWO_BACKENDS, said, span=rule.spans["backend"])
    if plan.semantics is Semantics.DIFFUSERS:
        yield from _against_diffusers(plan)


def _against_diffusers(plan: Plan) -> Iterator[Diagnostic]:
    place = plan.place("/semantics")

    def refuse(what: str, span: Span) -> Diagnostic:
        return finding(codes.NOT_WITH_DIFFUSERS, f"semantics: diffusers {what}", span=span)

    if not plan.from_order:
        has = "takes an order, not stages" if plan.stages is not None else "needs an order"
        yield refuse(has, plan.place("/stages") if plan.stages is not None else place)
    if plan.idle is Idle.KEEP:
        yield refuse("releases everything after a call: no idle: keep", plan.place("/idle"))
    for component in plan.components.values():
        if component.policy is not None:
            yield refuse(f'knows no policy for "{component.name}"', component.spans["policy"])


def _later(plan: Plan) -> Iterator[Diagnostic]:
    """What is checked and not executed yet: never in silence."""

    def note(code: Code, what: str, span: Span) -> Diagnostic:
        return finding(code, f"{what} is checked and not executed yet", span=span)

    if plan.loras:
        said = "the bytes of LoRAs are counted when they are loaded, not before"
        yield finding(codes.LORAS_LATER, said, span=plan.loras[0].span)
    if plan.workload:
        yield note(codes.WORKLOAD_LATER, "the workload", plan.place("/workload"))


def _stem(name: str) -> str:
    stem = PurePath(name.replace("\\", "/")).name
    for suffix in (".plan.yaml", ".plan.yml", ".yaml", ".yml"):
        if stem.endswith(suffix) and stem != suffix:
            return stem.removesuffix(suffix)
    return stem


def _frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))
