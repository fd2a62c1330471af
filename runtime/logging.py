"""The logging of every process: structured lines on standard error."""

import io
import logging
import sys
from typing import Any, TextIO

import stamina
import structlog

from runtime.settings import LogFormat, Settings


def configure_logging(settings: Settings) -> None:
    """Log text on a terminal and JSON elsewhere; libraries log warnings and errors only."""
    text = settings.log_format is LogFormat.TEXT or (
        settings.log_format is LogFormat.AUTO and sys.stderr.isatty()
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Local variables are left out: they hold passwords and payloads.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    last: list[structlog.typing.Processor] = (
        [
            escape_controls,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=_escaped_traceback
            ),
        ]
        if text
        else [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    # Our jobs report overlaps and late runs themselves.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    stamina.instrumentation.set_on_retry_hooks([])  # ingestor/retry.py logs each outage once.


def silence_logging() -> None:
    """Log nothing: the result of the command names what went wrong."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=True,
    )
    logging.disable(logging.CRITICAL)


def escape_controls(
    _: Any, __: str, fields: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape what would end a line of text or command a terminal: values may come from devices."""
    return {
        name: _escaped(value) if isinstance(value, str) else value for name, value in fields.items()
    }


def _escaped_traceback(target: TextIO, error: structlog.typing.ExcInfo) -> None:
    """A traceback, indented: messages of errors may hold lines that a device sent."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    target.write("\n".join(f"    {_escaped(line)}" for line in text.getvalue().split("\n")))


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
