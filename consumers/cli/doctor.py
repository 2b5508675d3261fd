"""The command `openim-consumers doctor`."""

import click

from bridge import logs
from bridge.cli.doctor import settings_or_finding, shown
from bridge.cli.grammar import JSON
from bridge.commands import run
from bridge.doctor import Check, machine
from bridge.doctor.rabbitmq import RabbitMQ
from bridge.topology import OUTCOMES, RETRY, SUBSCRIPTIONS, work_queue
from consumers import doctor, needs
from consumers.cli import handlers
from consumers.registry import BadHandlers, Handlers
from consumers.settings import Worker as Settings

UNHANDLED = "nothing is handled, and callbacks wait in RabbitMQ until this is mended"

MOST = 50
"""Queues that are tried, of as many subscriptions."""


@click.command("doctor")
@JSON
def doctor_(*, as_json: bool) -> None:
    """Look at all that workers depend on, and say in plain words what is wrong.

    Nothing is changed, also while workers run. Exits with 1 if something failed; a warning is
    no failure.

    Example: openim-consumers doctor
    """
    logs.set_up("text", "error")
    settings = settings_or_finding(Settings, as_json=as_json)
    loaded, problem = _loaded(settings)
    rabbitmq = RabbitMQ(
        settings,
        needs.all_of(loaded, settings),
        _publishes(settings),
        UNHANDLED,
        program="openim-consumers",
        consumes=[_queue(each) for each in loaded[:MOST]],
    )
    checks = [
        Check(name="software", look=machine.software),
        doctor.handlers(loaded, problem),
        *doctor.Database(url=settings.database_url).checks,
        *rabbitmq.checks,
    ]
    run(shown(checks, rabbitmq, as_json=as_json))


def _loaded(settings: Settings) -> tuple[list[Handlers], str]:
    try:
        return handlers.load(settings).handlers, ""
    except BadHandlers as error:
        return [], str(error)


def _publishes(settings: Settings) -> list[tuple[str, str]]:
    """Give the exchanges that a worker publishes to, each with a routing key."""
    exchanges = [each.name for each in SUBSCRIPTIONS.exchanges]
    exchanges += [OUTCOMES] if settings.outcomes_days else []
    # To that, RabbitMQ itself moves what has waited.
    return [(name, "") for name in exchanges if name != RETRY]


def _queue(of: Handlers) -> str:
    return work_queue(of.subscription, 0 if of.ordered else None)
