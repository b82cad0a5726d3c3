"""The table of codes, and findings in every form."""

from __future__ import annotations

import json
import re

import pytest

from planner.diagnostics.codes import all_codes, find, suggestion
from planner.diagnostics.diagnostic import Severity, finding
from planner.diagnostics.ignore import apply_ignores
from planner.diagnostics.machine import as_github, as_json, as_sarif
from planner.diagnostics.render import text
from planner.diagnostics.table.p1_document import NOT_YAML
from planner.diagnostics.table.p2_schema import UNKNOWN_KEY, WRONG_TYPE
from planner.diagnostics.table.p3_plan import UNKNOWN_COMPONENT
from planner.source.limits import LISTED
from planner.source.text import SourceText, Span

CODES = list(all_codes().values())


@pytest.mark.parametrize("code", CODES, ids=str)
def test_every_code_explains_itself(code) -> None:  # type: ignore[no-untyped-def]
    assert re.fullmatch(r"P\d{3}", code.id)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code.name)
    assert len(code.help) > 25
    assert code.wrong.strip()
    assert code.right.strip()
    assert code.wrong != code.right
    assert code.exit_code in (1, 2, 3, 4, 5)


def test_codes_are_found_by_id_and_name() -> None:
    assert find("P302") is find("p302") is find("unknown-component")
    assert find("P999") is None
    assert suggestion("unknwn-component") == 'did you mean "unknown-component"?'


SOURCE = SourceText(name="x.plan.yaml", text="version: 1\n\torder: 猫 -> vea # plan: ignore[P201]\n")


def at(line: int, column: int, width: int) -> Span:
    return Span(file="x.plan.yaml", line=line, column=column, width=width)


FOUND = [
    finding(UNKNOWN_COMPONENT, 'no "vea"', span=at(2, 14, 3), hint="vae"),
    finding(WRONG_TYPE, "100% wrong", span=at(1, 10, 1), pointer="/version"),
    finding(UNKNOWN_KEY, "somewhere").at(Severity.WARNING),
]


def test_text_points_at_the_value() -> None:
    assert text(FOUND, [SOURCE]) == (
        "warning: somewhere [P201 unknown-key]\n"
        "x.plan.yaml:1:10: 100% wrong [P202 wrong-type]\n"
        "1 | version: 1\n"
        "  |          ^\n"
        'x.plan.yaml:2:14: no "vea" [P302 unknown-component]\n'
        "2 | \torder: 猫 -> vea # plan: ignore[P201]\n"
        "  | \t              ^~~\n".replace("              ^", " " * 13 + "^")
        + "  = vae\n"
    )


def test_a_long_line_is_cut_around_the_caret() -> None:
    line = "x" * 500 + " vea " + "y" * 500
    source = SourceText(name="x.plan.yaml", text=line)
    shown, caret = text([finding(UNKNOWN_COMPONENT, "no", span=at(1, 502, 3))], [source]).split("\n")[1:3]
    assert len(shown) < 180
    assert shown.startswith("1 | …xxx")
    assert shown.endswith("yyy…")
    start = caret.index("^")
    assert shown[start : start + 3] == "vea"
    assert caret.endswith("^~~")


def test_a_span_beyond_what_is_shown_stays_inside_it() -> None:
    source = SourceText(name="x.plan.yaml", text="z" * 1000)
    for column, width in ((1, 1000), (900, 100), (1000, 1), (1000, 50)):
        shown, caret = text([finding(WRONG_TYPE, "no", span=at(1, column, width))], [source]).split("\n")[1:3]
        assert len(caret) <= len(shown)


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\u2028", "\u202e", "\udc80"])
def test_nothing_in_a_file_steers_the_terminal(character: str) -> None:
    source = SourceText(name="x.plan.yaml", text=f"a{character}b: vea")
    found = [finding(UNKNOWN_COMPONENT, f"no {character}", span=at(1, 6, 3), hint=f"not {character}")]
    shown = text(found, [source])
    assert character not in shown
    assert shown.split("\n")[2] == "  |      ^~~"
    for form in (as_json, as_sarif, as_github):
        form(found, [source]).encode()


def test_a_message_of_several_lines_is_one_finding() -> None:
    shown = text([finding(WRONG_TYPE, "a\nx.plan.yaml:1:1: fine")])
    assert shown == "a\n    x.plan.yaml:1:1: fine [P202 wrong-type]\n"


def test_nothing_is_said_of_nothing() -> None:
    assert text([]) == ""
    said = json.loads(as_json([]))
    assert (said["verdict"], said["exit_code"], said["diagnostics"], said["files"]) == ("ok", 0, [], [])
    assert as_github([]) == ""


def test_json() -> None:
    said = json.loads(as_json(FOUND))["diagnostics"]
    assert [d["code"] for d in said] == ["P201", "P202", "P302"]
    assert said[1] == {
        "code": "P202",
        "name": "wrong-type",
        "severity": "error",
        "message": "100% wrong",
        "hint": "",
        "pointer": "/version",
        "file": "x.plan.yaml",
        "line": 1,
        "column": 10,
        "width": 1,
    }


def test_sarif() -> None:
    run = json.loads(as_sarif(FOUND))["runs"][0]
    assert [r["id"] for r in run["tool"]["driver"]["rules"]] == ["P201", "P202", "P302"]
    assert [r["level"] for r in run["results"]] == ["warning", "error", "error"]
    region = run["results"][2]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 2, "startColumn": 14, "endLine": 2, "endColumn": 17}
    assert run["columnKind"] == "unicodeCodePoints"  # the default, UTF-16, would shift behind emoji


