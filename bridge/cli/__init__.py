"""The command `openim-bridge`: `main`, and a module for each group of its commands."""
