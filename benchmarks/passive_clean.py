"""How often the detectors that read features find something in clean synthetic features, and how often a planted group is found.

    python benchmarks/passive_clean.py --out benchmarks/results/passive_clean.json

No network is trained; the features are those of the tests (`tests/detectors/planted.py`), on seeds the defaults were not chosen on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from passive_speed import OURS, where_from

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.detectors.planted import planted

from tocsin.detectors import DETECTORS

FIRST_SEED = 9000
FORMS: dict[str, dict[str, Any]] = {
    "10 classes": {},
    "10 classes, behind a ReLU": {"rectified": True},
    "3 classes": {"classes": 3, "target": 1},
    "30 classes of 60, 20 reserve samples each": {"classes": 30, "each": 60, "reserve_each": 20},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=60, help="clean sets of each form")
    parser.add_argument("--planted-sets", type=int, default=10, help="sets of each form with 15 %% of one class planted")
    args = parser.parse_args()
    rows = []
    for share, sets in ((0.0, args.sets), (0.15, args.planted_sets)):
        for form, settings in FORMS.items():
            row: dict[str, Any] = {"form": form, "share of the class": share, "sets": sets, "found": dict.fromkeys(OURS, 0)}
            for seed in range(FIRST_SEED, FIRST_SEED + sets):
                victim = planted(seed=seed, share=share, **settings).victim()
                for name in OURS:
                    row["found"][name] += bool(DETECTORS[name]().judge(victim).found)
            rows.append(row)
            print(row, flush=True)
    args.out.write_text(json.dumps({"rows": rows, "first seed": FIRST_SEED, **where_from()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
