"""How large a plan may be: the one table that messages, the JSON Schema and the help of codes read.

A plan is written by hand and has tens of lines. Each bound lies far above that, and low enough that whatever
is given to ``plan validate`` is answered in a few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``most`` of ``what``."""

    most: int
    what: str

    def __str__(self) -> str:
        return f"{self.most:,} {self.what}"


FILE = Limit(1 << 20, "bytes in a file")
CHAIN = Limit(8, "files that extend each other")
DEPTH = Limit(24, "values inside each other")
VALUES = Limit(20_000, "values, aliases filled in")
DIGITS = Limit(40, "characters in a number")
COMPONENTS = Limit(100, "components")
STAGES = Limit(500, "stages, those inside others too")
NESTED = Limit(3, "stages inside each other")
RUNS = Limit(100, "uses in a stage")
RULES = Limit(100, "rules")
LORAS = Limit(100, "LoRAs")
ENTRIES = Limit(100, "entries in a list or mapping")
NAME = Limit(100, "characters in a name")
TEXT = Limit(4_000, "characters in a path, a class or a revision")
PATTERN = Limit(1_000, "characters in a regular expression")
REPEATS = Limit(1_000_000, "passes of a loop")
BLOCKS = Limit(64, "blocks ahead")
WORKLOAD = Limit(1_000_000, "of each thing that a workload counts")
SECONDS = Limit(2, "seconds of searching with the regular expressions of a component's rules")
LISTED = Limit(20, "findings of one kind, where each further one says the same")

LIMITS = (
    *(FILE, CHAIN, DEPTH, VALUES, DIGITS),
    *(COMPONENTS, STAGES, NESTED, RUNS, RULES, LORAS, ENTRIES),
    *(NAME, TEXT, PATTERN, REPEATS, BLOCKS, WORKLOAD, SECONDS, LISTED),
)
