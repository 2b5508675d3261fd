"""The blocks of code in the documents: commands, and what goes into files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[1]
DOCUMENTS = sorted([*SOURCE.glob("*.md"), *SOURCE.glob("docs/*.md")])

PROGRAMS = ("openim-bridge", "openim-consumers", "curl")
"""What is run in a test."""

NOT_RUN = {
    "make": "sets up or runs all of the project; CI calls it",
    "docker": "needs the stack of Compose; CI brings it up",
    "kubectl": "needs a cluster",
    ".venv/bin/python deploy": "writes into the checkout; its own tests do",
    "pip": "fetches packages",
    "kill": "finds a receiver by name, whosoever it is",
    "rabbitmqctl": "changes a broker that others use",
    "eval ": "changes the shell that it is called in; its own test does",
    "_OPENIM_": "is for another shell",
    "openim-consumers work": "runs until it is stopped; the test runs one",
    "openim-bridge console": "runs until it is stopped; its own tests do",
}
"""Commands that are looked at only, and why."""


@dataclass(frozen=True)
class Block:
    """A block of code."""

    document: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its commands, each on one line, without comments."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"(^|\s+)# .*", "", line).strip() for line in joined.splitlines()]
        return [line for line in lines if line]

    def is_shell(self) -> bool:
        """Say whether it is one of commands, variables set in between included."""
        known = re.compile("|".join((*PROGRAMS, *NOT_RUN, r"[A-Za-z_]+=")))
        return all(known.match(line) for line in self.commands)

    def runs(self) -> bool:
        """Say whether a test can run it."""
        return self.is_shell() and not any(
            line.startswith(tuple(NOT_RUN)) or "docker" in line or ".venv" in line
            for line in self.commands
        )


def blocks() -> Iterator[Block]:
    """Give all blocks, but what is made from code."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        own = re.sub(r"<!-- code.*?<!-- end -->", "", text, flags=re.DOTALL)
        for found in re.findall(r"(?:^|\n)\n((?:    .*\n(?:\n+(?=    ))?)+)", own):
            lines = [line.removeprefix("    ") for line in found.splitlines()]
            # One may stand below the other, each with the name of its file.
            for part in re.split(r"\n\n+(?=# \w+\.py\n)", "\n".join(lines)):
                yield Block(path.name, part)


BLOCKS = list(blocks())
SHELL = [block for block in BLOCKS if block.is_shell()]
COMMANDS = [line for block in SHELL for line in block.commands]
