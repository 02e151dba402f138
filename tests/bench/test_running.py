"""Whole runs: nothing twice, nothing lost, whoever does the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from tests.bench import dummies
from tocsin.bench import running, shared
from tocsin.bench.grid import read_grid
from tocsin.bench.ledger import Ledger
from tocsin.bench.render import markdown
from tocsin.bench.running import Outcome, run
from tocsin.bench.table import tabulate
from tocsin.bench.workers import Died, Processes, Results, Workers
from tocsin.errors import InputError

ROOT = Path(__file__).parents[2]
Log = Callable[[str], list[str]]
Write = Callable[[str], Path]

GRID = """
seeds = [0, 1]
[[attack]]
name = "none"
[[attack]]
name = "badnet"
rate = 0.05
[[detector]]
name = "corner"
[[detector]]
name = "centre"
factor = [2.0, 3.0]
"""
NAPS = """
[[attack]]
name = "badnet"
rate = 0.05
[[detector]]
name = "corner"
nap = 0.3
number = [0, 1, 2, 3, 4, 5, 6, 7]
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in each of several worker processes, so that sums are taken in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def go(path: Path, out: Path, workers: Workers | None = None, **options: Any) -> Outcome:
    return run(read_grid(path), out, workers=workers, device="cpu", **options)


def lines(out: Path) -> list[dict[str, Any]]:
    return Ledger(out / "cells.jsonl").read()


def numbers(out: Path) -> dict[str, Any]:
    """What the lines say, less what differs from run to run."""
    found = {}
    for line in lines(out):
        del line["provenance"], line["gate"]["training_seconds"]
        for key in ("seconds", "timings", "peak_rss_mb"):
            del line["result"][key]
        found[line["key"]] = line
    return found


def test_every_cell_once_and_networks_shared(grid_file: Write, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "fit", dummies.noted(shared.fit))
    path, out = grid_file(GRID), tmp_path / "out"
    told: list[str] = []
    seen: list[float] = []
    done = go(path, out, finished=lambda line: told.append(line["key"]), progress=lambda stage, fraction: seen.append(fraction))
    assert done == Outcome(cells=12, ran=12, failed=0)
    assert sorted(told) == sorted(line["key"] for line in lines(out))
    assert len(set(told)) == 12
    assert seen[-1] == 1.0
    assert len(log("fit")) == 4  # clean and badnet, at two seeds
    assert (len(log("inspect")), len(log("judge"))) == (4, 8)
    before = (out / "cells.jsonl").read_bytes()
    assert go(path, out) == Outcome(12, 0, 0)
    assert (out / "cells.jsonl").read_bytes() == before
    # New cells of the same grid use the networks that are there; finished ones are left alone.
    grid_file(GRID.replace("factor = [2.0, 3.0]", "factor = [2.0, 3.0, 4.0]"))
    assert go(path, out) == Outcome(16, 4, 0)
    assert (len(log("fit")), len(log("inspect")), len(log("judge"))) == (4, 4, 12)
    assert (out / "cells.jsonl").read_bytes().startswith(before)


