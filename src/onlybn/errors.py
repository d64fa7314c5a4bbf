"""Errors that a user can cause, each reported in one sentence."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error of the user's: one sentence says what is wrong, where, and what is allowed; no traceback."""

    def shown(self) -> str:
        """Return the text that the user reads: one line for each sentence."""
        return "\n".join(f"error: {line}" for line in str(self).splitlines())


def unknown_message(kind: str, name: object, allowed: Iterable[str]) -> str:
    """Return the message that `name` is not a known `kind`, with the nearest allowed name and all others."""
    allowed = list(allowed)
    nearest = get_close_matches(str(name), allowed, n=1)
    suggestion = f"; did you mean '{nearest[0]}'?" if nearest else ";"
    return f"unknown {kind} '{name}'{suggestion} Allowed: {', '.join(allowed)}".replace(
        "; Allowed", "; allowed"
    )
