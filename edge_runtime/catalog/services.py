"""`[services.*]`: a model's columns in order, as features, encodings and joins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from edge_runtime.catalog.encodings import (
    ENCODINGS,
    NEEDS_ARGUMENTS,
    Kind,
    default_numbers,
    read_arguments,
)
from edge_runtime.catalog.model import (
    Column,
    DotColumn,
    DType,
    Encoding,
    EntityType,
    Feature,
    FieldFeature,
    LookupColumn,
    PlainColumn,
    Ref,
    Service,
    SessionFeature,
    SumLookupColumn,
    View,
)
from edge_runtime.catalog.references import declared_key, resolve
from edge_runtime.catalog.section import Section, shown


def read_services(
    section: Section, views: Mapping[str, View], entities: Mapping[str, EntityType]
) -> dict[str, Service]:
    """Every service by `name@version`."""
    services: dict[str, Service] = {}
    for key, body in section.tables():
        named = declared_key(section, key, body, "a service name")
        columns = tuple(_columns(body, views, entities))
        body.close()
        names = tuple(name for column in columns for name in column_names(column, views))
        if len(names) > body.findings.limits.service_width:
            body.fault("features", f"expected at most {body.findings.limits.service_width} numbers in a row")
        if named is None:
            continue
        service = Service(named[0], named[1], columns, names)
        service_key = f"{service.name}@{service.version}"
        if service_key in services:
            section.fault(key, f"{service_key} is declared twice")
        services[service_key] = service
    return services


def _columns(
    body: Section, views: Mapping[str, View], entities: Mapping[str, EntityType]
) -> Iterator[Column]:
    items = body.items("features", required=True)
    if items is None:
        return
    limit = body.findings.limits.entries
    if not items or len(items) > limit:
        body.fault("features", f"expected 1 to {limit} columns, got {len(items)}")
        return
    names: set[str] = set()
    for n, item in enumerate(items):
        place = f"{body.at('features')}[{n}]"
        declared: object = {"ref": item} if isinstance(item, str) else item
        if not isinstance(declared, dict):
            body.findings.add(place, f"expected a reference or a table, got {shown(item)}")
            continue
        short = isinstance(item, str)
        column = _column(Section(body.findings, place, declared), views, entities, short)
        if column is None:
            continue
        if column.name in names:
            body.findings.add(
                place, f"expected each column name once, {column.name} came before: give a name"
            )
        names.add(column.name)
        yield column


def _column(
    entry: Section, views: Mapping[str, View], entities: Mapping[str, EntityType], short: bool
) -> Column | None:
    if short:
        entry = _Bare(entry)
    name = entry.text("name")
    if name == "":
        entry.fault("name", "expected a name, got an empty string")
    default = entry.number("default")
    forms = [form for form in ("ref", "lookup", "sum_lookup", "dot") if entry.has(form)]
    if len(forms) != 1:
        entry.fault(
            None, f"expected exactly one of ref lookup sum_lookup dot, got {' '.join(forms) or 'none'}"
        )
        return None
    column: Column | None
    match forms[0]:
        case "ref":
            column = _plain(entry, name, default, views)
        case "lookup":
            column = _lookup(entry, name, default, views, entities)
        case "sum_lookup":
            column = _sum_lookup(entry, name, default, views, entities)
        case _:
            column = _dot(entry, name, default, views)
    entry.close()
    return column


class _Bare(Section):
    """A column given as one string: its faults stand at the column's own place."""

    def __init__(self, entry: Section) -> None:
        super().__init__(entry.findings, entry.place, entry._table)

    def at(self, key: str) -> str:
        return self.place


def _ref(entry: Section, key: str, views: Mapping[str, View]) -> Ref | None:
    text = entry.text(key, required=True)
    return None if text is None else resolve(entry, key, text, views)


def dtype_of(views: Mapping[str, View], ref: Ref) -> DType:
    """The dtype of a resolved reference."""
    return views[ref.view].features[ref.feature].dtype


def _plain(
    entry: Section, name: str | None, default: float | None, views: Mapping[str, View]
) -> PlainColumn | None:
    ref = _ref(entry, "ref", views)
    encoded = entry.has("encode")
    if ref is None:
        return None
    feature = views[ref.view].features[ref.feature]
    encoding = _encoding(entry, feature) if encoded else None
    if encoded and encoding is None:
        return None
    dtype = feature.dtype
    if encoding is None and not dtype.numeric and dtype.size is None:
        entry.fault("ref", f"{ref} is {dtype}: expected an encode ({' '.join(ENCODINGS)}) or a join")
        return None
    width = _width(feature, encoding)
    if default is not None and width != 1:
        entry.fault("default", f"expected none: the column has {width} numbers, declare it on the feature")
    if default is None and encoding is not None:
        _check_default(entry, feature, encoding)
    return PlainColumn(name or entry.text("ref") or str(ref), ref, encoding, width, default)


def _width(feature: Feature, encoding: Encoding | None) -> int:
    if encoding is None:
        return feature.dtype.size or 1
    if encoding.kind == "one_hot" and isinstance(feature, FieldFeature):
        return len(feature.values or ())
    return 1


