"""What a newcomer does once the bridge runs; printed by `make run`."""

# ruff: noqa: INP001, T201 (a program, and it speaks to a person)

import os

COMMAND = "callbackAfterAddFriendAgreeCommand"


def next_steps(url: str, *, send: str, watch: str, show: str, stop: str) -> str:
    """Say how to send a callback through.

    Args:
        url: Of the receiver, with its path.
        send: The command `openim-bridge send`, as it is called here.
        watch: Where the worker's log line is to be seen.
        show: The command that shows what the worker wrote.
        stop: How to stop it all.

    """
    return f"""
The bridge runs. In config/webhooks.yml of OpenIM, say where it is and what to send:

    url: {url}
    afterAddFriendAgree:
      enable: true

Or be OpenIM yourself, in another terminal:

    curl --data-binary @tests/samples/{COMMAND}.json \\
        --header 'Content-Type: application/json' --header 'operationID: try-1' \\
        {url}/{COMMAND}

Without curl:

    {send} {COMMAND}

A worker of its own handles it: {watch}. What it wrote, newest first:

    {show}

{stop}
"""


if __name__ == "__main__":
    address = os.environ.get("RECEIVER_ADDRESS", "127.0.0.1:10006")
    path = os.environ.get("BRIDGE_PATH", "/callbackExample")
    print(
        next_steps(
            f"http://{address}{path}",
            send="docker compose exec receiver openim-bridge send",
            watch="see docker compose logs consumers",
            show="docker compose exec consumers openim-consumers friends",
            stop="To stop: docker compose down. To forget its data as well: add --volumes",
        )
    )
