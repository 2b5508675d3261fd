"""Friends in SQL, kept by handlers and served to the App's backend."""
