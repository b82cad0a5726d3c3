"""P0xx: the command itself: how it was called, and what it cannot do yet."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

NOT_YET = Code(
    id="P001",
    name="not-yet",
    severity=Severity.ERROR,
    exit_code=2,
    help="This verb, option or function is part of the design and is not made yet. Nothing was done. The "
    "message says what does the nearest thing today.",
    wrong="plan fit FluxPipeline --vram 12GiB",
    right="plan compile flux.plan.yaml --set budget.vram=12GiB",
)
NO_PLANS = Code(
    id="P002",
    name="no-plans-found",
    severity=Severity.ERROR,
    exit_code=2,
    help="A folder was searched for files named *.plan.yaml and none was found. Without an argument the "
    "current folder is searched.",
    wrong="cd /tmp && plan validate",
    right="plan validate plans/",
)
UNKNOWN_CODE = Code(
    id="P003",
    name="unknown-code",
    severity=Severity.ERROR,
    exit_code=2,
    help="`plan explain` takes a plan file, a code (P302) or a code's name (unknown-component). What was "
    "given is none of them.",
    wrong="plan explain P999",
    right="plan explain P302",
)
RUN_FAILED = Code(
    id="P004",
    name="run-failed",
    severity=Severity.ERROR,
    exit_code=4,
    help="The pipeline raised while it ran under the plan. The plan was taken off again and nothing was "
    "written. The message is the pipeline's own; --traceback prints where it came from.",
    wrong="run: {prompt: a cat, height: 100}  # not divisible by 8",
    right="run: {prompt: a cat, height: 96}",
)
OVER_BUDGET = Code(
    id="P005",
    name="over-budget",
    severity=Severity.ERROR,
    exit_code=5,
    help="The run finished, and held more of the device's memory than the plan's budget.vram allows. The "
    "output was written. Weights are what the compiler counts; activations come on top.",
    wrong="budget: {vram: 7GiB}  # 6.8 of them weights",
    right="budget: {vram: 9GiB}",
)
UNUSED_IGNORE = Code(
    id="P006",
    name="unused-ignore",
    severity=Severity.NOTE,
    help="A comment silences a code that this line does not have: the fault is gone, or the code is "
    "another. Codes are written as findings print them; those of unreadable files cannot be silenced.",
    wrong="order: a -> b  # plan: ignore[P999]",
    right="order: a -> b",
)

CODES = (NOT_YET, NO_PLANS, UNKNOWN_CODE, RUN_FAILED, OVER_BUDGET, UNUSED_IGNORE)
