"""The demo: a shop's kiosks personalize on real purchases, a customer withdraws, a statistic is released.

`make demo` runs it. Read `story.py` first: it is the demo, act by act.
"""
