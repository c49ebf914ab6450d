"""What a command raises beside the errors of what it uses."""

from __future__ import annotations

from nla.errors import NLAError


class CommandError(NLAError):
    """A command is unknown, or lacks what it needs."""
