"""The API of a server from Python: `from sync_server.client import Client`.

>>> client = Client("http://127.0.0.1:8080", token="...")
>>> made = client.consent.revoke("user:alice")            # doctest: +SKIP
>>> client.consent.wait_for(made.id, "enforced")          # doctest: +SKIP
"""

from sync_server.client.aggregates import AggregatesClient
from sync_server.client.client import Client
from sync_server.client.connection import path_of
from sync_server.client.consent import ConsentClient, NotYet
from sync_server.client.failure import Refused, Unreachable
from sync_server.client.patience import Patience

__all__ = [
    "AggregatesClient",
    "Client",
    "ConsentClient",
    "NotYet",
    "Patience",
    "Refused",
    "Unreachable",
    "path_of",
]
