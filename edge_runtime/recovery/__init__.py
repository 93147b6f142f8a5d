"""A damaged database: found, set aside, rebuilt from what can still be read."""
