"""Lets the product tell of every exception that passes through it, swallowed ones too.

Its modules are compiled with two additions: each function's body stands in a `try` that calls `passing` and
raises again, and each `except` block begins by calling `caught`. A `try` costs nothing in Python until
something is raised, and nothing else sees all: neither `pytest.raises`, nor a wrapped error class, nor a
trace function, which would make the run several times slower. Line numbers and tracebacks stay as they are.
"""

from __future__ import annotations

import ast
import builtins
import marshal
import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

PACKAGES: Final = ("edge_runtime", "sync_server")
"""The product: what is told of, and whose objects may show nothing."""
_replace: Final = os.replace
"""Python's own, also while a test has put one in its place that dies."""
_PASSING: Final = "__leak_passing__"
_CAUGHT: Final = "__leak_caught__"


def instrumented(source: bytes, path: str) -> CodeType:
    """The code of a module with the additions."""
    tree = _Additions().visit(ast.parse(source, path))
    code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
    return code


class Finder(MetaPathFinder):
    """Finds the product's modules as Python would, and has them compiled with the additions.

    Args:
        kept: folder in which compiled modules are kept for the run's other processes.
        imported: called with each module once it was run.
    """

    def __init__(self, kept: Path, imported: Callable[[ModuleType], None]) -> None:
        self._kept, self._imported = kept, imported

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in PACKAGES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self._kept, self._imported)
        return spec


def tell(passing: Callable[[], None], caught: Callable[[], None]) -> None:
    """Name the functions that the additions call."""
    vars(builtins).update({_PASSING: passing, _CAUGHT: caught})


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, kept: Path, imported: Callable[[ModuleType], None]) -> None:
        super().__init__(fullname, path)
        self._kept, self._done = kept, imported

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        kept = self._kept / blake2b(path.encode() + b"\0" + source, digest_size=16).hexdigest()
        if kept.exists():
            found: CodeType = marshal.loads(kept.read_bytes())
            return found
        made = instrumented(source, path)
        fresh = kept.with_name(f"{kept.name}.{os.getpid()}.{id(made)}")
        fresh.write_bytes(marshal.dumps(made))
        _replace(fresh, kept)
        return made

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        self._done(module)


class _Additions(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, _call(_CAUGHT, node.body[0]))
        return node

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        head = 1 if ast.get_docstring(node, clean=False) is not None else 0
        body = node.body[head:]
        if not body:
            return node
        last = body[-1]
        handler = ast.ExceptHandler(
            type=ast.Name("BaseException", ast.Load()),
            name=None,
            body=[_call(_PASSING, last), ast.copy_location(ast.Raise(), last)],
        )
        guarded = ast.Try(body=body, handlers=[ast.copy_location(handler, last)], orelse=[], finalbody=[])
        node.body[head:] = [ast.copy_location(guarded, body[0])]
        return node


def _call(name: str, beside: ast.stmt) -> ast.stmt:
    call = ast.Call(func=ast.Name(name, ast.Load()), args=[], keywords=[])
    return ast.copy_location(ast.Expr(call), beside)
