"""OpenAPI 3.1: how operations are described, and the document that describes all of them."""
