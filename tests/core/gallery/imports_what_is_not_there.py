"""Needs a package that nobody installed."""

from __future__ import annotations

import numbers_of_mine  # type: ignore[import-not-found]  # noqa: F401

from deploykit import hookimpl  # noqa: F401
