"""P1xx: the file: can it be read, is it YAML, and one document of plain values."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity
from planner.source.limits import CHAIN, DEPTH, DIGITS, FILE, VALUES

NOT_FOUND = Code(
    id="P101",
    name="file-not-found",
    severity=Severity.ERROR,
    help="There is no such file. A path after `extends` is relative to the file that says it.",
    wrong="plan validate sdlx.plan.yaml",
    right="plan validate sdxl.plan.yaml",
)
UNREADABLE = Code(
    id="P102",
    name="file-unreadable",
    severity=Severity.ERROR,
    help="The file is there and cannot be read: no permission, or it is a folder, a pipe or a device.",
    wrong="chmod 000 sdxl.plan.yaml && plan validate sdxl.plan.yaml",
    right="chmod 644 sdxl.plan.yaml && plan validate sdxl.plan.yaml",
)
TOO_LARGE = Code(
    id="P103",
    name="file-too-large",
    severity=Severity.ERROR,
    help=f"A plan is a few lines. A file of more than {FILE.most:,} bytes is not read, so that a wrong "
    f"path costs "
    "nothing.",
    wrong="plan validate diffusion_pytorch_model.safetensors",
    right="plan validate sdxl.plan.yaml",
)
NOT_TEXT = Code(
    id="P104",
    name="not-text",
    severity=Severity.ERROR,
    help="A plan is text in UTF-8. This file is binary, or in another encoding, or has control characters.",
    wrong="plan validate cat.png",
    right="plan validate cat.plan.yaml",
)
NOT_YAML = Code(
    id="P105",
    name="not-yaml",
    severity=Severity.ERROR,
    help="The text is not YAML. A frequent cause is a backslash in double quotes, where YAML reads an "
    "escape: write regular expressions in single quotes.",
    wrong='match: "attn\\d"',
    right="match: 'attn\\d'",
)
DUPLICATE_KEY = Code(
    id="P106",
    name="duplicate-key",
    severity=Severity.ERROR,
    help="A mapping has a key twice. YAML readers keep the last one and say nothing; here it is an error.",
    wrong="budget: {vram: 7GiB}\nbudget: {vram: 8GiB}",
    right="budget: {vram: 8GiB}",
)
TAG = Code(
    id="P107",
    name="tag-refused",
    severity=Severity.ERROR,
    help="A YAML tag asks the reader to build an object. A plan holds plain values only: text, numbers, "
    "true and false, null, lists and mappings.",
    wrong="run: !!python/object/apply:os.system ['ls']",
    right="run: {prompt: a cat}",
)
TOO_MANY = Code(
    id="P108",
    name="too-many-values",
    severity=Severity.ERROR,
    help=f"The document grows beyond what a plan can be. There may be at most {VALUES}; {DEPTH}; {CHAIN}.",
    wrong="run: {a: [[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]}",
    right="run: {a: [1]}",
)
EMPTY = Code(
    id="P109",
    name="empty-file",
    severity=Severity.ERROR,
    help="The file has no values. The shortest plan has a version and a pipeline.",
    wrong="# nothing but a comment",
    right="version: 1\npipeline: StableDiffusionXLPipeline",
)
NOT_A_MAPPING = Code(
    id="P110",
    name="not-a-mapping",
    severity=Severity.ERROR,
    help="A plan is a mapping: keys with values. Its keys are text.",
    wrong="- version: 1\n- pipeline: FluxPipeline",
    right="version: 1\npipeline: FluxPipeline",
)
SEVERAL = Code(
    id="P111",
    name="several-documents",
    severity=Severity.ERROR,
    help="A file holds one plan. `---` begins another document.",
    wrong="version: 1\n---\nversion: 1",
    right="version: 1\npipeline: FluxPipeline",
)
EXTENDS_RING = Code(
    id="P112",
    name="extends-ring",
    severity=Severity.ERROR,
    help="A plan extends itself, through the files that it extends. The message prints the ring.",
    wrong="# a.plan.yaml\nextends: b.plan.yaml\n# b.plan.yaml\nextends: a.plan.yaml",
    right="# a.plan.yaml\nextends: b.plan.yaml\n# b.plan.yaml\nversion: 1\npipeline: FluxPipeline",
)
BAD_OVERRIDE = Code(
    id="P113",
    name="bad-override",
    severity=Severity.ERROR,
    exit_code=2,
    help="--set takes KEY=VALUE: a path of keys with dots between (numbers for places in a list), and a "
    "value read as YAML. An empty value or null removes the key.",
    wrong="plan compile x.plan.yaml --set budget.vram",
    right="plan compile x.plan.yaml --set budget.vram=8GiB",
)
NOT_A_PLAN = Code(
    id="P114",
    name="not-a-plan",
    severity=Severity.ERROR,
    help="`extends`, or a link, leads to a file that is no plan. What is in it is not shown, so that a plan "
    "cannot print other files. Name it *.plan.yaml to see what is wrong with it.",
    wrong="extends: ../settings.ini",
    right="extends: ../base.plan.yaml",
)
NUMBER_TOO_LONG = Code(
    id="P115",
    name="number-too-long",
    severity=Severity.ERROR,
    help=f"A number has at most {DIGITS.most} characters, and is one that a computer can hold. Text that "
    f"looks "
    "like a number goes in quotes.",
    wrong="run: {seed: 11111111111111111111111111111111111111111}",
    right="run: {seed: 1111}",
)

CODES = (
    NOT_FOUND,
    UNREADABLE,
    TOO_LARGE,
    NOT_TEXT,
    NOT_YAML,
    DUPLICATE_KEY,
    TAG,
    TOO_MANY,
    EMPTY,
    NOT_A_MAPPING,
    SEVERAL,
    EXTENDS_RING,
    BAD_OVERRIDE,
    NOT_A_PLAN,
    NUMBER_TOO_LONG,
)
