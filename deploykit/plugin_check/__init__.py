"""Running the contract over somebody's plugin, installed or not, with a report that its author can read."""

from __future__ import annotations

from deploykit.plugin_check.process import check_plugin
from deploykit.plugin_check.report import Check, Group, PluginReport
from deploykit.plugin_check.subject import Subject, find_subject

__all__ = ["Check", "Group", "PluginReport", "Subject", "check_plugin", "find_subject"]
