"""A Ray cluster for the tests of a module."""

from __future__ import annotations

import pytest
from ray_nodes import two_nodes


@pytest.fixture(scope="module")
def cluster():
    """Its address."""
    with two_nodes() as address:
        yield address
