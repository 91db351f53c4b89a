"""The embedded store: the contract, its LMDB form and its in-memory twin."""
