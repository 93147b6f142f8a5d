"""The denial journal: every ledger step, elsewhere, before anybody is told of it."""
