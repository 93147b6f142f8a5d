"""Feature references (`view:feature`, `view@version:feature`) and version keys (`activity@2`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from edge_runtime.catalog.model import Ref, View
from edge_runtime.catalog.section import Section, check_name, shown

MAX_VERSION: Final = 2**31 - 1
_KEY: Final = re.compile(r"(?P<name>[^@:]+)@(?P<version>[1-9][0-9]{0,9})")


def split_key(key: str) -> tuple[str, int | None] | None:
    """Name and version of `name` or `name@version`; None when it is neither.

    >>> split_key("activity@2"), split_key("activity"), split_key("a@b")
    (('activity', 2), ('activity', None), None)
    """
    if "@" not in key:
        return (key, None) if key else None
    form = _KEY.fullmatch(key)
    if form is None or int(form["version"]) > MAX_VERSION:
        return None
    return form["name"], int(form["version"])


def find_key(keys: Mapping[str, object], text: str) -> str | None:
    """The key `name@version` that `text` means: that version, or for a bare name the highest one."""
    parts = split_key(text)
    if parts is None:
        return None
    name, version = parts
    if version is not None:
        return text if text in keys else None
    versions = [int(k.rpartition("@")[2]) for k in keys if k.rpartition("@")[0] == name]
    return f"{name}@{max(versions)}" if versions else None


def find_ref(views: Mapping[str, View], text: str) -> Ref | str:
    """The reference that `text` means, or what was expected instead."""
    view_text, colon, feature = text.partition(":")
    if not colon:
        return "expected view:feature or view@version:feature"
    key = find_key(views, view_text)
    if key is None:
        return f"no view {view_text}: expected one of {' '.join(views)}"
    if feature not in views[key].features:
        return f"no feature {feature} in {key}: expected one of {' '.join(views[key].features)}"
    return Ref(key, feature)


def resolve(body: Section, key: str, text: str, views: Mapping[str, View]) -> Ref | None:
    """The reference at `key`; notes a fault when it means nothing."""
    found = find_ref(views, text)
    if isinstance(found, Ref):
        return found
    body.fault(key, f"{found}, got {shown(text)}")
    return None


def declared_key(section: Section, key: str, body: Section, what: str) -> tuple[str, int] | None:
    """Name and version of `[section.key]`: `name@2`, or a bare name with `version` (default 1)."""
    version = body.integer("version", 1, MAX_VERSION)
    parts = split_key(key)
    if parts is None:
        section.fault(key, f"expected {what} or {what}@version, got {shown(key)}")
        return None
    name, in_key = parts
    if not check_name(section, key, name, what):
        return None
    if in_key is not None and version is not None and version != in_key:
        body.fault("version", f"expected {in_key} as in the key, got {version}")
    return name, in_key or version or 1
