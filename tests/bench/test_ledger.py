from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tocsin.bench.ledger import SCHEMA, Ledger
from tocsin.errors import AuditIncomplete, InputError


def line(key: str, **more: object) -> dict[str, object]:
    return {"key": key, "seed": 0, "data": {}, "attack": {}, "detector": {}, "victim": {}, **more}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "cells.jsonl")
    assert ledger.read() == []
    ledger.append(line("a", x=float("nan"), y=(1, 2), z="µ\n"))
    ledger.append(line("b"))
    ledger.append(line("a", x=1.5))
    assert [entry["key"] for entry in ledger.read()] == ["a", "b", "a"]
    first = ledger.read()[0]
    assert (first["x"], first["y"], first["z"], first["schema"]) == (None, [1, 2], "µ\n", SCHEMA)
    assert ledger.latest()["a"]["x"] == 1.5


def test_a_kill_at_any_byte_costs_at_most_the_line_being_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "cells.jsonl")
    for key in "ab":
        ledger.append(line(key, text="é" * 9))
    whole = ledger.path.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    for cut in range(len(whole)):
        ledger.path.write_bytes(whole[:cut])
        kept = ["a"] if cut >= end_of_first else []
        assert [entry["key"] for entry in ledger.read()] == kept
        if cut in (0, 1, end_of_first - 1, end_of_first, end_of_first + 1, len(whole) - 1):  # every append waits for the disk
            ledger.append(line("c"))
            assert [entry["key"] for entry in ledger.read()] == [*kept, "c"]
            assert all(json.loads(text) for text in ledger.path.read_bytes().splitlines())


@pytest.mark.parametrize("text", ["not json", "[1]", "{}", '{"schema": "other/1", "key": "a"}', '{"key": "a"}', "[" * 100_000])
def test_a_line_of_another_kind_is_refused_by_number(tmp_path: Path, text: str) -> None:
    ledger = Ledger(tmp_path / "cells.jsonl")
    ledger.append(line("a"))
    with open(ledger.path, "a") as file:
        file.write(text + "\n")
    with pytest.raises(InputError, match=r"line 2 of .*cells\.jsonl"):
        ledger.read()


def test_a_disk_that_refuses_is_no_bad_input(tmp_path: Path) -> None:
    (tmp_path / "cells.jsonl").mkdir()
    with pytest.raises(AuditIncomplete, match="could not be written"):
        Ledger(tmp_path / "cells.jsonl").append(line("a"))


def test_several_processes_do_not_interleave(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tocsin.bench.ledger import Ledger\n"
        "for k in range(8): Ledger(Path(sys.argv[1])).append({'key': sys.argv[2] + str(k), 'seed': k, 'data': {}, 'attack': {},"
        " 'detector': {}, 'victim': {}, 'text': sys.argv[2] * 20_000})"
    )
    place = str(tmp_path / "cells.jsonl")
    team = [subprocess.Popen([sys.executable, "-c", code, place, name]) for name in "ab"]
    assert [process.wait() for process in team] == [0, 0]
    lines = Ledger(Path(place)).read()
    assert sorted(entry["key"] for entry in lines) == sorted(f"{name}{k}" for name in "ab" for k in range(8))
    assert all(set(entry["text"]) == {entry["key"][0]} for entry in lines)
