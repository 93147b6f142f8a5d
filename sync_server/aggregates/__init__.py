"""Minimized aggregates on the server. Open `rounds.py` first.

The life of a round: `rounds.py` opens and stops, `tickets.py` says who may answer, `intake.py` stores what
devices bring, `collector.py` opens it, `counting.py` adds it to the tally, `estimate.py` makes numbers of the
tally (by `estimators/`), and `release.py` is what is published; `documents.py` and `table.py` show it.
What is built on releases: `drift/`, `experiments/`, `health.py`. Before anybody is asked: `plan.py`.
"""
