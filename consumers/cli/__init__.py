"""The command `openim-consumers`: `main`, and a module for each group of its commands."""
