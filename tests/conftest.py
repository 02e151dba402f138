"""Settings for every test: decoded data go to a throw-away folder, one core is used, and hypothesis has no deadline (shared machines are
slow)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace

# Before the libraries are loaded that read them. `make test` runs one process a core, and so sums are taken in one order everywhere.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
# The floors of some tests are those of a CPU's sums, so that all run on it. On a GPU: TOCSIN_TEST_CUDA=1 (docs/architecture.md, "Tests").
if "TOCSIN_TEST_CUDA" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch
from hypothesis import settings

from tocsin.cli import main

settings.register_profile("tocsin", deadline=None, print_blob=True)
settings.load_profile("tocsin")

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; gives code, out and err."""

    def call(*words: object) -> SimpleNamespace:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=int(ended.value.code or 0), out=out, err=err)

    return call


@pytest.fixture(autouse=True)
def _same_networks() -> None:
    """A network that a test builds without naming a seed has the same weights in every run: CI once drew one whose heat was all 0."""
    torch.manual_seed(0)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For what threads might change."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The person's own cache is neither read nor written, by subprocesses neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOCSIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
