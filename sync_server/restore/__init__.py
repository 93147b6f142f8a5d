"""Backups of a server, and how one begins anew from them."""
