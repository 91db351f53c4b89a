"""The exchange types that come with the broker; each is loaded by its entry point."""
