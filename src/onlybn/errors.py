"""Errors that a user can cause, each told in one sentence."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """What is wrong, where, and what is allowed, in one sentence; shown without a traceback."""

    def shown(self) -> str:
        """Return what the user reads: each sentence on a line of its own."""
        return "\n".join(f"error: {line}" for line in str(self).splitlines())


def unknown_message(kind: str, name: object, allowed: Iterable[str]) -> str:
    """Say that `name` is no `kind`: the nearest allowed name, then all of them."""
    allowed = list(allowed)
    nearest = get_close_matches(str(name), allowed, n=1)
    suggestion = f"; did you mean '{nearest[0]}'?" if nearest else ";"
    return f"unknown {kind} '{name}'{suggestion} Allowed: {', '.join(allowed)}".replace(
        "; Allowed", "; allowed"
    )
