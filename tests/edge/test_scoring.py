"""A model is attached only where it takes what the service gives; its scores are those that numpy makes."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edge_runtime as er
from edge_runtime.cli import main
from edge_runtime.serving.plan import Numbers
from tests.support.clock import ManualClock
from tests.support.shop import BASE_US, SHOP, shop_catalog

NAMES = shop_catalog().service("ranker").names
WIDTH = len(NAMES)
ITEMS = ["a", "b", "c"]


@pytest.fixture
def rt() -> Iterator[er.Runtime]:
    clock = ManualClock(BASE_US)
    with er.Runtime.open(":memory:", catalog=shop_catalog(), key=er.KeyMemory(), clock=clock) as runtime:
        runtime.consent.give("alice", ["personalization"], notice="n")
        for n in range(5):
            runtime.track("view", user="alice", item=ITEMS[n % 3], price=1.5)
        yield runtime


def weights(outputs: int) -> Numbers:
    return np.random.default_rng(7).normal(size=(WIDTH, outputs)).astype(np.float32)


def onnx_rows(path: Path, *, outputs: int = 1, batch: int | None = None, width: int = WIDTH) -> Path:
    """rows float32[batch, width] -> Where(IsNaN, 0) @ weights."""
    kernel = np.resize(weights(outputs), (width, outputs)).astype(np.float32)
    nodes = [
        helper.make_node("IsNaN", ["rows"], ["gone"]),
        helper.make_node("Where", ["gone", "zero", "rows"], ["whole"]),
        helper.make_node("MatMul", ["whole", "w"], ["scores"]),
    ]
    start = [
        numpy_helper.from_array(kernel, "w"),
        numpy_helper.from_array(np.array(0, dtype=np.float32), "zero"),
    ]
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [batch, width])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, outputs])
    return _saved(path, helper.make_graph(nodes, "rows", [rows], [scores], start))


def onnx_named(path: Path, names: tuple[str, ...]) -> Path:
    """Two numbers by name, added."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in names]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None])
    return _saved(
        path, helper.make_graph([helper.make_node("Sum", list(names), ["scores"])], "named", inputs, [scores])
    )


def _saved(path: Path, graph: Any) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def test_an_onnx_model_scores_every_candidate_as_numpy_does(rt: er.Runtime, tmp_path: Path) -> None:
    """One input of whole rows: the scores are the matrix times the weights."""
    rt.use_model("ranker", er.OnnxModel(onnx_rows(tmp_path / "m.onnx")))
    scores = rt.score("ranker", user="alice", item=ITEMS)
    matrix = rt.matrix("ranker", user="alice", item=ITEMS)
    expected = np.nan_to_num(matrix.values, nan=0.0) @ weights(1)
    assert scores.values.dtype == np.float32
    assert scores.values.shape == (3,)
    np.testing.assert_allclose(scores.values, expected[:, 0], rtol=1e-5)
    assert (scores.candidates, scores.model) == (tuple(ITEMS), "ranker@1")
    assert scores.rows.values.tobytes() == matrix.values.tobytes()
    assert scores.status.tobytes() == matrix.status.tobytes()


def test_several_outputs_are_columns(rt: er.Runtime, tmp_path: Path) -> None:
    """A model with m outputs gives float32[k, m]; one whose batch is 1 is asked row by row."""
    rt.use_model("ranker", er.OnnxModel(onnx_rows(tmp_path / "m.onnx", outputs=2)))
    many = rt.score("ranker", user="alice", item=ITEMS).values
    rt.use_model("ranker@1", er.OnnxModel(onnx_rows(tmp_path / "one.onnx", outputs=2, batch=1)))
    each = rt.score("ranker", user="alice", item=ITEMS).values
    assert many.shape == each.shape == (3, 2)
    np.testing.assert_allclose(many, each, rtol=1e-6)


def test_inputs_by_name_take_their_own_numbers(rt: er.Runtime, tmp_path: Path) -> None:
    """A model with one input for each number is fed by name, in whatever order it has them."""
    names = tuple(reversed(NAMES))
    rt.use_model("ranker", er.OnnxModel(onnx_named(tmp_path / "m.onnx", names)))
    rows = rt.matrix("ranker", user="alice", item=ITEMS).values
    found = rt.score("ranker", user="alice", item=ITEMS).values
    np.testing.assert_allclose(found, rows.sum(axis=1), rtol=1e-5)


def test_a_model_of_other_inputs_is_not_attached(rt: er.Runtime, tmp_path: Path) -> None:
    """ContractMismatch says what was expected and what came; the model before it stays."""
    rt.use_model("ranker", er.LinearModel([1.0] * WIDTH))
    before = rt.score("ranker", user="alice", item=ITEMS).values.tobytes()
    wrong = er.OnnxModel(onnx_rows(tmp_path / "wide.onnx", width=WIDTH + 1))
    with pytest.raises(
        er.ContractMismatch, match=rf"\[batch, {WIDTH}\], got shape \[.*{WIDTH + 1}\].*attached"
    ):
        rt.use_model("ranker", wrong)
    with pytest.raises(er.ContractMismatch, match="other"):
        rt.use_model("ranker", er.LinearModel({"other": 1.0}))
    with pytest.raises(er.ContractMismatch, match=f"expected {WIDTH}, got 2"):
        rt.use_model("ranker", er.LinearModel([1.0, 2.0]))
    with pytest.raises(er.MalformedRequest):
        rt.use_model("no_such", er.LinearModel([1.0]))
    assert rt.score("ranker", user="alice", item=ITEMS).values.tobytes() == before


