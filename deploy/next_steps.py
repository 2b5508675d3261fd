"""What a newcomer does once the bridge runs; printed by `make run`."""

# ruff: noqa: INP001, T201 (a program, and it speaks to a person)

import os
from pathlib import Path

COMMAND = "callbackAfterAddFriendAgreeCommand"


TEXT = """
The bridge runs. In config/webhooks.yml of OpenIM, say where it is and what to send:

    url: {url}
    afterAddFriendAgree:
      enable: true

Or be OpenIM yourself, in another terminal:

    curl --data-binary @tests/samples/{command}.json \\
        --header 'Content-Type: application/json' --header 'operationID: try-1' \\
        {url}/{command}

Without curl:

    {send} {command}

A worker of its own handles it: {watch}. What it wrote, newest first:

    {show}

See them as they come, as the App's backend does (docs/friends.md):

    curl --no-buffer --header "Authorization: Bearer {token}" \\
        {api}/friends/verifications/stream

See it in a browser, as admin (docs/console.md), with the password that `{password}`
shows:

    {console}

{stop}
"""


def next_steps(url: str, **words: str) -> str:
    """Say how to send a callback through.

    Args:
        url: Of the receiver, with its path.
        words: What differs between the ways to run it:
            send: The command `openim-bridge send`, as it is called here.
            watch: Where the worker's log line is to be seen.
            show: The command that shows what the worker wrote.
            api: URL of the friends API.
            token: What a shell makes its token of.
            console: URL of the web console.
            password: The command that shows the password of its user `admin`.
            stop: How to stop it all.

    """
    return TEXT.format(url=url, command=COMMAND, **words)


if __name__ == "__main__":
    address = os.environ.get("RECEIVER_ADDRESS", "127.0.0.1:10006")
    friends = os.environ.get("FRIENDS_API_ADDRESS", "127.0.0.1:10007")
    console = os.environ.get("CONSOLE_ADDRESS", "127.0.0.1:10009")
    given = Path(__file__).parent / "secrets" / "receiver" / "path"
    path = given.read_text(encoding="utf-8").strip() if given.exists() else "/callbackExample"
    print(
        next_steps(
            f"http://{address}{path}",
            send="docker compose exec receiver openim-bridge send",
            watch="see docker compose logs consumers",
            show="docker compose exec consumers openim-consumers friends",
            api=f"http://{friends}",
            token="$(docker compose exec -T api cat /run/secrets/token)",  # noqa: S106  # a command
            console=f"http://{console}",
            password="docker compose exec console cat /run/secrets/password",  # noqa: S106  # a command
            stop="To stop: docker compose down. To forget its data as well: add --volumes",
        )
    )
