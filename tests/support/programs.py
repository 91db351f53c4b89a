"""Real peers that are programs of the system: where they are, and what a test does without them."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["program"]


def program(name: str, package: str, *, at: str | None = None) -> str:
    """Its path. `package`: Debian's; `at`: where it may be if it is not on the PATH.

    Without it the test is skipped on a user's machine; where everything should be there (CI is set) it fails.
    """
    found = shutil.which(name) or at
    if found is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"{name} is not installed (Debian: {package})")
    assert found is not None
    return found
