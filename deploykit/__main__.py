"""``python -m deploykit``: the command line, where no script is installed."""

from __future__ import annotations

from deploykit.cli.main import run

if __name__ == "__main__":
    run()
