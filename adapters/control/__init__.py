"""The local control listener: what `leveret ctl` talks to."""
