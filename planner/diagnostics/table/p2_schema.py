"""P2xx: the shape of the values, by the JSON Schema."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity
from planner.source.limits import (
    BLOCKS,
    COMPONENTS,
    ENTRIES,
    LORAS,
    NAME,
    PATTERN,
    REPEATS,
    RULES,
    RUNS,
    TEXT,
)

UNKNOWN_KEY = Code(
    id="P201",
    name="unknown-key",
    severity=Severity.ERROR,
    help="The language has no such key here. Keys are added without a new version of the language, so an "
    "older planner may lack one: the message names its version.",
    wrong="version: 1\npipeline: FluxPipeline\nbugdet: {vram: 11GiB}",
    right="version: 1\npipeline: FluxPipeline\nbudget: {vram: 11GiB}",
)
WRONG_TYPE = Code(
    id="P202",
    name="wrong-type",
    severity=Severity.ERROR,
    help="A value is of another kind than the key takes: text where a mapping belongs, a number where text "
    "belongs. YAML reads on, off, yes and no as text, and true and false as truth values.",
    wrong="exclude: image_encoder",
    right="exclude: [image_encoder]",
)
MISSING_KEY = Code(
    id="P203",
    name="missing-key",
    severity=Severity.ERROR,
    help="A key that must be there is not.",
    wrong="pipeline: FluxPipeline",
    right="version: 1\npipeline: FluxPipeline",
)
WRONG_VALUE = Code(
    id="P204",
    name="wrong-value",
    severity=Severity.ERROR,
    help="The key takes other values than this one. The message lists them, or says how they look.",
    wrong="semantics: livenes",
    right="semantics: liveness",
)
NO_UNIT = Code(
    id="P205",
    name="number-without-unit",
    severity=Severity.ERROR,
    help="A size needs its unit: B, KB, MB, GB (powers of 1000), KiB, MiB, GiB (powers of 1024), or % for "
    "a share. A bare number could mean any of them.",
    wrong="budget: {vram: 11}",
    right="budget: {vram: 11GiB}",
)
NO_SUCH_DEVICE = Code(
    id="P206",
    name="device-refused",
    severity=Severity.ERROR,
    help="Components are offloaded from the host to an accelerator: cpu is where they come from, not where "
    "they run. Devices are named as torch names them.",
    wrong="device: cpu",
    right="device: cuda",
)
ORDER_AND_STAGES = Code(
    id="P207",
    name="order-and-stages",
    severity=Severity.ERROR,
    help="order is the short form of stages. A plan has one of them, or none for the class's own order.",
    wrong="order: a -> b\nstages: [{id: a, runs: [a]}]",
    right="order: a -> b",
)
RUNS_OR_STAGES = Code(
    id="P208",
    name="runs-or-stages",
    severity=Severity.ERROR,
    help="A stage either runs components or holds stages of its own: one of them, not both and not none.",
    wrong="stages: [{id: denoise, loop: steps}]",
    right="stages: [{id: denoise, runs: [unet], loop: steps}]",
)
OTHER_VERSION = Code(
    id="P209",
    name="other-version",
    severity=Severity.ERROR,
    help="The plan asks for another version of this tool than the one that reads it, or requires something "
    "that is no version specifier. It is checked before everything else, so that a newer plan says so "
    "rather than failing on its keys.",
    wrong="requires: {offload-planner: '>=99'}",
    right="requires: {offload-planner: '>=0.1'}",
)
UNKNOWN_PACKAGE = Code(
    id="P210",
    name="unknown-package",
    severity=Severity.ERROR,
    help="`requires` names a package that is nearly one of those that plans depend on. Misspelt, it would "
    "require nothing.",
    wrong="requires: {difusers: '>=0.36'}",
    right="requires: {diffusers: '>=0.36'}",
)
OVER_LIMIT = Code(
    id="P211",
    name="over-limit",
    severity=Severity.ERROR,
    help="A list, a mapping, a text or a number is larger than a plan can need, so that no file keeps a "
    "check "
    f"busy. At most {COMPONENTS}; {RULES}; {LORAS}; {RUNS}; {ENTRIES} otherwise; {NAME}; {TEXT}; {PATTERN}; "
    f"{REPEATS}; {BLOCKS}.",
    wrong="components: {unet: {policy: stream, prefetch: 65}}",
    right="components: {unet: {policy: stream, prefetch: 2}}",
)

CODES = (
    UNKNOWN_KEY,
    WRONG_TYPE,
    MISSING_KEY,
    WRONG_VALUE,
    NO_UNIT,
    NO_SUCH_DEVICE,
    ORDER_AND_STAGES,
    RUNS_OR_STAGES,
    OTHER_VERSION,
    UNKNOWN_PACKAGE,
    OVER_LIMIT,
)
