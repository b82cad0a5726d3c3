"""Cards' files: those that ship, what is wrong in one, and what their numbers give."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import jsonschema
import pytest
import yaml

import planner
from planner.cards.data import HOST, CardData
from planner.cards.read import card_of, read_card
from planner.cards.schema import NAME, schema
from planner.cards.shipped import FOLDER, card_at, find_card, names, shipped_card
from planner.cards.write import card_text
from planner.cli.main import run
from planner.diagnostics.diagnostic import PlanError
from planner.document.schema import schema_text
from planner.schedule.card import card_for
from planner.source.text import SourceText

PROMISED = (
    *("h100", "h200", "a100", "l4", "t4", "rtx-3060", "rtx-3090", "rtx-4060", "rtx-4070", "rtx-4080"),
    *("rtx-4090", "rtx-5080", "rtx-5090", "m3-max", "m4-max"),
)


@pytest.fixture
def text() -> str:
    return (FOLDER / "rtx-4090.yaml").read_text(encoding="utf-8")


def findings(text: str) -> list[tuple[str, int, int, str]]:
    card, found = card_of(SourceText(name="my.card.yaml", text=text))
    assert (card is None) is bool(found)
    return [(d.code.id, d.span.line, d.span.column, d.message) for d in found if d.span is not None]


def test_the_schema_that_ships_is_the_codes() -> None:
    assert json.loads(schema_text(NAME)) == schema()
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", names())
def test_each_that_ships_is_whole(name: str) -> None:
    card, found, _ = read_card(FOLDER / f"{name}.yaml")
    assert card is not None
    assert not found
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(values, json.loads(schema_text(NAME)))
    assert card.context < card.total
    assert card.notes
    assert card.source == "assumed"  # of the weakest of its values, the H200's time for an operation too
    if name == "h200":
        assert {card.source_of(v) for v in ("link", "memory.context", "rates.conv")} == {"measured"}
        assert card.source_of("dispatch") == "assumed"
    assert (card.host is None) is (name != "h200")
    assert card.source_of("host") == card.source_of("host.read") == "assumed", "of no machine it was measured"
    assert card.versions if card.source_of("link") == "measured" else not card.rates
    assert 0.5e9 < card.copy_seconds(1 << 30) ** -1 * (1 << 30) < 300e9


def test_those_that_were_promised_are_there() -> None:
    assert set(PROMISED) <= set(names())


def test_no_two_have_a_name_in_common() -> None:
    from planner.cards.shipped import plain

    said: list[str] = []
    for name in names():
        card = shipped_card(name)
        said += {plain(word) for word in (name, card.name, *card.aliases)}
    assert len(said) == len(set(said))


@pytest.mark.parametrize("asked", ["rtx4090", "RTX 4090", "rtx_4090", "NVIDIA GeForce RTX 4090", "rtx-4090"])
def test_names_as_people_write_them(asked: str) -> None:
    assert card_at(asked).name == "RTX 4090"


def test_a_name_that_none_has() -> None:
    card, found = find_card("rtx4091")
    assert card is None
    assert [(d.code.id, d.hint) for d in found] == [("P970", 'did you mean "rtx-4090"?')]
    assert "h200" in find_card("zzzzzz")[1][0].hint


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ('name: "RTX 4090"', 'nam: "RTX 4090"', "P201", "nam"),
        ("sms: 128", "sms: many", "P202", "sms"),
        ("sms: 128", "sms: 0", "P204", "0"),
        ("  bandwidth: 1.01e+12\n", "", "P203", "bandwidth"),
        ("      - [65536, ", "      - [65536, 3, ", "P971", "numbers"),
        ("      - [262144, ", "      - [65536, ", "P971", "above already"),
        ('source: "assumed"', 'source: "assumed"\nmeasured: [links]', "P972", "links"),
        ('source: "assumed"', 'source: "assumed"\nmeasured: [link, link]', "P972", "twice"),
        ('source: "assumed"', "source: guessed", "P204", "guessed"),
        ("launch:", "host: {read: 1.0e+9}\nlaunch:", "P203", "pack"),
        ("launch:", "host: {read: 1.0e+9, pack: 1.0e+9, disk: 1}\nlaunch:", "P201", "disk"),
        ("launch:", "host: {read: 0, pack: 1.0e+9}\nlaunch:", "P204", "0"),
        ('source: "assumed"', 'source: "assumed"\nmeasured: [host]', "P972", "host"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(text: str, old: str, new: str, code: str, said: str) -> None:
    assert old in text
    changed = text.replace(old, new, 1)
    found = findings(changed)
    assert any(one[0] == code and said in one[3] for one in found), found
    if new:
        line = changed[: changed.index(new)].count("\n") + 1
        assert any(line <= one[1] <= line + new.count("\n") + 1 for one in found if one[0] == code), found


def test_a_path_that_was_nearly_right() -> None:
    text = (FOLDER / "h100.yaml").read_text(encoding="utf-8").replace('- "link"', '- "lnk"')
    card, found = card_of(SourceText(name="x.yaml", text=text))
    assert card is None
    assert [(d.code.id, d.hint) for d in found] == [("P972", 'did you mean "link"?')]


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "7"])
def test_no_card_at_all(text: str) -> None:
    assert findings(text)


def test_a_file_as_it_is_written_is_read_again() -> None:
    values = yaml.safe_load((FOLDER / "h200.yaml").read_text(encoding="utf-8"))
    for rows in (values["link"]["to_host"]["pinned"], values["rates"]["matmul"]["bfloat16"]):
        rows[:] = [[float(n) for n in row] for row in rows]
    card, found = card_of(SourceText(name="x", text=card_text(values)))
    assert not found
    assert card == shipped_card("h200")


def test_sources_are_of_the_longest_path() -> None:
    card = shipped_card("h100")
    assert card.source_of("link.to_host.pinned") == "measured"
    assert card.source_of("memory.context") == "measured"
    assert card.source_of("memory.total") == card.source_of("launch") == "assumed"
    assert card.source == "assumed"  # of the weakest of its values, the H200's time for an operation too


def test_seconds_of_operations() -> None:
    card = shipped_card("h200")
    shape = (1, 4096, 3072, 12288)
    flops = 2 * 4096 * 3072 * 12288
    assert card.seconds("matmul", "bfloat16", flops, 0, shape) == pytest.approx(flops / 8.09e14, rel=0.01)
    assert card.seconds("matmul", "bfloat16", 2, 6) == card.launch
    tables = card.rates
    moved = card.seconds("memory", "float16", 0, 1 << 30)
    assert moved == pytest.approx((1 << 30) / tables["memory"]["bfloat16"].at((1 << 30,)))
    norm = card.seconds("memory", "bfloat16", 0, 1 << 30, (1, 256, 1 << 20))
    assert norm == pytest.approx((1 << 30) / tables["group_norm"]["bfloat16"].at((1, 256, 1 << 20)))
    assert norm > 2 * moved
    assert card.seconds("attention", "float64", 10**15, 0) > card.seconds("attention", "float16", 10**15, 0)


def test_a_card_without_tables_takes_shares_of_its_peaks() -> None:
    slow, fast = shipped_card("rtx-3060"), shipped_card("rtx-4090")
    work = ("matmul", "bfloat16", 10**13, 10**9, (1, 4096, 12288, 3072))
    assert slow.seconds(*work) > fast.seconds(*work) == pytest.approx(1e13 / (165.2e12 * 0.68), rel=0.01)


def test_copies() -> None:
    card = shipped_card("h100")
    assert card.copy_seconds(0) == 0
    assert card.copy_seconds(1 << 20) == pytest.approx((1 << 20) / 47e9)
    assert card.copy_seconds(1 << 30, pinned=False) == pytest.approx((1 << 30) / 8.9e9)
    assert card.copy_seconds(1 << 30, pinned=False, to_host=True) == pytest.approx((1 << 30) / 13.5e9)
    assert card.register_seconds(26 * 10**9) == pytest.approx(1)
    assert card.context_with(10 << 30) == card.context + 10 * card.registered


def test_a_host_that_a_file_says_and_one_that_it_does_not(text: str) -> None:
    without, _ = card_of(SourceText(name="x", text=text))
    said = text.replace("launch:", "host: {read: 2.0e+9, pack: 4.0e+9}\nlaunch:")
    said = said.replace('source: "assumed"', 'source: "assumed"\nmeasured: [host.read]')
    card, found = card_of(SourceText(name="x", text=said))
    assert card is not None, found
    assert without is not None
    assert (card.read_seconds(10**9), card.pack_seconds(10**9)) == (0.5, 0.25)
    assert without.read_seconds(10**9) == 10**9 / HOST.read
    assert without.pack_seconds(10**9) == 10**9 / HOST.pack
    assert [card.source_of(f"host.{key}") for key in ("read", "pack")] == ["measured", "assumed"]
    again, _ = card_of(SourceText(name="x", text=card_text(yaml.safe_load(said))))
    assert again == card


def test_a_card_is_the_same_to_a_lock_whatever_its_host_is(text: str) -> None:
    """No plan is compiled by it; digests of files without one stay what they were."""
    text = text.replace('source: "assumed"', 'source: "measured"')
    said = "host: {read: 2.0e+9, pack: 4.0e+9}\nlaunch:"
    others = [text, text.replace("launch:", said), text.replace("launch:", said.replace("2.0", "3.0"))]
    others += [f"{others[1]}assumed: [host]\n", f"{others[1]}assumed: [host.read]\n"]
    cards = [card_of(SourceText(name="x", text=one))[0] for one in others]
    assert len({(card.digest, card.source) for card in cards if card is not None}) == 1
    assert None not in cards
    assert cards[0] != cards[1] != cards[3]
    values = asdict(replace(shipped_card("rtx-4090"), notes=()))
    assert values.pop("host") is None
    before = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    assert shipped_card("rtx-4090").digest == f"sha256:{hashlib.sha256(before).hexdigest()}"


def test_the_host_bounds_many_small_operations() -> None:
    card: CardData = shipped_card("h200")
    assert card.together(0.001, 1000) == pytest.approx(1000 * card.dispatch)
    assert card.together(1.0, 1000) == 1.0


def test_a_card_beside_a_plan(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.card.yaml"
    path.write_text(text.replace('name: "RTX 4090"', 'name: "Mine"'), encoding="utf-8")
    for verb in ("explain", "compile", "validate"):
        assert run([verb, "plans/tiny-flux.plan.yaml", "--card", str(path)]) == 0
    assert "--card Mine (assumed), 23.64 GiB" in capsys.readouterr().out
    path.write_text(text.replace("sms: 128", "sms: none"), encoding="utf-8")
    assert run(["explain", "plans/tiny-flux.plan.yaml", "--card", str(path)]) == 1
    said = capsys.readouterr()
    assert "my.card.yaml" in said.out + said.err
    assert run(["explain", "plans/tiny-flux.plan.yaml", "--card", str(tmp_path / "no.yaml")]) == 1
    assert run(["explain", "plans/tiny-flux.plan.yaml", "--card", "h400"]) == 2
    assert "P970" in capsys.readouterr().out


def test_card_at_raises_with_the_texts() -> None:
    with pytest.raises(PlanError):
        card_at("nowhere/x.yaml")


@pytest.mark.parametrize("said", ["rtx-4090", "RTX 4090", "24GiB", "FILE"])
def test_a_card_is_said_in_python_as_on_the_command_line(said: str, tmp_path: Path) -> None:
    said = said.replace("FILE", str(FOLDER / "rtx-4090.yaml"))
    path = tmp_path / "x.plan.yaml"
    path.write_text("version: 1\npipeline: {class: FluxPipeline, source: black-forest-labs/FLUX.1-dev}\n")
    card = card_for(said)
    assert planner.validate(path, card=said) == planner.validate(path, card=card)
    assert planner.compile(path, card=said).schedule == planner.compile(path, card=card).schedule
    assert planner.compile(path, card=said).card == card


@pytest.mark.parametrize("said", ["", "12", "0GiB", "-1GiB", "rtx-9999", "50%", "1e400GiB"])
def test_a_card_that_there_is_not(said: str) -> None:
    for ask in (planner.validate, planner.compile):
        with pytest.raises(planner.PlanError) as raised:
            ask("x.plan.yaml", card=said)
        assert [d.code.id for d in raised.value.diagnostics] == ["P970"]


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize("key", ["launch", "dispatch", "to_device", "total", "float16"])
def test_numbers_that_nothing_can_be_computed_with(key: str, number: str, text: str) -> None:
    said = re.sub(rf"^( *{key}: )[\d.e+-]+", rf"\g<1>{number}", text, count=1, flags=re.MULTILINE)
    if key == "to_device":
        said = re.sub(r"(pinned:\n? *-? *\[\[?[\d.e+, -]*?)[\d.e+-]+\]", rf"\g<1>{number}]", text, count=1)
    assert said != text
    card, found = card_of(SourceText(name="x.yaml", text=said))
    assert card is None
    assert {d.code.id for d in found} <= {"P202", "P211"}
