"""Markdown tables from the lines of audit_table.py, after_removal.py and table_audit.py.

python benchmarks/render.py benchmarks/results/audit_table_COMMIT.jsonl
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np


def spread(values: list[float], scale: float = 1.0, digits: int = 2) -> str:
    """``mean (lowest to highest)``, or the value where there is one."""
    v = np.array(values) * scale
    return f"{v.mean():.{digits}f} ({v.min():.{digits}f} to {v.max():.{digits}f})" if len(v) > 1 else f"{v[0]:.{digits}f}"


def audits(lines: list[dict[str, Any]]) -> str:
    """One row for each data set and attack, over its seeds."""
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        extra = [line["detector"]] if line.get("detector", "ct") != "ct" else []
        extra += [line["preset"]] * (line["preset"] != "fast") + ["JPEG reserve"] * line["jpeg_reserve"]
        extra += ["without canaries"] * (not line["with_canaries"])
        rows[(line["row"], *extra)].append(line)
    out = ["| data | seeds | found | TPR % | FPR % | AUC | gap | canaries found: patch, blend, warp % | s |", "| --- " * 9 + "|"]
    for key, cells in rows.items():
        found = sum(c["verdict"] == "found" for c in cells)
        tpr = spread([c["tpr"] for c in cells], 100, 1) if cells[0]["tpr"] is not None else ""
        auc = f"{np.mean([c['auc'] for c in cells]):.4f}" if cells[0]["auc"] is not None else ""
        kinds = ("patch", "blend", "warp")
        planted = [np.mean([c["canaries"][k][0] / c["canaries"][k][1] for c in cells]) * 100 for k in kinds if k in cells[0]["canaries"]]
        gap = spread([c["gap"] for c in cells], 1, 1) if cells[0]["gap"] is not None else ""
        out.append(
            f"| {', '.join(key)} | {' '.join(str(c['seed']) for c in cells)} | {found} of {len(cells)} | {tpr} "
            f"| {spread([c['fpr'] for c in cells], 100, 3)} | {auc} | {gap} "
            f"| {', '.join(f'{p:.0f}' for p in planted)} | {np.median([c['seconds'] for c in cells]):.0f} |"
        )
    return "\n".join(out)


def removals(lines: list[dict[str, Any]]) -> str:
    """One row for each attack and seed: the three victims."""
    out = ["| attack | seed | planted, left | ACC clean, poisoned, kept % | ASR clean, poisoned, kept % |", "| --- " * 5 + "|"]
    for d in lines:
        acc, asr = (", ".join(f"{100 * d[v][m]:.1f}" for v in ("clean", "poisoned", "kept")) for m in ("acc", "asr"))
        out.append(f"| {d['row']} | {d['seed']} | {d['planted']}, {d['planted_left']} | {acc} | {asr} |")
    return "\n".join(out)


def share(values: list[float | None], digits: int = 1) -> str:
    """`spread` in percent; nothing where there is nothing to measure."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{100 * known[0]:.{digits}f}" if len(set(known)) == 1 else spread(known, 100, digits)


def tables(lines: list[dict[str, Any]]) -> str:
    """One row for each table, attack and auditor, the verdict of all first."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        rows[line["data"], line["row"]].append(line)
    out = ["| data, attack | auditor | seeds | found | TPR % | FPR % | AUC | columns named % |", "| --- " * 8 + "|"]
    for (data, row), cells in rows.items():
        auditors = {"all": cells}
        for kind in ("by_member", "by_panel"):
            auditors |= {name: [cell[kind][name] for cell in cells] for name in cells[0][kind]}
        for name, heard in auditors.items():
            columns = [cell["trigger_columns"]["report"] if cell["found"] and "trigger_columns" in cell else None for cell in cells]
            out.append(
                f"| {data} {row} | {name} | {len(cells)} | {sum(one['true'] + one['false'] > 0 for one in heard)} "
                f"| {share([one['tpr'] for one in heard])} | {share([one['fpr'] for one in heard], 2)} "
                f"| {spread([one['auc'] for one in heard], 1, 4) if heard[0]['auc'] is not None else ''} "
                f"| {share(columns, 0) if name == 'all' else ''} |"
            )
    return "\n".join(out)


def victims(lines: list[dict[str, Any]]) -> str:
    """One row for each table, attack, victim and seed, and one for what the purge leaves over all seeds."""
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        for victim, states in line.get("victims", {}).items():
            rows[line["data"], line["row"], victim].append({"seed": line["seed"], **states})
    titles = ("data, attack, victim", "seed", "clean", "fewer", "poisoned", "purged", "over clean", "over fewer", "mark")
    out = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for key, cells in rows.items():
        for cell in cells:
            asr = [f"{100 * cell[s]['asr']:.0f} ± {100 * (cell[s]['sd'] or 0):.0f}" if s in cell else "" for s in titles[2:6]]
            over = [cell.get(f"purged_over_{other}") for other in ("clean", "fewer")]
            apart = [f"{100 * one['mean']:+.1f} ± {100 * (one['se'] or 0):.1f}" if one else "" for one in over]
            out.append(f"| {' '.join(key)} | {cell['seed']} | {' | '.join(asr + apart)} | {over[0]['mark'] if over[0] else ''} |")
        pooled = []
        for other in ("clean", "fewer"):
            each = [cell[f"purged_over_{other}"] for cell in cells if f"purged_over_{other}" in cell]
            if len(each) > 1 and all(one["se"] is not None for one in each):
                se = np.sqrt(sum(one["se"] ** 2 for one in each)) / len(each)
                pooled.append(f"{100 * np.mean([one['mean'] for one in each]):+.1f} ± {100 * se:.1f}")
        if len(pooled) == 2:
            out.append(f"| {' '.join(key)} | all | | | | | {' | '.join(pooled)} | |")
    return "\n".join(out)


def rendered(lines: list[dict[str, Any]]) -> str:
    """The tables of one script's lines, which say by their keys whose they are."""
    if "by_member" in lines[0]:
        return tables(lines) + "\n\n" + victims(lines)
    return removals(lines) if "kept" in lines[0] else audits(lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(rendered([json.loads(line) for line in Path(name).read_text().splitlines()]))
