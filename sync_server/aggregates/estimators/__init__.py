"""What a tally says, one family a file, and what it will say before anybody was asked. Pure.

`shares.py` histogram and count, `bounded_mean.py` mean and sum, `quantiles.py` over `prefixes.py` quantile,
`sums.py` everything in curator mode; `interval.py` is what they share; `covariance.py` is for sums and
differences of shares; `expected.py` tells the errors to come. The other half, the drawing of the answers, is
in `edge_runtime/aggregates/mechanisms`.
"""
