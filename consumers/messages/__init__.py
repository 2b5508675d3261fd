"""The message archive: every message that OpenIM accepted, in SQL."""
