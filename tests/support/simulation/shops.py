"""The catalogs of the simulated town. Every value is a mark that is published once and never again."""

from __future__ import annotations

from typing import Final

from edge_runtime.catalog import Catalog

P: Final = "personalization"
M: Final = "measurement"
CARE: Final = "care"
"""Rests on a legitimate interest: nobody is asked, anybody may object."""
PURPOSES: Final = (P, M)
SUBJECTS: Final = ("user:alice", "user:bob", "user:carol")
ITEMS: Final = tuple(f"item:{n}" for n in range(6))

_TEXT: Final = """
[catalog]
name = "town"
version = {version}

[purposes.personalization]
title = "p"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
[purposes.measurement]
title = "m"
legal_basis = "consent"
terminal_access = "consent"
lease = "{lease}"
retention = "30d"
keep_events = "7d"
[purposes.care]
title = "c"
legal_basis = "legitimate_interest"
terminal_access = "strictly_necessary"
retention = "30d"
keep_events = "7d"

[entities.user]
personal = true
[entities.item]

[events.view]
entities = ["user", "item"]
[events.visit]
entities = ["user"]

[views.support]
version = 1
entity = "user"
source = "session"
purpose = "care"
ttl = "30d"
owner = "o"
[views.support.features]
visits = {{ op = "count", event = "visit" }}

[views.activity]
version = 1
entity = "user"
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "o"
[views.activity.features]
views = {{ op = "count", event = "view" }}

[views.profile]
version = 1
entity = "user"
source = "server"
purpose = "personalization"
ttl = "7d"
owner = "o"
features = {{ mark = {{ dtype = "int64" }} }}

[views.basket]
version = 1
entity = ["user", "item"]
source = "server"
purpose = "personalization"
ttl = 0
owner = "o"
features = {{ mark = {{ dtype = "int64" }} }}

[views.habits]
version = 1
entity = "user"
source = "server"
purpose = "measurement"
ttl = 0
owner = "o"
features = {{ mark = {{ dtype = "int64" }} }}

[views.stock]
version = 1
entity = "item"
source = "server"
ttl = "2h"
owner = "o"
features = {{ mark = {{ dtype = "int64" }} }}

[views.price]
version = 1
entity = "item"
source = "server"
ttl = 0
owner = "o"
features = {{ mark = {{ dtype = "int64" }} }}
"""

_LATER: Final = """
[views.label]
version = 1
entity = "item"
source = "server"
ttl = 0
owner = "o"
features = { mark = { dtype = "int64" } }
"""

OLD: Final = _TEXT.format(version=1, lease="3h")
NEW: Final = _TEXT.format(version=2, lease="1h") + _LATER
"""What the server publishes under, with a shorter lease of a purpose.

A device with the old one keeps the rows of `label` as stubs."""

TEXTS: Final = (OLD, NEW)
CATALOGS: Final = tuple(Catalog.from_toml(text) for text in TEXTS)
SHARED_VIEWS: Final = ("stock", "price", "label")
PERSONAL_VIEWS: Final = ("profile", "basket", "habits")
PURPOSE_OF: Final = {"profile": P, "basket": P, "habits": M}
