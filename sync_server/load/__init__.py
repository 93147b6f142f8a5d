"""`edge-sync load`: many simulated devices in one process, with the production codec and conversation."""
