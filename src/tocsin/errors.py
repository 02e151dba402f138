"""The two ways a job can end without an answer. The command line turns them into exit codes."""

from __future__ import annotations


class InputError(ValueError):
    """What the person gave cannot be used: names the argument, what was got, what is allowed (exit code 2)."""


class AuditIncomplete(RuntimeError):
    """The audit started and could not finish: disk full, out of memory, out of time (exit code 3)."""
