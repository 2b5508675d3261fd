"""The handlers that come with the bridge; an App's own live in modules of its own."""
