"""Rows that a look in one piece can tell to be whole: the gate's own judgement, compiled once per view.

Most rows are what they should be. A form of a view says so of a row's values in one decoding; whatever it
does not say it of goes to `gate.judge`, which alone decides what is dropped, stubbed or refused.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

import msgspec

from edge_runtime.catalog.declared import in_range, listed
from edge_runtime.catalog.model import CatalogModel, DType, FieldFeature, View
from edge_runtime.sync.gate import Channel, Personal
from edge_runtime.wire.messages import Row

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class ValuesForm:
    """Recognises values that fit a view as they are, in the one byte string that a server packs them into."""

    def __init__(self, view: View) -> None:
        features = {
            name: _type(feature.dtype)
            for name, feature in sorted(view.features.items())
            if isinstance(feature, FieldFeature)
        }
        # an attribute cannot have any name, a feature can
        named = {f"f{n}": name for n, name in enumerate(features)}
        fields = [
            (f"f{n}", kind | None | msgspec.UnsetType, msgspec.UNSET)
            for n, kind in enumerate(features.values())
        ]
        made = msgspec.defstruct("Values", fields, rename=named, forbid_unknown_fields=True, gc=False)
        self._decode = msgspec.msgpack.Decoder(made).decode
        self._declaring = [
            (field, feature)
            for field, feature in ((f, view.features[name]) for f, name in named.items())
            if isinstance(feature, FieldFeature) and (feature.values is not None or feature.range is not None)
        ]

    def fit(self, values: list[bytes]) -> bool:
        """Whether every feature in each of `values` is one of the view's and as it declares; False is no
        verdict.

        Bytes that are not as they would be packed (a doubled name, another order) are not recognised.
        """
        try:
            found = [*map(self._decode, values)]
            if [*map(_encode, found)] != values:
                return False
        except (msgspec.DecodeError, UnicodeError):
            return False
        return all(
            _as_declared(feature, getattr(one, field)) for field, feature in self._declaring for one in found
        )


class Fitting:
    """The forms of a catalog's views, made when the first row of a view comes."""

    def __init__(self, catalog: CatalogModel) -> None:
        self._catalog = catalog
        self._forms: dict[tuple[str, int], _ViewForm] = {}
        self._personal = frozenset(name for name, entity in catalog.entities.items() if entity.personal)

    def keeps(self, rows: Sequence[Row], channel: Channel, grant: int) -> bool:
        """Whether `gate.judge` would keep each of `rows` as it is; False is no verdict.

        Args:
            grant: as `gate.judge` takes it.
        """
        values = defaultdict[tuple[str, int], list[bytes]](list)
        for row in rows:
            if row.deleted or row.grant != grant:
                return False
            values[row.view, row.version].append(row.values)
        forms = [(self._form(*view), said) for view, said in values.items()]
        return self._may_stand(rows, channel, grant) and all(
            form is not None and form.may_stand(channel) and form.form.fit(said) for form, said in forms
        )

    def _may_stand(self, rows: Sequence[Row], channel: Channel, grant: int) -> bool:
        """Whether the entities of `rows` may stand in `channel`."""
        if isinstance(channel, Personal):
            token = channel.token
            return grant != 0 and all(token in row.entity.split("|") for row in rows)
        kinds = {row.entity.partition(":")[0] for row in rows}
        return grant == 0 and kinds.isdisjoint(self._personal) and not any(k[:1] == "~" for k in kinds)

    def _form(self, view: str, version: int) -> _ViewForm | None:
        place = view, version
        if place not in self._forms:
            found = self._catalog.views.get(f"{view}@{version}")
            if found is None or found.source != "server":  # not kept: a stranger may name any number of them
                return None
            self._forms[place] = self._made(found)
        return self._forms[place]

    def _made(self, view: View) -> _ViewForm:
        return _ViewForm(view.purpose, not self._personal.isdisjoint(view.entity), ValuesForm(view))


class _ViewForm(NamedTuple):
    """What must be known of a view to recognise its rows."""

    purpose: str | None
    personal: bool
    """Whether its rows may be about somebody."""
    form: ValuesForm

    def may_stand(self, channel: Channel) -> bool:
        """Whether rows of this view may stand in `channel`."""
        if isinstance(channel, Personal):
            return self.purpose == channel.purpose
        return not self.personal


def _as_declared(feature: FieldFeature, value: object) -> bool:
    if value is None or value is msgspec.UNSET:
        return True
    return listed(feature, value) and in_range(feature, value)


def _type(dtype: DType) -> Any:
    """The msgspec type of the values that `catalog.dtype.fits` accepts."""
    if dtype.size is not None:
        sized = msgspec.Meta(min_length=dtype.size, max_length=dtype.size)
        return Annotated[list[int | _Finite], sized]
    item: Any = None if dtype.item is None else _type(dtype.item)
    match dtype.kind:
        case "list":
            return GenericAlias(list, (item,))
        case "map":
            return GenericAlias(dict, (str, item))
        case "bool":
            return bool
        case "string":
            return str
        case "int64" | "time":
            return _Int64
        case "float32" | "float64":
            return int | _Finite
