"""Writing a new plugin: a complete, installable package whose tests pass, for its author to change."""

from __future__ import annotations

from deploykit.scaffold.kinds import KINDS, PluginKind
from deploykit.scaffold.names import PluginNames, plugin_names
from deploykit.scaffold.new_project import write_project

__all__ = ["KINDS", "PluginKind", "PluginNames", "plugin_names", "write_project"]
