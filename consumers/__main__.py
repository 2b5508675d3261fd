"""Runs `openim-consumers` where the command is not installed: `python -m consumers`."""

from consumers.cli.main import main

main(prog_name="openim-consumers")
