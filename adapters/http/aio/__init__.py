"""aiohttp on trio: the event loop, the transport and the protocol under the HTTP adapter."""
