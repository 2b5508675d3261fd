"""The handlers that settings name, as the commands load them."""

import sys

from bridge.commands import BAD_SETTINGS, fail
from consumers import modules
from consumers.registry import BadHandlers
from consumers.settings import Worker as Settings


def load(settings: Settings) -> modules.Loaded:
    """Load them, also from where the command is called: an App's own modules lie there.

    Raises:
        BadHandlers: with why not.

    """
    sys.path.insert(0, "")
    return modules.load(settings.handlers.split(","))


def loaded(settings: Settings) -> modules.Loaded:
    """Load them, or say why not and exit."""
    try:
        return load(settings)
    except BadHandlers as error:
        fail(str(error), BAD_SETTINGS)
