"""What a release says of an experiment, and how many subjects one takes. Pure.

Open `uplift.py` first; `cells.py` turns estimated cells into rates of arms, `plan.py` tells power and sample
size, `report.py` is what doors and clients give.
"""
