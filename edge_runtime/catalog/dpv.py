"""Terms of the W3C Data Privacy Vocabulary for legal bases, states and rights.

Source: DPV 2.1, https://w3id.org/dpv (consent statuses), and its extension for the GDPR,
https://w3id.org/dpv/legal/eu/gdpr (Art. 6(1)(a)-(f) as legal bases, Art. 18 and 21 as rights). DPV has no
consent status for an objection or a restriction: they are exercises of a right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_DPV: Final = "https://w3id.org/dpv#"
_GDPR: Final = "https://w3id.org/dpv/legal/eu/gdpr#"

LEGAL_BASES: Final[Mapping[str, str]] = {
    "consent": _GDPR + "A6-1-a",
    "contract": _GDPR + "A6-1-b",
    "legal_obligation": _GDPR + "A6-1-c",
    "vital_interest": _GDPR + "A6-1-d",
    "public_task": _GDPR + "A6-1-e",
    "legitimate_interest": _GDPR + "A6-1-f",
}
"""Legal basis of a purpose -> IRI."""

EXPRESSED_CONSENT: Final = _DPV + "ExpressedConsent"
"""The kind of consent that is recorded here: somebody did something that says so."""

STATES: Final[Mapping[str, str]] = {
    "unknown": _DPV + "ConsentUnknown",
    "given": _DPV + "ConsentGiven",
    "refused": _DPV + "ConsentRefused",
    "withdrawn": _DPV + "ConsentWithdrawn",
    "revoked": _DPV + "ConsentRevoked",
    "expired": _DPV + "ConsentExpired",
    "objected": _GDPR + "A21",
    "restricted": _GDPR + "A18",
}
"""State of a (subject, purpose) -> IRI."""


def right(article: str) -> str:
    """The IRI of a right by its article of the GDPR.

    >>> right("A21")
    'https://w3id.org/dpv/legal/eu/gdpr#A21'
    """
    return _GDPR + article
