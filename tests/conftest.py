"""Settings for every test: decoded data go to a throw-away folder, and hypothesis has no deadline (shared machines are slow)."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("tocsin", deadline=None, print_blob=True)
settings.load_profile("tocsin")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The person's own cache is neither read nor written, by subprocesses neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOCSIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
