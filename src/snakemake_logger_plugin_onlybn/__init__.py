"""Snakemake's logger plugin `onlybn`: shows how far the study's runs are (profiles: `logger: onlybn`).

With an option for Snakemake's own output (--quiet, --verbose, --printshellcmds, --debug-dag or
--show-failed-logs) that is what is shown. A dry run lists how many jobs of each rule there are. Every
Snakemake imports this module, those inside of cluster jobs too: what takes time, or may be missing there, is
imported when it is used.
"""

from logging import ERROR, WARNING, LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

OWN_OUTPUT = ("quiet", "verbose", "printshellcmds", "debug_dag", "show_failed_logs")


class LogHandler(LogHandlerBase):
    """Shows Snakemake's log records on a display, or as Snakemake itself would where there is none."""

    def __post_init__(self) -> None:
        import sys

        from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

        given = self.common_settings
        stream = sys.stdout if given.stdout else sys.stderr
        self.plain = ColorizingTextHandler(nocolor=given.nocolor, stream=stream)
        self.plain.setFormatter(DefaultFormatter(given.quiet, given.show_failed_logs))
        options = (given.quiet, given.debug_dag, given.verbose, given.dryrun, given.printshellcmds)
        self.shown = DefaultFilter(*options)
        own_output = any(getattr(given, name) for name in OWN_OUTPUT)
        self.counts_jobs, self.counted = given.dryrun and not own_output, False
        self.display = None
        if stream and not given.dryrun and not own_output:  # Python has no stream that is closed
            try:
                from snakemake_logger_plugin_onlybn.display import Display
            except ImportError:  # rich, or what it shows, is not installed here
                return
            self.display = Display(stream, no_color=given.nocolor)

    def emit(self, record: LogRecord) -> None:
        """Show a record."""
        try:
            if self.display and self.display.take(record):
                return
            if self.counts_jobs:
                shown = self._is_count(record)
            else:  # why jobs failed is shown under --quiet too
                shown = self.shown.filter(record) or (hasattr(record, "onlybn") and record.levelno >= ERROR)
            if shown:
                self.plain.emit(record)
        except Exception:
            self.handleError(record)

    def _is_count(self, record: LogRecord) -> bool:
        """Say whether a record counts the jobs of a dry run, or tells why there are none."""
        if getattr(record, "event", None) == LogEvent.RUN_INFO:
            first, self.counted = not self.counted, True  # Snakemake tells it twice
            record.msg += "\nThis was a dry run. With -p it lists every job."
            return first
        return record.levelno >= WARNING or record.getMessage().startswith("Nothing to be done")

    def close(self) -> None:
        """Show how it ended, and leave the terminal whole."""
        if self.display:
            self.display.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Say that Snakemake shall write nothing to the terminal itself."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Say that there is no file."""
        return False

    @property
    def has_filter(self) -> bool:
        """Say that this chooses by itself what it shows."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Say that this formats by itself."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """Say that the graph of rules is not needed."""
        return False
