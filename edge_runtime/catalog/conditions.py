"""`where = { price = { gt = 10 } }`: the conditions on properties that an event must meet to count."""

from __future__ import annotations

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
        if not list(tests.entries()):
            table.fault(name, f"expected at least one of {' '.join(_TESTS)}")
        for test, operand in tests.entries():
            condition = _condition(tests, name, test, operand, dtype)
            if condition is not None:
                conditions.append(condition)
    return tuple(conditions)


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
