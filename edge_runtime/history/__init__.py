"""Recorded events: read from files, replayed in one or several processes, compared."""
