"""P94x: what a verb was told to write, and where."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

OUTPUT_TAKEN = Code(
    id="P940",
    name="output-taken",
    severity=Severity.ERROR,
    exit_code=2,
    help="A file of that name is there already, so nothing was run. Choose another name, or replace it "
    "with --force. A name that plan chooses itself gets a number instead.",
    wrong="plan apply flux.plan.yaml --out cat.png  # the second time",
    right="plan apply flux.plan.yaml --out cat.png --force",
)
OUTPUT_IS_INPUT = Code(
    id="P941",
    name="output-is-input",
    severity=Severity.ERROR,
    exit_code=2,
    help="What is to be written would take the place of a plan, of weights, of an image of `run`, of code, "
    "or of what a link leads to. That is never done, with --force neither.",
    wrong="plan apply flux.plan.yaml --report flux.plan.yaml --force",
    right="plan apply flux.plan.yaml --report flux.report.json",
)
OUTPUT_ELSEWHERE = Code(
    id="P942",
    name="output-elsewhere",
    severity=Severity.ERROR,
    exit_code=4,
    help="The run is done and its output could not be written where it was to go: somebody took the name "
    "meanwhile, the disk is full, the folder is gone. It was kept under the name that the message has.",
    wrong="plan apply flux.plan.yaml --out cat.png & plan apply flux.plan.yaml --out cat.png",
    right="plan apply flux.plan.yaml --out cat.png & plan apply flux.plan.yaml --out dog.png",
)

PLOT_UNKNOWN = Code(
    id="P943",
    name="plot-unknown",
    severity=Severity.ERROR,
    exit_code=2,
    help="A plot's name says what it is: .html is a page, .svg and .png are pictures; a trace is .json.",
    wrong="plan apply flux.plan.yaml --plot flux.pdf",
    right="plan apply flux.plan.yaml --plot flux.html --trace flux.trace.json",
)
NOTHING_TO_PLOT = Code(
    id="P944",
    name="nothing-to-plot",
    severity=Severity.ERROR,
    exit_code=4,
    help="There is no forecast of this plan's call to draw: what it needs is not known here, and the message "
    "says what. A run is measured whatever was forecast: plan apply --plot.",
    wrong="plan explain flux.plan.yaml --plot flux.html",
    right="plan apply flux.plan.yaml --simulate --plot flux.html",
)

CODES = (OUTPUT_TAKEN, OUTPUT_IS_INPUT, OUTPUT_ELSEWHERE, PLOT_UNKNOWN, NOTHING_TO_PLOT)
