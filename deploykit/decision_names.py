"""How a marked decision is called in a written file; importable without torch."""

from __future__ import annotations

from typing import Final

VALUE_PREFIX: Final = "decision/"
"""Names of marked values in a file start with this."""
