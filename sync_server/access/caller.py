"""Who asks, and what they may. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

from sync_server.api.route import Scope

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""All that a token may be for."""


class Rate(NamedTuple):
    """How much one caller may ask."""

    per_s: int
    """Requests a second, in the long run."""
    burst: int
    """Requests at once."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose token was found good."""

    actor: str
    """As the audit log has it: `bootstrap`, `token:<id>`, `oidc:<keyed hash of issuer and subject>`."""
    name: str
    """Of the token, for people; empty for a person, who is not named anywhere."""
    scopes: frozenset[str]
    teams: frozenset[str] | None = None
    """Owners of the views that it may touch; None: any view."""
    destinations: frozenset[str] | None = None
    """Recipients, streams and webhooks for whose receiver alone it speaks; None: it is bound to none."""
    rate: Rate | None = None
    """None: as often as it likes."""

    def may_touch(self, owner: str) -> bool:
        """Whether views of this owner are its business."""
        return self.teams is None or owner in self.teams

    def may_give(self, scopes: frozenset[str], teams: frozenset[str] | None) -> bool:
        """Whether a token with these is no more than its own: nobody rises by what they make."""
        narrow = self.teams is None or (teams is not None and teams <= self.teams)
        return scopes <= self.scopes and narrow


NOBODY: Final = Caller("nobody", "", frozenset())
"""Who gave no token, or one that is not good."""
