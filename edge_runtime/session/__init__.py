"""Session features: events in, exact values out. Pure. Start at `plan.py`; meanings are in `operators/`."""
