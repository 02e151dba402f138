"""The table against hand-made lines: mean, spread, marks, order, and names that would like to break out."""

from __future__ import annotations

import statistics
from html.parser import HTMLParser
from typing import Any

import pytest

from tocsin.bench.render import GATE, box_lines, figure, html, legend, markdown
from tocsin.bench.table import Box, Stat, tabulate
from tocsin.errors import InputError

PLACES: dict[str, int] = {}


def line(attack: str, detector: str, seed: int, tpr: float | None = None, fpr: float = 0.0, **more: Any) -> dict[str, Any]:
    """A line as a run writes it; ``place`` by first mention."""
    asr, control, after = more.pop("asr", 0.99), more.pop("control", 0.01), more.pop("after", None)
    data, victim = more.pop("data", "digits"), more.pop("victim", "small")
    place = [
        PLACES.setdefault(f"{kind} {name}", len(PLACES)) for kind, name in (("d", data), ("v", victim), ("a", attack), ("m", detector))
    ]
    made: dict[str, Any] = {
        "schema": "tocsin-bench/1",
        "key": f"{data} {victim} {attack} {detector} {seed}",
        "place": [*place, seed],
        "seed": seed,
        "data": {"id": data, "name": data},
        "attack": {"id": more.pop("attack_id", attack), "label": attack},
        "detector": {"id": more.pop("detector_id", detector), "label": detector},
        "victim": {"id": victim, "label": victim},
        "oracle": more.pop("oracle", False),
        "provenance": {"commit": "a" * 40, "dirty": True, "device": "cpu", "cpu": "a <fast> one"},
    }
    if "error" in more:
        return {**made, "error": {"type": "InputError", "message": more["error"], "where": []}}
    works = None if asr is None else asr - control >= 0.5
    made["gate"] = {"asr": asr, "control_asr": control, "acc": 0.9, "control_acc": 0.92, "works": works}
    made["result"] = {"tpr": tpr, "fpr": fpr, "auc": more.pop("auc", None), "seconds": 1.0}
    if after is not None:
        made["after"] = {"asr": after[0], "acc": after[1]}
    assert not more
    return made


LINES = [
    line("none", "ct", 0, None, 0.0, asr=None, control=None),
    line("badnet", "ct", 0, 0.97, 0.001, auc=0.99, after=(0.1, 0.9)),
    line("badnet", "ct", 1, 1.0, 0.002, auc=1.0, after=(0.2, 0.91)),
    line("badnet", "ct", 2, 0.94, 0.006, auc=0.98, after=(0.15, 0.92)),
    line("badnet", "ss", 0, 0.8, 0.04, oracle=True, after=(0.2, 0.9)),
    line("badnet", "ss", 1, error="features: got nothing"),
    line("weak", "ct", 0, 0.81, 0.0, asr=0.6, control=0.2),
    line("weak", "ct", 1, 0.82, 0.0, asr=0.9, control=0.2),
    line("dead", "ss", 0, error="no <room>"),
]


def section(lines: list[dict[str, Any]]) -> Any:
    (only,) = tabulate(lines).sections
    return only


def test_mean_and_spread_by_hand() -> None:
    made = section(LINES)
    assert [row.label for row in made.rows] == ["none", "badnet", "weak", "dead"]
    assert [(c.label, c.oracle) for c in made.columns] == [("ct", False), ("ss", True)]
    box = made.rows[1].boxes[0]
    assert (box.seeds, box.failed) == (3, ())
    assert (box.tpr.mean, box.tpr.spread) == pytest.approx((0.97, 0.03))
    assert (box.fpr.mean, box.fpr.spread) == pytest.approx((0.003, statistics.stdev([0.001, 0.002, 0.006])))
    assert (box.auc.mean, box.auc.spread) == pytest.approx((0.99, 0.01))
    assert (box.asr_after.mean, box.asr_after.spread) == pytest.approx((0.15, 0.05))
    assert box_lines(box) == ["✓ 97.0 ± 3.0 / 0.30 ± 0.26", "AUC 0.990 ± 0.010", "after: ASR ✓ 15.0 ± 5.0, ACC 91.0 ± 1.0"]


def test_the_papers_rule_is_strict_and_marked() -> None:
    """Exactly 80 % is no detection, exactly 20 % no defence; without a TPR there is no mark."""
    none, badnet, *_ = section(LINES).rows
    told = badnet.boxes[1]
    assert (told.detects, told.defends, told.seeds) == (False, False, 1)
    assert box_lines(told) == ["✗ 80.0 / 4.00", "after: ASR ✗ 20.0, ACC 90.0", "failed: 1 of 2 seeds"]
    assert (none.boxes[0].detects, none.boxes[0].defends) == (None, None)
    assert box_lines(none.boxes[0]) == ["- / 0.00"]
    assert none.boxes[1] is None
    assert box_lines(None) == ["not run"]


def test_attacks_that_do_not_work_are_marked_not_hidden() -> None:
    weak = section(LINES).rows[2]
    assert (weak.gated, weak.idle) == (2, 1)
    text = markdown(tabulate(LINES))
    assert "| weak † (1 of 2 seeds) | 75.0 ± 21.2 | 20.0 ± 0.0 | 90.0 ± 0.0 | 92.0 ± 0.0 | ✓ 81.5 ± 0.7 / 0.00 ± 0.00 |" in text
    always = [entry for entry in LINES if entry["attack"]["label"] == "weak" and entry["seed"] == 0]
    assert "| weak † |" in markdown(tabulate(always))
    assert any(said.startswith("†") for said in legend(tabulate(LINES)))
    assert not any(said.startswith("†") for said in legend(tabulate(LINES[:4])))


