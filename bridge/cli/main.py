"""The command `openim-bridge`, and where each of its own is."""

from bridge.cli.grammar import program

COMMANDS = {
    "config": "bridge.cli.config:group",
    "decide": "bridge.cli.decide:decide",
    "doctor": "bridge.cli.doctor:doctor",
    "journal": "bridge.cli.journal:group",
    "receive": "bridge.cli.receive:receive",
    "replay": "bridge.cli.replay:replay_",
    "schema": "bridge.cli.documents:schema",
    "secrets": "bridge.cli.secrets:group",
    "send": "bridge.cli.send:send",
    "simulate": "bridge.cli.simulate:simulate",
    "subscribe": "bridge.cli.subscribe:subscribe",
    "subscriptions": "bridge.cli.subscriptions:subscriptions_",
    "tail": "bridge.cli.tail:tail_",
    "topology": "bridge.cli.topology:group",
    "unsubscribe": "bridge.cli.subscriptions:unsubscribe",
    "webhooks-yml": "bridge.cli.webhooks_yml:group",
    "why": "bridge.cli.why:why_",
}


@program(COMMANDS, added="openim_bridge.commands")
def main() -> None:
    """Take OpenIM's callbacks, keep them on disk and publish them to RabbitMQ.

    Settings come from BRIDGE_… variables and from the file that BRIDGE_CONFIG names;
    docs/reference.md lists them.
    """
