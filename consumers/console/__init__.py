"""The web console: what passes, what is stuck and why, in a browser."""
