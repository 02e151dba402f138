"""Markdown tables from the lines of audit_table.py and after_removal.py.

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


if __name__ == "__main__":
    for name in sys.argv[1:]:
        read = [json.loads(line) for line in Path(name).read_text().splitlines()]
        print(removals(read) if "kept" in read[0] else audits(read))
