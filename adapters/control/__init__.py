"""The local control door: what `leveret ctl` talks to."""
