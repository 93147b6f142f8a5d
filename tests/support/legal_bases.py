"""Law 1 word by word: every legal basis, terminal access and state, and what DESIGN says of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from edge_runtime.catalog import Catalog

BASES = (
    *("consent", "contract", "legal_obligation"),
    *("vital_interest", "public_task", "legitimate_interest"),
)
ACCESSES = ("consent", "strictly_necessary")
STATES = ("unknown", "given", "refused", "withdrawn", "revoked", "objected", "restricted", "expired")


class Case(NamedTuple):
    """One purpose and what a subject's state is in it."""

    basis: str
    access: str
    state: str

    @property
    def purpose(self) -> str:
        return f"{self.basis}_{self.access}"

    @property
    def subject(self) -> str:
        """One subject for each state."""
        return f"user:is-{self.state}"


CASES = tuple(Case(basis, access, state) for basis in BASES for access in ACCESSES for state in STATES)


def allowed(case: Case) -> bool:
    """DESIGN, law 1: under consent, given; under another basis, declared, not objected to, not restricted;
    what is stored on a terminal and is not strictly necessary needs consent under any basis. And law 2: who
    withdrew, refused or was revoked is out, whatever the basis."""
    if case.basis == "consent" or case.access == "consent":
        return case.state == "given"
    return case.state in ("unknown", "given")


def catalog() -> Catalog:
    """A purpose, an event, a session view, a pushed view and a metric for each basis and access."""
    table: dict[str, Any] = {
        "catalog": {"name": "bases", "version": 1},
        "purposes": {},
        "entities": {"user": {"personal": True}},
        "events": {},
        "views": {},
        "metrics": {},
    }
    for basis in BASES:
        for access in ACCESSES:
            name = f"{basis}_{access}"
            table["purposes"][name] = {"legal_basis": basis, "terminal_access": access, "retention": "30d"}
            table["events"][f"seen_{name}"] = {"entities": ["user"]}
            view = {"entity": "user", "purpose": name, "ttl": "30d", "owner": "test"}
            counted = {"op": "count", "event": f"seen_{name}", "window": "1h"}
            table["views"][f"counted_{name}"] = {**view, "source": "session", "features": {"n": counted}}
            given = {"dtype": "string", "values": ["a", "b"]}
            table["views"][f"pushed_{name}"] = {**view, "source": "server", "features": {"x": given}}
            table["metrics"][f"metric_{name}"] = {
                "purpose": name,
                "kind": "histogram",
                "of": f"pushed_{name}:x",
                "epsilon": 0.1,
                "min_subjects": 50,
            }
    return Catalog.from_dict(table)