def test_a_linear_model_is_numpy(rt: er.Runtime) -> None:
    """Weights by name or in order; a row alone and among others has the same bits."""
    by_name = dict(zip(reversed(NAMES), weights(1)[:, 0].tolist(), strict=True))
    rt.use_model("ranker", er.LinearModel(by_name, bias=0.5))
    rows = rt.matrix("ranker", user="alice", item=ITEMS).values.astype(np.float64)
    in_order = np.array([by_name[name] for name in NAMES])
    found = rt.score("ranker", user="alice", item=ITEMS).values
    np.testing.assert_allclose(found, rows @ in_order + 0.5, rtol=1e-6)
    alone = [rt.score("ranker", user="alice", item=[item]).values for item in ITEMS]
    assert np.concatenate(alone).tobytes() == found.tobytes()
    assert rt.score("ranker", user="alice", item="a").values.tobytes() == alone[0].tobytes()
    rt.use_model("ranker", er.LinearModel(by_name, bias=0.5, logistic=True))
    np.testing.assert_allclose(
        rt.score("ranker", user="alice", item=ITEMS).values,
        1 / (1 + np.exp(-found.astype(np.float64))),
        rtol=1e-6,
    )


def test_your_own_model_will_do(rt: er.Runtime) -> None:
    """Anything with `score`; a model that gives too few scores is told so, one without `score` too."""

    class First:
        def score(self, values: Numbers) -> Numbers:
            return values[:, 0]

    class Short:
        def score(self, values: Numbers) -> Numbers:
            return values[:1, 0]

    rt.use_model("ranker", First())
    assert rt.score("ranker", user="alice", item=ITEMS).values.tolist() == [5.0] * 3
    rt.use_model("ranker", Short())
    with pytest.raises(er.ContractMismatch, match="scores"):
        rt.score("ranker", user="alice", item=ITEMS)
    not_one: Any = object()
    with pytest.raises(er.ContractMismatch, match="score"):
        rt.use_model("ranker", not_one)


def test_numbers_that_are_not_there_go_in_as_nan_and_say_so(rt: er.Runtime) -> None:
    """Nobody's consent is guessed: every session number of bob is NaN, and the status of the scores tells."""
    rt.use_model("ranker", er.LinearModel([1.0] * WIDTH))
    scores = rt.score("ranker", user="bob", item=ITEMS)
    assert np.isnan(scores.values).all()
    assert (scores.status[:, 0] == er.Status.REVOKED).all()


def test_scoring_without_a_model_is_refused(rt: er.Runtime) -> None:
    """There is nothing to run."""
    with pytest.raises(er.MalformedRequest, match="use_model"):
        rt.score("ranker", user="alice", item=ITEMS)


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, one that is no model, an output that it has not."""
    (tmp_path / "noise.onnx").write_bytes(b"\x08\x99 not a model")
    for path in (tmp_path / "none.onnx", tmp_path / "noise.onnx"):
        with pytest.raises(er.MalformedRequest, match="expected an ONNX"):
            er.OnnxModel(path)
    with pytest.raises(er.MalformedRequest, match="output"):
        er.OnnxModel(onnx_rows(tmp_path / "m.onnx"), output="other")


def test_without_onnxruntime_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An EdgeError that is an ImportError; nothing else of the package needs it."""
    plain = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("onnxruntime"):
            raise ImportError(name)
        return plain(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(er.MissingExtra, match=r"pip install 'edge-runtime\[onnx\]'") as caught:
        er.OnnxModel(tmp_path / "m.onnx")
    assert isinstance(caught.value, er.EdgeError)
    assert isinstance(caught.value, ImportError)


def test_check_prints_the_contract_and_judges_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 for a model that fits, 1 for one that does not, 2 for what cannot be read."""
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(SHOP)
    good, bad = onnx_rows(tmp_path / "m.onnx"), onnx_rows(tmp_path / "bad.onnx", width=3)
    assert main(["check", str(catalog)]) == 0
    assert f"float32[batch, {WIDTH}]" in capsys.readouterr().out
    assert main(["check", str(catalog), "--service", "ranker@1", "--model", str(good), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fits"] is True
    assert [n["name"] for n in told["contract"]["numbers"]] == list(NAMES)
    assert main(["check", str(catalog), "--model", str(bad), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["fits"], told["mismatches"][0]["place"]) == (False, "rows")
    assert main(["check", str(catalog), "--model", str(bad)]) == 1
    assert "does NOT fit" in capsys.readouterr().out
    assert main(["check", str(catalog), "--service", "nobody", "--json"]) == 2
    assert main(["check", str(catalog), "--model", str(tmp_path / "none.onnx"), "--json"]) == 2
