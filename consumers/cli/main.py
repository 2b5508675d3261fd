"""The command `openim-consumers`, and where each of its own is."""

from bridge.cli.grammar import program

COMMANDS = {
    "api": "consumers.friends.cli:api",
    "config": "consumers.cli.config:group",
    "dead-letters": "consumers.cli.dead_letters:dead_letters",
    "doctor": "consumers.cli.doctor:doctor_",
    "friends": "consumers.friends.cli:friends",
    "messages": "consumers.messages.cli:messages",
    "subscriptions": "consumers.cli.subscriptions:subscriptions",
    "topology": "consumers.cli.topology:group",
    "work": "consumers.cli.work:work",
}


@program(COMMANDS)
def main() -> None:
    """Apply business logic to OpenIM's callbacks, taken from RabbitMQ.

    Settings come from CONSUMERS_… variables and from the file that CONSUMERS_CONFIG names;
    docs/reference.md lists them.
    """
