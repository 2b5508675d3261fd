"""Runs `openim-bridge` where the command is not installed: `python -m bridge`."""

from bridge.cli.main import main

main(prog_name="openim-bridge")
