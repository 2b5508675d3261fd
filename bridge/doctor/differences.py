"""What RabbitMQ has, compared with what is wanted: how bad it is."""

from collections.abc import Sequence

from bridge.doctor.checks import Wrong
from bridge.inspection import Compared, Difference
from bridge.topology import ARCHIVE

SHOWN = 5
"""Differences that are named; `topology verify` names all."""


def judged(found: Compared, count: int, program: str, means: str) -> str:
    """Say that all is there.

    Args:
        found: By `inspection.compared`.
        count: How many exchanges and queues are wanted.
        program: Whose commands mend what is not.
        means: What it means for callbacks if something is missing.

    Raises:
        Wrong: something is not there, or is otherwise.

    """
    grave = [each for each in found.differences if not _is_harmless(each)]
    if any(each.by_policy for each in grave):
        raise Wrong(
            _named(sorted(grave, key=lambda each: not each.by_policy)),
            means="RabbitMQ drops callbacks that it has confirmed, or brings them elsewhere",
            remedy="have the policy name other queues, or remove it: rabbitmqctl list_policies"
            " and list_operator_policies show it",
        )
    if grave:
        raise Wrong(
            _named(grave),
            means=means,
            remedy=f"`{program} topology apply` makes what is missing, as does a start of the"
            f" process where its user may; `{program} topology verify` names all differences",
        )
    if found.differences:
        raise Wrong(
            _named(found.differences),
            means="callbacks travel; but the archive keeps them for another time than wanted,"
            " or what nobody handles any more becomes dead letters",
            remedy=f"`{program} topology plan` says what can be done",
            warning=True,
        )
    there = f"all {count} exchanges and queues are there"
    if found.unseen:
        return f"{there}; their arguments and bindings were not seen: {found.unseen}"
    return f"{there}, with their bindings"


def _is_harmless(difference: Difference) -> bool:
    return difference.kind == "extra" or (
        difference.kind == "different" and difference.what == f"queue {ARCHIVE}"
    )


def _named(differences: Sequence[Difference]) -> str:
    named = "; ".join(f"{each.what} {each.how}" for each in differences[:SHOWN])
    more = len(differences) - SHOWN
    return f"{named}; and {more} more" if more > 0 else named
