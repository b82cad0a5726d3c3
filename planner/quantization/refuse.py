"""Rules against this machine: what is refused, and what is missing, before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_quantization import PAIR_REFUSED
from planner.diagnostics.table.p9_machine import PACKAGE_MISSING, PACKAGE_TOO_OLD
from planner.plan.model import Plan, QuantizationRule
from planner.quantization.backends import BACKENDS
from planner.quantization.matrix import AXES, WORDS, Row, going, instead, needs_of, row_of
from planner.quantization.probe import installed, lacking
from planner.source.text import Span

ADAPTED = frozenset(
    (
        *("transformer", "transformer_2", "transformer_ref", "unet", "prior"),
        *("text_encoder", "text_encoder_2", "text_conditioner", "connectors"),
    )
)
"""Components that a LoRA may be for: every ``_lora_loadable_modules`` of diffusers 0.42.1."""


def refusals(
    plan: Plan, device_type: str | None, versions: Mapping[str, str] | None = None
) -> list[Diagnostic]:
    """What keeps the plan's rules from being executed here.

    ``device_type``: of the device that was chosen (``cuda``, ``sim``), None when none was; ``versions``: of
    installed distributions, those of this process when None. A pair that is refused (P376), a package that is
    missing (P901) or too old (P902), each with the nearest that would do.
    """
    have = installed() if versions is None else versions
    found: list[Diagnostic] = []
    said: set[str] = set()
    for rule in (*plan.quantization, *files(plan)):
        refused = list(pairs(plan, rule, device_type))
        found += refused
        if refused:
            continue
        row = row_of(rule.backend, BACKENDS[rule.backend].type_of(rule.options))
        columns = [column for column, _ in asked(plan, rule, device_type)]
        for name, least in lacking(needs_of(row, *columns), have):
            if name not in said:
                found.append(_package(rule, columns, name, least, have))
            said.add(name)
    return found


def pairs(plan: Plan, rule: QuantizationRule, device_type: str | None) -> Iterator[Diagnostic]:
    """Cells of the matrix that refuse ``rule``: its component's policy, the plan's LoRAs, the device."""
    row = row_of(rule.backend, BACKENDS[rule.backend].type_of(rule.options))
    for column, place in asked(plan, rule, device_type):
        cell = row.cells[column]
        if cell.verdict == "no" and cell.only in ("", rule.component):
            what = f'"{rule.component}" by {_who(rule, row)}'
            said = f"{what} does not go with {WORDS.get(column, column)}: {cell.reason}"
            yield finding(PAIR_REFUSED, said, span=place, hint=instead(row, column))


def asked(plan: Plan, rule: QuantizationRule, device_type: str | None) -> Iterator[tuple[str, Span]]:
    """The columns of the matrix that the plan asks of ``rule``, each with its place. A policy that is left to
    the compiler is none: it chooses among those that go."""
    said = plan.components.get(rule.component)
    excluded = {name.name: name.span for name in plan.exclude}
    if said is not None and said.policy is not None:
        yield said.policy.value, said.spans.get("policy", said.span)
    elif rule.component in excluded:
        yield "resident", excluded[rule.component]
    if plan.loras and rule.component in ADAPTED:
        yield "lora", plan.loras[0].span
    if device_type in AXES["device"]:
        yield device_type, plan.place("/device") if "/device" in plan.document.spans else rule.span


def files(plan: Plan) -> Iterator[QuantizationRule]:
    """A rule for each component that comes from a GGUF file and has none."""
    ruled = {rule.component for rule in plan.quantization if rule.backend == "gguf"}
    for name, said in plan.components.items():
        if (said.source or "").endswith(".gguf") and name not in ruled:
            span = said.spans.get("source", said.span)
            yield QuantizationRule(component=name, backend="gguf", options={}, spans={}, span=span)


def _package(
    rule: QuantizationRule, columns: Sequence[str], name: str, least: str, have: Mapping[str, str]
) -> Diagnostic:
    row = row_of(rule.backend, BACKENDS[rule.backend].type_of(rule.options))
    near = next(
        (that.name for that in going(row, *columns) if not lacking(needs_of(that, *columns), have)), ""
    )
    install = f"pip install '{name}>={least}'"
    hint = f"{install}; or {near}, which is here" if near and rule.backend != "gguf" else install
    what = f'"{rule.component}" by {_who(rule, row)}'
    if name not in have:
        said = f'package "{name}" is missing, and {what} needs it'
        return finding(PACKAGE_MISSING, said, span=rule.span, hint=hint)
    said = f'package "{name}" is version {have[name]}, and {what} needs {least}'
    return finding(PACKAGE_TOO_OLD, said, span=rule.span, hint=hint)


def _who(rule: QuantizationRule, row: Row) -> str:
    """The backend, with its format where they are not all alike."""
    alike = row.types == BACKENDS[rule.backend].types
    return rule.backend if alike else f"{rule.backend} {BACKENDS[rule.backend].type_of(rule.options)}"
