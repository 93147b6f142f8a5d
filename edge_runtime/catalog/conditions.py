"""`where = { price = { gt = 10 } }`: the conditions on properties that an event must meet to count."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast, get_args

from edge_runtime.catalog.dtype import fits
from edge_runtime.catalog.model import DType, EventType, Scalar, Where
from edge_runtime.catalog.section import Section, shown

_Test = Literal["eq", "ne", "gt", "ge", "lt", "le", "in"]
_TESTS = get_args(_Test)


def read_where(body: Section, events: tuple[EventType, ...]) -> tuple[Where, ...]:
    """The conditions in `where`, in the order written; faults are noted at the test that is wrong."""
    table = body.table("where")
    if table is None:
        return ()
    conditions: list[Where] = []
    for name, tests in table.tables():
        dtypes = {e.properties.get(name) for e in events}
        dtype = next(iter(dtypes))
        if len(dtypes) > 1 or dtype is None:
            table.fault(name, f"expected a property of {' '.join(e.name for e in events)} of one dtype")
            continue
        conditions += _conditions(tests, name, name, dtype)
    return tuple(conditions)


def read_tests(body: Section, key: str, property: str, name: str, dtype: DType) -> tuple[Where, ...]:
    """The tests of one thing at `key`: `where = { ge = 3 }`, each a condition on `property`.

    Args:
        property: what the conditions call it.
        name, dtype: what faults call it, and its type: lists, maps and vectors have no tests.
    """
    table = body.table(key)
    if table is None:
        return ()
    if dtype.kind in ("list", "map") or dtype.size is not None:
        body.fault(key, f"expected none: {name} is {dtype}, which has no tests")
        return ()
    return tuple(_conditions(table, property, name, dtype))


def _conditions(tests: Section, property: str, name: str, dtype: DType) -> list[Where]:
    """Every test in a table; a fault at the table when there is none."""
    entries = list(tests.entries())
    if not entries:
        tests.fault(None, f"expected at least one of {' '.join(_TESTS)}")
    read = [_condition(tests, name, test, operand, dtype) for test, operand in entries]
    return [replace(condition, property=property) for condition in read if condition is not None]


def _condition(tests: Section, name: str, test: str, operand: object, dtype: DType) -> Where | None:
    if test not in _TESTS:
        tests.fault(test, f"unknown test: expected one of {' '.join(_TESTS)}")
        return None
    if test == "in":
        items = tests.items("in")
        if items is None:
            return None
        if not items or not all(fits(dtype, item) for item in items):
            tests.fault("in", f"expected a list of {dtype} values, at least one")
            return None
        return Where(name, "in", cast(tuple[Scalar, ...], items))
    if not fits(dtype, operand):
        tests.fault(test, f"expected a {dtype} value, got {shown(operand)}")
        return None
    if test not in ("eq", "ne") and (not dtype.numeric or dtype.kind == "bool") and dtype.kind != "time":
        tests.fault(test, f"expected eq, ne or in: {name} is {dtype}, which has no order")
        return None
    return Where(name, cast(_Test, test), cast(Scalar, operand))
