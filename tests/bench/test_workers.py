from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.bench import light
from tocsin.bench.workers import Cluster, Died, Here, Processes, Workers
from tocsin.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("workers", [Here(), Processes(1), Processes(2)], ids=["here", "one", "two"])
def test_every_task_gives_its_result_once(workers: Workers) -> None:
    assert sorted(workers.map(light.twice, range(5))) == [(k, 2 * k) for k in range(5)]
    assert list(workers.map(light.twice, [])) == []


def test_a_process_that_dies_takes_one_task_with_it() -> None:
    found = dict(Processes(2).map(light.sour, range(6)))
    assert found.pop(2) == Died("the worker was ended by signal 9")
    assert found.pop(3) == Died("the worker ended with code 1")
    assert found == {0: 0, 1: 1, 4: 4, 5: 5}


def test_processes_share_the_cores() -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    assert [text for _, text in Processes(1).map(light.threads, [0])] == [str(torch.get_num_threads())]
    assert [text for _, text in Processes(2).map(light.threads, [0])] == [str(max(1, torch.get_num_threads() // 2))]
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_stopping_early_ends_the_processes(tmp_path: Path) -> None:
    results = Processes(1).map(light.twice, [1, 2])
    assert next(results) == (0, 2)
    results.close()
    assert list(results) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    parent = subprocess.Popen([sys.executable, "-m", "tests.bench.light", str(tmp_path)], cwd=ROOT, env=env)
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(file.name) for file in tmp_path.iterdir()]
    assert all(map(alive, workers))
    parent.kill()
    parent.wait()
    until(lambda: not any(map(alive, workers)))


def alive(pid: int) -> bool:
    """Not ended, nor ended and waiting for somebody to ask (in a container, perhaps nobody does)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(true: object) -> None:
    for _ in range(1200):
        if true():  # type: ignore[operator]
            return
        time.sleep(0.05)
    pytest.fail("waited a minute in vain")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--ray: Ray is not installed; .*tocsin\[ray\]"):
        list(Cluster("auto").map(light.twice, [1]))