def test_order_of_the_lines_does_not_matter_and_the_later_of_a_cell_counts() -> None:
    assert tabulate(LINES[::-1]) == tabulate(LINES)
    mended = [*LINES, line("badnet", "ss", 1, 1.0, 0.0, oracle=True)]
    box = section(mended).rows[1].boxes[1]
    assert (box.seeds, box.failed, box.tpr.mean) == (2, (), pytest.approx(0.9))
    assert tabulate(mended).cells == len(LINES)
    assert [name for name, _ in tabulate(LINES).failures] == ["digits, badnet, ss, small, seed 1", "digits, dead, ss, small, seed 0"]


def test_data_and_networks_are_tables_of_their_own_and_equal_labels_are_told_apart() -> None:
    more = [line("badnet", "ct", 0, 0.9, victim="resnet18"), line("badnet", "ct", 0, 0.7, data="signs")]
    made = tabulate([*LINES, *more])
    assert [(s.data, s.victim) for s in made.sections] == [("digits", "small"), ("digits", "resnet18"), ("signs", "small")]
    twin = line("badnet", "ct", 0, 0.5, detector_id="other-defaults")
    assert [c.label for c in section([*LINES, twin]).columns] == ["ct [ct]", "ct [other-]", "ss"]


@pytest.mark.parametrize(
    ("mean", "spread", "digits", "text"),
    [
        (0.9731, None, 1, "97.3"),
        (1.0, 0.0, 1, "100.0 ± 0.0"),
        (0.99996, None, 1, ">99.9"),
        (0.00001, None, 2, "<0.01"),
        (0.0, None, 2, "0.00"),
        (0.0052, 0.0001, 2, "0.52 ± 0.01"),
    ],
)
def test_figures(mean: float, spread: float | None, digits: int, text: str) -> None:
    assert figure(Stat(mean, spread), digits) == text


def test_no_figure_is_a_dash() -> None:
    assert figure(None) == "-"
    assert Stat.of([None, None]) is None
    assert Stat.of([None, 0.5]) == Stat(0.5, None)
    assert box_lines(Box(0, None, None, None, None, None, None, ("x",))) == ["failed: 1 of 1 seeds"]


def test_markdown_is_a_whole_table() -> None:
    text = markdown(tabulate(LINES))
    assert "### digits, small\n" in text
    assert "| attack | ASR | control ASR | ACC | clean ACC | ct | ss (oracle) |" in text
    assert "| none | - | - | 90.0 | 92.0 | - / 0.00 | not run |" in text
    assert "| dead | - | - | - | - | not run | failed: 1 of 1 seeds |" in text
    assert "oracle: the method was told something" in text
    assert "- digits, dead, ss, small, seed 0: InputError: no &lt;room&gt;" in text
    assert f"commit {'a' * 12}+" in text
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert {row.count("|") for row in rows} == {8}


HOSTILE = 'x|y\n</td><script>alert(1)</script>[a](javascript:b)`*_\x1b[2J"\u202e'


def hostile() -> list[dict[str, Any]]:
    return [
        line(HOSTILE, HOSTILE, 0, 0.9, data=HOSTILE, victim=HOSTILE),
        line("other", HOSTILE, 0, data=HOSTILE, victim=HOSTILE, error=HOSTILE),
    ]


def test_hostile_names_stay_in_their_place_in_markdown() -> None:
    text = markdown(tabulate(hostile()))
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "](" not in text.replace(r"\](", "")
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert len(rows) == 4
    assert {row.replace(r"\|", "").count("|") for row in rows} == {len(GATE) + 3}


class _Page(HTMLParser):
    """Tags of a page, and that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data.strip())


def page(lines: list[dict[str, Any]]) -> _Page:
    parsed = _Page()
    parsed.feed(html(tabulate(lines)))
    assert parsed.open == []
    return parsed


def test_html_colours_and_marks() -> None:
    made = page(LINES)
    boxes = [attrs["class"] for tag, attrs in made.tags if tag == "td" and "box" in (attrs.get("class") or "")]
    assert boxes == ["box", "box soft", "box works", "box fails", "box works", "box soft", "box soft", "box"]
    labels = [attrs["aria-label"] for tag, attrs in made.tags if tag == "span" and "aria-label" in attrs]
    assert labels == ["works", "works", "does not work", "does not work", "works"]
    assert [attrs["class"] for tag, attrs in made.tags if tag == "tr" and "class" in attrs] == ["idle"]
    text = " ".join(word for word in made.words if word)
    assert "ss oracle" in text
    assert "97.0 ± 3.0 / 0.30 ± 0.26" in text
    assert "gate failed" in text
    assert "failed: 1 of 2 seeds" in text
    assert "InputError: no <room>" in text


def test_hostile_names_stay_in_their_place_in_html() -> None:
    made = page(hostile())
    assert "script" not in {tag for tag, _ in made.tags}
    assert not any("href" in attrs for tag, attrs in made.tags if tag != "link")
    source = html(tabulate(hostile()))
    assert "\x1b" not in source
    assert "\u202e" not in source


@pytest.mark.parametrize("spoil", [lambda e: e.pop("place"), lambda e: e["attack"].pop("label"), lambda e: e.update(gate=3)])
def test_a_line_that_lacks_something_is_refused(spoil: Any) -> None:
    broken = line("badnet", "ct", 0, 0.9)
    spoil(broken)
    with pytest.raises(InputError, match="results: a line is not as"):
        tabulate([broken])
