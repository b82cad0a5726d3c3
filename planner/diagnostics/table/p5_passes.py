"""P5xx: what the compiler chose where the plan left it free."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

STREAMS = Code(
    id="P501",
    name="component-streams",
    severity=Severity.NOTE,
    help="A component does not fit whole beside what its stage needs, so part of it stays on the device and "
    "the other blocks come just in time, every forward. The image is the same; the link to the host is the "
    "limit. A policy in the plan decides otherwise.",
    wrong="budget: {vram: 11GiB}\ncomponents: {transformer: offload}  # 22 GiB: an error",
    right="budget: {vram: 11GiB}\ncomponents: {transformer: {policy: stream, resident: 6GiB}}",
)

RESIDENT_OVER_WHOLE = Code(
    id="P502",
    name="resident-over-whole",
    severity=Severity.WARNING,
    help="`resident` is how much of a streamed component stays on the device, and it is more than there is "
    "of "
    "it: nothing streams. A component that is moved once and stays has policy: resident.",
    wrong="components: {vae: {policy: stream, resident: 80GiB}}",
    right="components: {vae: resident}",
)

CODES = (STREAMS, RESIDENT_OVER_WHOLE)
