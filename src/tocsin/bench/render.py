"""A `Table` as Markdown and as one HTML page, and the figures as words for the terminal too."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tocsin.bench.table import Box, Row, Section, Stat, Table
from tocsin.report.words import shown

TEMPLATES = Path(__file__).parent / "templates"
WORKS, FAILS, IDLE = "✓", "✗", "†"
GATE = ("ASR", "control ASR", "ACC", "clean ACC")
"""Headings of the gate's columns, as `gate` gives them."""
_LONGEST = 300


def figure(stat: Stat | None, digits: int = 1) -> str:
    """A share in percent, ``99.3 ± 0.5``; a dash where there is none. Only certainty reads as 100 or as 0."""
    if stat is None:
        return "-"
    spread = "" if stat.spread is None else f" ± {100 * stat.spread:.{digits}f}"
    return _percent(stat.mean, digits) + spread


def _percent(share: float, digits: int) -> str:
    least = 10**-digits
    value = 100 * share
    if 0 < value < least / 2:
        return f"<{least:.{digits}f}"
    if 100 - least / 2 <= value < 100:
        return f">{100 - least:.{digits}f}"
    return f"{value:.{digits}f}"


def mark(works: bool | None) -> str:
    """The papers' rule as a sign, so that colour is not the only carrier; empty where it does not apply."""
    return "" if works is None else WORKS if works else FAILS


def detection(box: Box) -> str:
    """``✓ 99.3 ± 0.5 / 0.10 ± 0.02``: TPR / FPR."""
    return _joined(mark(box.detects), f"{figure(box.tpr)} / {figure(box.fpr, 2)}")


def ranking(box: Box) -> str:
    """``AUC 0.998``; empty without one."""
    if box.auc is None:
        return ""
    return f"AUC {box.auc.mean:.3f}" + ("" if box.auc.spread is None else f" ± {box.auc.spread:.3f}")


def defence(box: Box) -> str:
    """``after: ASR ✓ 0.5 ± 0.1, ACC 98.0 ± 0.2``; empty where no network was trained again."""
    if box.asr_after is None and box.acc_after is None:
        return ""
    asr = [] if box.asr_after is None else [_joined("ASR", mark(box.defends), figure(box.asr_after))]
    return "after: " + ", ".join([*asr, f"ACC {figure(box.acc_after)}"])


def trouble(box: Box) -> str:
    """``failed: 1 of 3 seeds``; empty where none failed."""
    return f"failed: {len(box.failed)} of {len(box.failed) + box.seeds} seeds" if box.failed else ""


def box_lines(box: Box | None) -> list[str]:
    """A box in up to four short lines; the first is TPR / FPR unless every seed failed."""
    if box is None:
        return ["not run"]
    lines = [detection(box), ranking(box), defence(box)] if box.seeds else []
    return [line for line in [*lines, trouble(box)] if line]


def attack_label(row: Row) -> str:
    """``badnet 1 % †``; with the number of seeds where the attack works at some and not at others."""
    if not row.idle:
        return row.label
    return f"{row.label} {IDLE}" + ("" if row.idle == row.gated else f" ({row.idle} of {row.gated} seeds)")


def gate(row: Row) -> tuple[str, ...]:
    """The figures below `GATE`."""
    return tuple(figure(stat) for stat in (row.asr, row.control_asr, row.acc, row.control_acc))


def legend(table: Table) -> list[str]:
    """What the signs mean, one sentence each; only those that the table needs."""
    boxes = [box for section in table.sections for row in section.rows for box in row.boxes if box is not None]
    said = [
        "In percent, mean ± standard deviation over the seeds. ASR and ACC: of a network trained without any defence;"
        " control ASR and clean ACC: the same trigger and test set on a network trained on clean data.",
        f"TPR / FPR: {WORKS} detection works (TPR above 80 %), {FAILS} it does not. Covers count as clean.",
    ]
    if any(box.asr_after is not None for box in boxes):
        said.append(f"after: a network trained on what the detector keeps; {WORKS} defence works (ASR below 20 %), {FAILS} it does not.")
    if any(row.idle for section in table.sections for row in section.rows):
        said.append(
            f"{IDLE} gate failed: the attack does not work here, its ASR is less than 50 points above the control. The row does not count."
        )
    if any(column.oracle for section in table.sections for column in section.columns):
        said.append("oracle: the method was told something that a person who audits does not know; its figures are upper bounds.")
    return said


def markdown(table: Table) -> str:
    """The table as Markdown (GitHub's); names in it cannot break out of their place."""
    parts = [_markdown_section(section) for section in table.sections]
    parts.append("\n".join(f"- {_plain(line)}" for line in legend(table)))
    if table.failures:
        parts.append("\n".join(["Failed cells:", "", *(f"- {_plain(name)}: {_plain(why)}" for name, why in table.failures)]))
    origin = [f"{table.cells} cells", *(["commit " + ", ".join(table.commits)] if table.commits else []), *table.devices]
    parts.append(_plain("; ".join(origin) + "."))
    return "\n\n".join(parts) + "\n"


def _markdown_section(section: Section) -> str:
    heads = ["attack", *GATE, *(column_label(column.label, column.oracle) for column in section.columns)]
    lines = [_row(heads), "|" + "|".join([" --- ", *([" ---: "] * len(GATE)), *([" --- "] * len(section.columns))]) + "|"]
    for row in section.rows:
        boxes = [", ".join(box_lines(box)) for box in row.boxes]
        lines.append(_row([attack_label(row), *gate(row), *boxes]))
    return f"### {_plain(section.data)}, {_plain(section.victim)}\n\n" + "\n".join(lines)


def column_label(label: str, oracle: bool) -> str:
    """``ss (oracle)``."""
    return f"{label} (oracle)" if oracle else label


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line: no table bars, no markup, no HTML."""
    safe = shown(text, _LONGEST).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", safe)


def html(table: Table) -> str:
    """The table as one page that loads nothing from anywhere. All names are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from tocsin import __version__
    from tocsin.report.page import TEMPLATES as REPORT

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        shown=lambda text: shown(str(text), _LONGEST),
        gate=gate,
        attack_label=attack_label,
        detection=lambda box: f"{figure(box.tpr)} / {figure(box.fpr, 2)}",
        ranking=ranking,
        trouble=trouble,
        figure=figure,
        mark=mark,
    )
    style = "".join((folder / name).read_text(encoding="utf-8") for folder, name in ((REPORT, "report.css"), (TEMPLATES, "table.css")))
    content: dict[str, Any] = {
        "table": table,
        "heads": GATE,
        "legend": legend(table),
        "version": __version__,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "style": Markup(style),
    }
    text = environment.get_template("table.html.j2").render(**content)
    return text.encode("utf-8", errors="replace").decode()


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)
