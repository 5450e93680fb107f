"""The host, repaired, for every test of the adapters."""

from __future__ import annotations

import pytest


@pytest.fixture
def registered() -> None:
    """The plugin's classes in the host's registries, and the repairs, as a config imports them."""
    import ebm3d.register  # noqa: F401
