"""The verbs, by what people do with them: where each is, what it does, and an example. Read without importing
one of them, so that ``plan --help`` is as fast as the fastest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """``module`` has the command ``NAME_command``; ``does``: one line; ``example``: a command that works."""

    module: str
    does: str
    example: str


GROUPS: dict[str, dict[str, Verb]] = {
    "Write": {
        "new": Verb(
            "planner.cli.new",
            "List the plans that ship, or copy one to start from.",
            "plan new sdxl",
        ),
        "fit": Verb(
            "planner.cli.fit",
            "The fastest plan for a card's memory, with a reason for each choice.",
            "plan fit flux.plan.yaml --vram 12GiB --card rtx-4090 -o flux-12gb.plan.yaml",
        ),
        "translate": Verb(
            "planner.cli.translate",
            "Make a plan of a sequence string, a class, a folder, a script or other tools' settings.",
            "plan translate StableDiffusionXLControlNetPipeline --improve > sdxl.plan.yaml",
        ),
    },
    "Check": {
        "validate": Verb(
            "planner.cli.validate",
            "Check plans: syntax, names, order, and whether they fit.",
            "plan validate plans --format github",
        ),
        "explain": Verb(
            "planner.cli.explain",
            "What a plan will do and why, or what a code means.",
            "plan explain flux.plan.yaml --card 12GiB",
        ),
        "diff": Verb(
            "planner.cli.diff",
            "What two plans do differently: policies, moves, peaks, the picture.",
            "plan diff flux.plan.yaml flux.plan.yaml --set-b budget.vram=8GiB",
        ),
        "catalogue": Verb(
            "planner.cli.catalogue",
            "What plans need to know of pipeline classes of your own, as a file.",
            "plan catalogue mymodule:MyPipeline -o my.catalogue.json",
        ),
        "schema": Verb(
            "planner.cli.schema",
            "Print the JSON Schema of plans, for editors.",
            "plan schema -o plan.v1.schema.json",
        ),
    },
    "Run": {
        "apply": Verb(
            "planner.cli.apply",
            "Run a plan: load its pipeline, make the output, show promised beside measured.",
            "plan apply flux.plan.yaml --out cat.png",
        ),
        "batch": Verb(
            "planner.cli.batch",
            "Run a plan for each row of a file; what is finished is not run again.",
            "plan batch flux.plan.yaml --inputs rows.jsonl --out pictures",
        ),
        "doctor": Verb(
            "planner.cli.doctor",
            "What this machine and this installation can do.",
            "plan doctor",
        ),
    },
    "For maintainers": {
        "compile": Verb(
            "planner.cli.compile",
            "The steps that a run will make, as a table or as JSON.",
            "plan compile flux.plan.yaml --format json > flux.schedule.json",
        ),
        "docs": Verb(
            "planner.docs.command",
            "The documentation: build it offline, or print a page.",
            "plan docs --out site",
        ),
    },
}
VERBS: dict[str, Verb] = {name: verb for group in GROUPS.values() for name, verb in group.items()}
