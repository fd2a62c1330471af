"""The settings of a command."""

from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings


def command_settings() -> Settings:
    """Read the settings and let them set up the log. Raises ConfigurationError."""
    settings = load_settings()
    configure_logging(settings)
    return settings
