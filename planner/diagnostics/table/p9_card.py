"""P970-P979: cards as data, and what runs measured on them."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

NO_SUCH_CARD = Code(
    id="P970",
    name="no-such-card",
    severity=Severity.ERROR,
    exit_code=2,
    help="--card takes the name of a card that ships, a card's file, or a size of memory. A file is one that "
    "ends in .yaml or .yml, or has a / in it; names are read without regard to case, spaces, - and _.",
    wrong="plan explain flux.plan.yaml --card rtx4091",
    right="plan explain flux.plan.yaml --card rtx4090",
)
CARD_TABLE = Code(
    id="P971",
    name="card-table",
    severity=Severity.ERROR,
    help="A table of a card's file has rows, each the numbers of a size (or of an operation's shape) and "
    "then the rate that was measured there. All rows of a table are of one length, and no size stands twice. "
    "Copies and memory have one number for a size: its bytes.",
    wrong="rates: {matmul: {bfloat16: [[1, 4096, 4096, 4096, 7.0e14], [1.0e12, 7.0e14]]}}",
    right="rates: {matmul: {bfloat16: [[1, 4096, 4096, 4096, 7.0e14], [1, 512, 4096, 4096, 4.0e14]]}}",
)
CARD_PATH = Code(
    id="P972",
    name="card-path",
    severity=Severity.ERROR,
    help="`measured` and `assumed` list values of the card's file by their path, with dots, where they are "
    "not of the file's `source`. Nothing stands at this path, or it is listed twice.",
    wrong="source: measured\nassumed: [links]",
    right="source: measured\nassumed: [link]",
)
NOT_MEASURABLE = Code(
    id="P973",
    name="card-not-measurable",
    severity=Severity.ERROR,
    exit_code=4,
    help="`plan doctor --measure` times this machine's CUDA device. There is none here, or torch is not "
    "installed, or too little of the card's memory is free for the measurements.",
    wrong="plan doctor --measure  # on a machine without a CUDA device",
    right="plan explain flux.plan.yaml --card h200  # a card that ships, or a file measured elsewhere",
)
BAD_CALIBRATION = Code(
    id="P974",
    name="calibration-not-taken",
    severity=Severity.WARNING,
    help="`plan apply --calibrate` keeps what a run measured in the user's cache, and `plan explain` and "
    "`plan apply` predict by it. This file there is no such calibration: it was cut short or changed, or "
    "another version wrote it. The prediction is made without it.",
    wrong="plan explain flux.plan.yaml --activations  # a file of the cache was edited",
    right="plan apply flux.plan.yaml --calibrate",
)
NOT_CALIBRATED = Code(
    id="P975",
    name="not-calibrated",
    severity=Severity.WARNING,
    help="`plan apply --calibrate` keeps what was measured beside what was predicted of the same call. This "
    "call cannot be traced (the message says why), or the cache cannot be written, so nothing was kept; the "
    "run is as good as any.",
    wrong="plan apply flux.plan.yaml --calibrate  # without configs that can be traced",
    right="plan apply quickstart.plan.yaml --simulate --calibrate",
)
CODES = (NO_SUCH_CARD, CARD_TABLE, CARD_PATH, NOT_MEASURABLE, BAD_CALIBRATION, NOT_CALIBRATED)
