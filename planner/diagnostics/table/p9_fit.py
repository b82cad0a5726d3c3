"""P99x: ``plan fit``."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

NOTHING_FITS = Code(
    id="P991",
    name="nothing-fits",
    severity=Severity.ERROR,
    help="Of all that the plan leaves open, nothing lets the call run in this memory: the message says which "
    "component needs how much beside as little weights as can be, the hint what the least budget is that "
    "would do, and with which changes a plan was found in this one: without a policy that the plan says "
    "itself, with something that changes the picture (`--allow slicing,tiling,quantization,dtype`), or with "
    "less at once (`--run height=768,width=768`). Each was tried by itself; what was not enough, and what "
    "could not be traced here, is told as well.",
    wrong="plan fit flux.plan.yaml --vram 1GiB --card h200",
    right="plan fit flux.plan.yaml --vram 12GiB --card h200",
)
NO_RATES = Code(
    id="P992",
    name="no-rates",
    severity=Severity.ERROR,
    exit_code=2,
    help="Plans are compared by the seconds that they take, and the rates of this card are not known: a size "
    "alone (`--card 12GiB`) says nothing of its speed. Name a card that ships, or a file that "
    "`plan doctor --measure` wrote; `--vram` says how much of it there is.",
    wrong="plan fit flux.plan.yaml --card 12GiB",
    right="plan fit flux.plan.yaml --card rtx-4090 --vram 12GiB",
)
NO_SOLVER = Code(
    id="P993",
    name="no-solver",
    severity=Severity.NOTE,
    help="The extra `[fit]` (HiGHS, 8 MB) is not installed. The plan is searched all the same; the bound "
    "that it is held against is weaker, and the search begins without the solver's amounts. "
    "`pip install 'offload-planner[fit]'`.",
    wrong="plan fit flux.plan.yaml --card h200  # without highspy",
    right="pip install 'offload-planner[fit]' && plan fit flux.plan.yaml --card h200",
)
SOLVER_FAILED = Code(
    id="P994",
    name="solver-failed",
    severity=Severity.ERROR,
    exit_code=4,
    help="HiGHS ended with neither a solution nor the proof that there is none. Nothing was written. Another "
    "version of highspy may do; without it `plan fit` works with a weaker bound.",
    wrong="plan fit flux.plan.yaml --card h200  # with a broken highspy",
    right="pip uninstall highspy && plan fit flux.plan.yaml --card h200",
)
NOT_CHOSEN_FROM = Code(
    id="P995",
    name="not-chosen-from",
    severity=Severity.NOTE,
    help="Something that `--allow` lets `plan fit` choose was not tried, and the message says why: formats "
    "of quantized weights need the names and sizes of a component's tensors, which a folder has; a plan "
    "that has rules already keeps them as they are; and a call that is computed otherwise, in tiles perhaps, "
    "has to be traced, for which the components' configs are needed.",
    wrong="plan fit FluxPipeline --card h200 --allow quantization",
    right="plan fit ./flux --card h200 --allow quantization",
)

TIGHT = Code(
    id="P996",
    name="tight",
    severity=Severity.NOTE,
    help="The call runs in this memory, and in every plan that was found an allocation finds too little at "
    "first: torch gives back what it keeps and tries again, which takes time, and a library may take a "
    "kernel that needs less scratch and rounds otherwise. More memory, `--allow tiling` or a smaller picture "
    "avoid it.",
    wrong="plan fit sdxl.plan.yaml --vram 6GiB --card rtx-3060",
    right="plan fit sdxl.plan.yaml --vram 8GiB --card rtx-3060",
)

NOT_EDITED = Code(
    id="P997",
    name="not-edited",
    severity=Severity.ERROR,
    help="`plan fit` puts what it chooses into the plan's own text, and leaves all else as it is written. "
    "What the text says then is read again, and was not what was meant: the key is an alias, an anchor that "
    "others use, or written in a way that no edit is known for. Nothing was written. "
    "`plan explain FILE --as yaml` prints the same plan laid out plainly.",
    wrong="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: builtin:tiny-sdxl}
components:
  text_encoder: &same {tiling: off}
  text_encoder_2: *same
""",
    right="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: builtin:tiny-sdxl}
components:
  text_encoder: {tiling: off}
  text_encoder_2: {tiling: off}
""",
)

CODES = (NOTHING_FITS, NO_RATES, NO_SOLVER, SOLVER_FAILED, NOT_CHOSEN_FROM, TIGHT, NOT_EDITED)
