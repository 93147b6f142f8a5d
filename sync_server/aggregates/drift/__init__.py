"""Has a histogram moved away from a reference or an earlier release? From published numbers alone. Pure.

Open `report.py` first: what is compared and the verdict. `drift.py` has the intervals, `divergence.py` the
measures.
"""