def test_two_processes_give_the_table_of_one(grid_file: Write, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    path = grid_file("retrain = true\n" + GRID.replace("[0, 1]", "[0]"))
    go(path, tmp_path / "one")
    monkeypatch.setattr(running, "perform", dummies.work)
    assert go(path, tmp_path / "two", Processes(2)) == Outcome(6, 6, 0)
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    assert markdown(tabulate(lines(tmp_path / "two"))) == markdown(tabulate(lines(tmp_path / "one")))
    trained = [text.split()[1] for text in log("fit")]
    retrained = len({line["after"]["samples"] for line in lines(tmp_path / "two")} - {200})
    assert retrained
    assert len(set(trained)) <= 2
    assert str(os.getpid()) not in trained
    networks = len(list((tmp_path / "two" / "shared").glob("network-*.npz")))
    again = len(list((tmp_path / "two" / "shared").glob("retrained-*.npz")))
    assert (networks, len(trained)) == (2, networks + again)  # each once, though two processes want them


def test_a_failure_is_one_cell_and_is_tried_again_only_when_asked(grid_file: Write, tmp_path: Path, log: Log) -> None:
    path, out = (
        grid_file(NAPS.replace("nap = 0.3", 'fails = ["", "input", "bug"]').replace("[0, 1, 2, 3, 4, 5, 6, 7]", "1")),
        tmp_path / "out",
    )
    assert go(path, out) == Outcome(3, 3, 2)
    assert [line.get("error", {}).get("type") for line in lines(out)] == [None, "InputError", "ZeroDivisionError"]
    assert go(path, out) == Outcome(3, 0, 2)
    assert len(log("inspect")) == 3
    with pytest.MonkeyPatch.context() as patch:  # the bug is mended, the other failure is not
        whole = dummies.Corner.inspect
        mended = dummies.Corner(number=1)
        patch.setattr(dummies.Corner, "inspect", lambda self, *a, **k: whole(mended if self.fails == "bug" else self, *a, **k))
        assert go(path, out, retry_failed=True) == Outcome(3, 2, 1)
    assert len(lines(out)) == 5
    assert [why for _, why in tabulate(lines(out)).failures] == ["InputError: train: got what it did not like"]


def test_an_attack_that_cannot_be_is_a_failed_cell(grid_file: Write, tmp_path: Path) -> None:
    path, out = (
        grid_file(NAPS.replace("nap = 0.3\n", "").replace("0.05", "[0.05, 0.0001]").replace("2, 3, 4, 5, 6, 7", "2")),
        tmp_path / "out",
    )
    done = go(path, out)
    assert (done.cells, done.failed) == (6, 3)
    failed = [line for line in lines(out) if "error" in line]
    assert {line["attack"]["label"] for line in failed} == {"badnet 0.01 %"}
    assert all("less than one sample" in line["error"]["message"] for line in failed)


class _Mortal:
    """Workers that do the tasks of an even number and die of the others."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Results:
        for index, task in enumerate(tasks):
            yield index, (Died("the worker was ended by signal 9") if index % 2 else function(task))


def test_a_worker_that_dies_leaves_a_failed_cell(grid_file: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = NAPS.replace("nap = 0.3", "nap = 0.0").replace("[0, 1, 2, 3, 4, 5, 6, 7]", "[0, 1, 2, 3]")
    assert go(grid_file(text), out, _Mortal()) == Outcome(4, 4, 2)  # after two networks, the second of which died too
    assert [line.get("error", {}).get("message") for line in lines(out)] == [None, "the worker was ended by signal 9"] * 2
    assert all(line["provenance"]["when"] for line in lines(out))
    assert go(grid_file(text), out, retry_failed=True) == Outcome(4, 2, 0)


def test_kill_9_in_the_middle_and_on_again(grid_file: Write, tmp_path: Path, log: Log) -> None:
    path, out = grid_file(NAPS.replace("0.3", "0.0")), tmp_path / "out"
    words = [sys.executable, "-m", "tests.bench.dummies", str(path), str(out)]
    slowly = {dummies.NAP: "2", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}  # so that it is not over before it is killed
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **slowly})
    while not (out / "cells.jsonl").exists() or (out / "cells.jsonl").read_bytes().count(b"\n") < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = {line["key"]: line["detector"]["settings"]["number"] for line in lines(out)}
    assert 2 <= len(kept) < 8
    with open(out / "cells.jsonl", "ab") as file:  # as if it had been writing
        file.write(b'{"schema": "tocsin-bench/1", "key": "')
    networks = len(log("fit"))
    assert go(path, out) == Outcome(8, 8 - len(kept), 0)
    found = lines(out)
    assert Counter(line["detector"]["settings"]["number"] for line in found) == Counter(range(8))
    assert all(json.loads(text) for text in (out / "cells.jsonl").read_bytes().splitlines())
    asked = Counter(int(text.split()[1]) for text in log("inspect"))
    assert all(asked[number] == 1 for number in kept.values())
    assert networks == 2
    assert len(log("fit")) == networks
    assert [line["key"] for line in found[: len(kept)]] == list(kept)


def test_one_run_at_a_time_in_a_folder(grid_file: Write, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(InputError, match="another `tocsin bench` is at work"):
        go(grid_file(NAPS), tmp_path / "out")


def test_data_that_cannot_be_used_are_told_before_anything_runs(grid_file: Write, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("nothing\n")
    text = "".join(f'[[data]]\nname = "{n}"\ntrain = "{n}.csv"\nreserve = 5\ntest = 5\n' for n in ("a", "b"))
    with pytest.raises(InputError, match=r"(?s)data a: .*data b: "):
        go(grid_file(text + GRID.replace("seeds = [0, 1]", "")), tmp_path / "out")
    assert lines(tmp_path / "out") == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        go(grid_file(NAPS), tmp_path / "file")
    with pytest.raises(InputError, match="device"):
        run(read_grid(grid_file(NAPS)), tmp_path / "out", device="abacus")
