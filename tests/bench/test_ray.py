"""A local Ray cluster of two machines with a core each gives the table of one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import dummies
from tests.bench.test_running import GRID, _one_thread, go, lines, numbers  # noqa: F401
from tocsin.bench import running
from tocsin.bench.render import markdown
from tocsin.bench.running import Outcome
from tocsin.bench.table import tabulate
from tocsin.bench.workers import Cluster

pytest.importorskip("ray", reason="Ray, the extra 'ray', is not installed")
ROOT = Path(__file__).parents[2]


def test_a_cluster_gives_the_table_of_one_process(
    grid_file: Callable[[str], Path], tmp_path: Path, log: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster as Machines

    path = grid_file("retrain = true\n" + GRID.replace("[0, 1]", "[0]"))
    go(path, tmp_path / "one")
    local = len(log("inspect"))
    # what the machines' processes start with
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        machines.add_node(num_cpus=1)
        monkeypatch.setattr(running, "perform", dummies.work)
        assert go(path, tmp_path / "ray", Cluster(machines.address)) == Outcome(6, 6, 0)
        assert go(path, tmp_path / "ray", Cluster(machines.address)) == Outcome(6, 0, 0)
    finally:
        machines.shutdown()
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "one")
    assert markdown(tabulate(lines(tmp_path / "ray"))) == markdown(tabulate(lines(tmp_path / "one")))
    assert len(log("inspect")) == 2 * local
    workers = {text.split()[1] for text in log("fit")} - {str(os.getpid())}
    assert len(workers) == 2
