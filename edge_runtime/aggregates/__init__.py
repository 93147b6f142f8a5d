"""Minimized aggregates on the device: noise first, budget before sending, one answer drawn once.

Open `report.py` first; `mechanisms/` is pure and shared with the server.
"""
