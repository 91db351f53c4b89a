"""The `leveret ctl` command line: a client of the control socket."""
