"""The shell completes both programs, with the lines that docs/operating.md gives for it."""

import os
import re
import subprocess

import pytest

from tests.documented import COMMANDS, SOURCE

PROGRAMS = SOURCE / ".venv" / "bin"


def completed(*words: str) -> list[str]:
    """Press Tab behind the last of `words` in a bash that the documented lines are in."""
    lines = [line for line in COMMANDS if line.startswith("eval ")]
    program = words[0].replace("-", "_")
    script = "\n".join(
        (
            *lines,
            f"COMP_WORDS=({' '.join(map(repr, words))})",
            f"COMP_CWORD={len(words) - 1}",
            f"_{program}_completion {words[0]}",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        )
    )
    done = subprocess.run(  # noqa: S603
        ["bash", "-c", script],  # noqa: S607
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("openim-bridge", "rep"), ["replay"]),
        (("openim-bridge", "send", "afteraddfriendag"), ["AfterAddFriendAgree"]),
        (("openim-consumers", "dead-letters", "dis"), ["discard"]),
    ],
)
def test_tab_completes_a_command_and_a_callback(
    words: tuple[str, ...], wanted: list[str]
) -> None:
    assert completed(*words) == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["openim-bridge", "openim-consumers"])
def test_every_shell_that_is_named_has_a_script(shell: str, program: str) -> None:
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    done = subprocess.run(  # noqa: S603
        [PROGRAMS / program],
        env={**os.environ, variable: f"{shell}_source"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert re.search(rf"\b{shell}_complete\b", done.stdout)
