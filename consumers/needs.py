"""What workers need in RabbitMQ."""

from collections.abc import Iterable

from bridge import outcomes
from bridge.inspection import together
from bridge.rights import SHARED
from bridge.topology import Topology, subscription
from consumers.registry import Handlers
from consumers.settings import Worker as Settings


def of(handlers: Handlers, settings: Settings) -> Topology:
    """Give what one subscription has for itself."""
    partitions = settings.partitions if handlers.ordered else 0
    return subscription(handlers.subscription, handlers.events, partitions=partitions)


def all_of(subscriptions: Iterable[Handlers], settings: Settings) -> Topology:
    """Give what a worker with these settings declares.

    Queues of questions are not among it: they come and go with their workers.
    """
    parts = [SHARED, *(of(each, settings) for each in subscriptions)]
    if settings.outcomes_days:
        parts.append(outcomes.topology(settings.outcomes_days, settings.outcomes_bytes))
    return together(parts)
