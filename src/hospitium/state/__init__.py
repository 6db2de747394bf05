"""What survives a crash: the ledger of a run, and the store of its params."""
