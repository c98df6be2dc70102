"""The lab's one exception for people. The command line prints its text without a traceback."""

from __future__ import annotations


class LabError(Exception):
    """Something a user can cause or mend: the text says what happened and what to do."""
