"""Which examples of the table of codes are run, and which cannot be."""

from __future__ import annotations

from planner.diagnostics.codes import all_codes

NOTES = {"P352", "P375", "P404", "P393"}
"""What is not known of a class alone: said of most examples, and not what they are about."""

WHOLE = {"P105", "P109", "P110", "P111", "P203"}
"""Their examples are whole files: nothing is filled in."""

ELSEWHERE = {
    # commands, or several files: tests/document/test_limits.py, tests/document/test_read.py, tests/cli
    *("P101", "P102", "P103", "P104", "P112", "P113", "P114"),
    # folders of weights: tests/target, tests/loading, tests/validate
    *("P315", "P352", "P353", "P354", "P358", "P359", "P360", "P361", "P362", "P363", "P374", "P377"),
    # loading a class, a catalogue file: tests/target; a class that nobody knows
    *("P381", "P382"),
    # what weighs something: tests/validate, tests/schedule
    *("P501", "P502", "P601", "P602", "P603", "P604", "P605", "P606", "P607", "P608"),
    # a note on every plan that has LoRAs
    "P393",
}

EXAMPLES = [code for code in all_codes().values() if code.id[1] in "123456" and code.id not in ELSEWHERE]
