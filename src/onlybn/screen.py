"""A terminal that stays whole, whatever happens to the process that draws on it."""

from typing import TextIO

from rich.console import Console


class Screen(Console):
    """A console that never hides the cursor, so that a killed process leaves it visible."""

    def __init__(self, file: TextIO, **options):
        super().__init__(file=file, highlight=False, markup=False, **options)
        # Not `is_terminal`, which the environment may claim of a file (FORCE_COLOR).
        self.can_draw = file.isatty() and not self.is_dumb_terminal

    def on_broken_pipe(self) -> None:
        """Write nothing more to a reader that is gone; rich would end the process."""
        self.quiet = True

    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor as it is."""
        return False
