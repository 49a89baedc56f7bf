"""Fixtures that every test may ask for. A missing tool fails a test here; it never skips one."""

from __future__ import annotations

import pytest

from releasegate.tools import store


@pytest.fixture(scope="session")
def helm() -> store.Tool:
    """The locked helm, from RELEASEGATE_TOOLS, the tool cache, or PATH."""
    found = store.find("helm")
    assert isinstance(found, store.Tool), f"{found}: run `make setup`"
    return found
