"""Durable topology: as records in the store, and as definitions documents."""
