"""Settings for every test: decoded data go to a throw-away folder, and hypothesis has no deadline (shared machines are slow)."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
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


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The person's own cache is neither read nor written, by subprocesses neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOCSIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
