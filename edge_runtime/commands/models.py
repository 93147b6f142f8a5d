"""Commands on a service's contract and the models that rely on it: `check`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands.command import Declare, Out
from edge_runtime.commands.contract_text import contract_text
from edge_runtime.commands.table import table

if TYPE_CHECKING:
    from edge_runtime.catalog.model_inputs import ModelInput


def add(command: Declare) -> None:
    """Declare these commands."""
    check = command("check", _check, "what a service gives, and whether a model's inputs take it")
    check.add_argument("catalog", type=Path)
    check.add_argument(
        "--service", metavar="SERVICE", help="a name or name@version; needed if there are several"
    )
    check.add_argument("--model", metavar="M.onnx", type=Path, help="an ONNX file")
    check.epilog = "Exit code 0: the catalog loads and the model fits. 1: the model does not. 2: bad input."


def _check(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.catalog import Catalog
    from edge_runtime.catalog.contract import Contract
    from edge_runtime.serving.onnx_model import OnnxModel

    catalog = Catalog.load(options.catalog)
    contract = Contract.of(catalog, options.service or _only_service(list(catalog.services)))
    out: Out = {"contract": contract.to_dict()}
    text = contract_text(contract)
    if options.model is None:
        return 0, out, text
    inputs = OnnxModel(options.model).inputs
    found = contract.mismatches(inputs)
    out |= {
        "model": str(options.model),
        "inputs": [one._asdict() for one in inputs],
        "fits": not found,
        "mismatches": [one._asdict() for one in found],
    }
    verdict = "the model fits" if not found else "the model does NOT fit:"
    lines = [text, "", _inputs_text(inputs), "", verdict, *(f"  {one}" for one in found)]
    return int(bool(found)), out, "\n".join(lines)


def _only_service(keys: list[str]) -> str:
    names = sorted({key.partition("@")[0] for key in keys})
    if len(names) != 1:
        raise ValueError(f"expected --service, one of: {' '.join(names) or 'none'}")
    return names[0]


def _inputs_text(inputs: tuple[ModelInput, ...]) -> str:
    rows = [(one.name, one.dtype, str(list(one.shape))) for one in inputs]
    return table(("input", "dtype", "shape"), rows)