def test_workflow_commands_escape_what_they_must() -> None:
    lines = as_github(FOUND).split("\n")
    assert lines[1] == (
        "::error file=x.plan.yaml,line=1,col=10,endColumn=10,title=P202 wrong-type::100%25 wrong"
    )


def test_ignored_findings_go_and_an_unused_ignore_stays() -> None:
    wrong = finding(UNKNOWN_KEY, "x", span=at(2, 3, 1))
    assert apply_ignores([wrong], [SOURCE]) == []
    (note,) = apply_ignores([], [SOURCE])
    assert note.code.name == "unused-ignore"
    assert note.span is not None
    assert SOURCE.line(2)[note.span.column - 1 :][: note.span.width] == "P201"


def test_what_keeps_a_file_from_being_read_is_not_silenced() -> None:
    source = SourceText(name="x.plan.yaml", text="a: 1 # plan: ignore[P105, not-yaml]\n")
    wrong = finding(NOT_YAML, "x", span=at(1, 1, 1))
    assert [d.code.id for d in apply_ignores([wrong], [source])] == ["P105", "P006", "P006"]


@pytest.mark.parametrize(
    "comments",
    [
        "# plan: ignore[P302] " * 3000,
        " # plan: ignore[" * 3000,
        "# plan: ignore[" + ",".join(f"X{n}" for n in range(3000)) + "]",
        "#" + " " * 30000 + "plan:",
        "# plan: ignore[" + "[" * 30000,
    ],
    ids=["one code", "without an end", "many codes", "blanks", "brackets"],
)
def test_many_comments_on_one_line_are_read_once_and_told_in_a_few_notes(comments: str) -> None:
    source = SourceText(name="x", text=f"a: 1 {comments}\n")
    wrong = [
        finding(UNKNOWN_KEY, "x", span=Span(file="x", line=1, column=n, width=1)) for n in range(1, 3000)
    ]
    kept = apply_ignores(wrong, [source])
    assert [d for d in kept if d.code is UNKNOWN_KEY] == wrong
    notes = [d for d in kept if d.code.name == "unused-ignore"]
    assert len(notes) <= LISTED.most + 1
    if len(notes) > LISTED.most:
        assert "2,980 more" in notes[-1].message


def test_an_ignore_that_is_written_twice_silences_and_is_used() -> None:
    source = SourceText(name="x", text="a: 1 # plan: ignore[unknown-key] # plan: ignore[unknown-key]\n")
    wrong = finding(UNKNOWN_KEY, "x", span=Span(file="x", line=1, column=1, width=1))
    assert apply_ignores([wrong, wrong], [source]) == []


def test_an_ignore_in_the_middle_of_a_word_is_none() -> None:
    assert apply_ignores([], [SourceText(name="x", text="a: b#plan: ignore[P302]\n")]) == []


def test_the_same_findings_give_the_same_bytes() -> None:
    assert text(FOUND, [SOURCE]) == text(reversed(FOUND), [SOURCE])
    assert as_sarif(FOUND) == as_sarif(reversed(FOUND))


def test_sarif_rules_have_what_code_hosts_show() -> None:
    run = json.loads(as_sarif(FOUND, [SOURCE]))["runs"][0]
    for rule in run["tool"]["driver"]["rules"]:
        assert rule["shortDescription"]["text"]
        assert len(rule["shortDescription"]["text"]) <= len(rule["fullDescription"]["text"])
        assert {"text", "markdown"} <= set(rule["help"])
        assert rule["helpUri"].startswith("https://")
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")


def test_a_fingerprint_outlives_an_edit_above_and_tells_twins_apart() -> None:
    def prints(text: str, line: int) -> list[str]:
        source = SourceText(name="x.plan.yaml", text=text)
        found = [finding(UNKNOWN_KEY, f"n{n}", span=at(line, 1 + n, 1)) for n in range(2)]
        results = json.loads(as_sarif(found, [source]))["runs"][0]["results"]
        return [r["partialFingerprints"]["planFinding/v1"] for r in results]

    before, after = prints("a: 1\nb: 2\n", 2), prints("# new\na: 1\nb: 2\n", 3)
    assert before == after
    assert len(set(before)) == 2
    assert prints("a: 1\nc: 2\n", 2) != before


@pytest.mark.parametrize("name", ["--set", "<stdin>"])
def test_what_is_in_no_file_is_annotated_on_none(name: str) -> None:
    found = [finding(UNKNOWN_KEY, "no", span=Span(file=name, line=1, column=3, width=1))]
    assert "locations" not in json.loads(as_sarif(found))["runs"][0]["results"][0]
    assert as_github(found) == f"::error title=P201 unknown-key::{name}, line 1, column 3: no\n"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("./a/../b c.yaml", "b%20c.yaml"),
        ("a//b.yaml", "a/b.yaml"),
        ("猫#1?.yaml", "%E7%8C%AB%231%3F.yaml"),
        ("c:d.yaml", "c%3Ad.yaml"),
        ("/etc/x.yaml", "file:///etc/x.yaml"),
    ],
)
def test_uris_are_normal(file: str, expected: str) -> None:
    found = [finding(UNKNOWN_KEY, "no", span=Span(file=file, line=1, column=1))]
    (result,) = json.loads(as_sarif(found))["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == expected