def _encoding(entry: Section, feature: Feature) -> Encoding | None:
    """`encode = "log1p"`, or a table with `kind` and its arguments."""
    if isinstance(entry.raw("encode"), dict):
        table = entry.table("encode")
        assert table is not None
        kind = table.text("kind", required=True, choices=ENCODINGS)
        encoding = None if kind is None else read_arguments(table, cast(Kind, kind))
        if kind is not None:
            table.close()
    else:
        kind = entry.text("encode", choices=ENCODINGS)
        if kind in NEEDS_ARGUMENTS:
            needs = NEEDS_ARGUMENTS[kind]
            entry.fault("encode", f"{kind} needs {needs}: expected a table with kind and {needs}")
            return None
        encoding = None if kind is None else Encoding(cast(Kind, kind))
    return encoding if encoding is not None and _suits(entry, encoding, feature) else None


def _suits(entry: Section, encoding: Encoding, feature: Feature) -> bool:
    dtype, kind = feature.dtype, encoding.kind
    if kind == "one_hot":
        if not isinstance(feature, FieldFeature) or feature.values is None:
            entry.fault("encode", f"one_hot needs the feature's values: {feature.name} declares none")
            return False
        return True
    if kind == "hash":
        if dtype.kind not in ("string", "int64", "bool", "time") or dtype.size is not None:
            entry.fault("encode", f"hash takes string, int64, bool or time: {feature.name} is {dtype}")
            return False
        return True
    if not dtype.numeric and dtype.kind != "time":
        entry.fault("encode", f"{kind} takes a number or a time: {feature.name} is {dtype}")
        return False
    return True


def _check_default(entry: Section, feature: Feature, encoding: Encoding) -> None:
    values = feature.values if isinstance(feature, FieldFeature) else None
    numbers = default_numbers(feature.default, feature.dtype, values, encoding)
    if feature.default is not None and numbers is None:
        entry.fault(
            "encode",
            f"the default {shown(feature.default)} of {feature.name} has no number under {encoding.kind}: "
            "give the column a default",
        )


def _map_ref(entry: Section, key: str, views: Mapping[str, View]) -> Ref | None:
    ref = _ref(entry, key, views)
    if ref is None:
        return None
    dtype = dtype_of(views, ref)
    if dtype.kind != "map" or dtype.item is None or not dtype.item.numeric:
        entry.fault(key, f"expected a map of numbers, {ref} is {dtype}")
        return None
    return ref


def _key_entity(entry: Section, entities: Mapping[str, EntityType]) -> str | None:
    name = entry.text("key", required=True)
    if name is not None and name not in entities:
        entry.fault("key", f"expected a declared entity type ({' '.join(entities)}), got {shown(name)}")
        return None
    return name


def _lookup(
    entry: Section,
    name: str | None,
    default: float | None,
    views: Mapping[str, View],
    entities: Mapping[str, EntityType],
) -> LookupColumn | None:
    ref, key = _map_ref(entry, "lookup", views), _key_entity(entry, entities)
    if ref is None or key is None:
        return None
    feature = views[ref.view].features[ref.feature]
    if isinstance(feature, SessionFeature) and feature.by in entities and feature.by != key:
        entry.fault("key", f"{ref} counts by {feature.by}: expected {feature.by}, got {key}")
    return LookupColumn(name or f"{ref}[{key}]", ref, key, default)


def _sum_lookup(
    entry: Section,
    name: str | None,
    default: float | None,
    views: Mapping[str, View],
    entities: Mapping[str, EntityType],
) -> SumLookupColumn | None:
    ref, key = _map_ref(entry, "sum_lookup", views), _key_entity(entry, entities)
    keys = _ref(entry, "keys", views)
    if ref is None or key is None or keys is None:
        return None
    owner = views[ref.view]
    if owner.source != "server" or len(owner.entity) != 1:
        entry.fault("sum_lookup", f"expected a map of a server view with one entity, {ref} is not")
        return None
    listed = views[keys.view].features[keys.feature]
    if str(listed.dtype) != "list<string>":
        entry.fault("keys", f"expected a list of ids, {keys} is {listed.dtype}")
        return None
    if isinstance(listed, SessionFeature) and listed.value != owner.entity[0]:
        entry.fault("keys", f"expected ids of {owner.entity[0]}, {keys} lists {listed.value}")
        return None
    return SumLookupColumn(name or f"{ref}[{keys}][{key}]", ref, keys, key, default)


def _dot(
    entry: Section, name: str | None, default: float | None, views: Mapping[str, View]
) -> DotColumn | None:
    sides = entry.items("dot", required=True)
    if sides is None:
        return None
    if len(sides) != 2 or not all(isinstance(side, str) for side in sides):
        entry.fault("dot", f"expected two references, got {shown(entry.raw('dot'))}")
        return None
    refs = [resolve(entry, "dot", str(side), views) for side in sides]
    left, right = refs
    if left is None or right is None:
        return None
    sizes = [dtype_of(views, ref).size for ref in (left, right)]
    if None in sizes or sizes[0] != sizes[1]:
        got = " and ".join(str(dtype_of(views, ref)) for ref in (left, right))
        entry.fault("dot", f"expected two vectors of one size, got {got}")
        return None
    return DotColumn(name or f"{left}.{right}", left, right, default)


def column_names(column: Column, views: Mapping[str, View]) -> Iterator[str]:
    """One name for each number: `country=UK` of a one_hot, `embedding[3]` of a vector, else the column's."""
    if isinstance(column, PlainColumn) and column.encoding is not None and column.encoding.kind == "one_hot":
        feature = views[column.ref.view].features[column.ref.feature]
        values = feature.values if isinstance(feature, FieldFeature) else None
        yield from (f"{column.name}={value}" for value in values or ())
    elif isinstance(column, PlainColumn) and dtype_of(views, column.ref).size is not None:
        yield from (f"{column.name}[{n}]" for n in range(column.width))
    else:
        yield column.name
