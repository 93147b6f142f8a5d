"""Minimized aggregates on the server: rounds, estimates with intervals, releases that stand.

Open `rounds.py` first; `estimate.py` is pure.
"""
