"""The store on LMDB: one environment, one writer, group commit."""
