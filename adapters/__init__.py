"""The listeners: each speaks one protocol to its clients and broker words to core."""
