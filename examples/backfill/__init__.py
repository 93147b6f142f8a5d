"""A training set at scale: `er.replay` on every partition of a Dask dataframe, by subject."""
