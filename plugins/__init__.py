"""The plugin contract, its loader and the bundled plugins."""
