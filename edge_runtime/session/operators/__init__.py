"""The operators, one family a file. Each file: a `Statistic`, its state functions, and how it is read."""
