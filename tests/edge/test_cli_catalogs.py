"""`explain` shows the code that runs and the contracts; `plan` says what a catalog would do, and exits so."""

from __future__ import annotations

import json
import traceback
from itertools import pairwise
from pathlib import Path

import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.contract import Contract
from edge_runtime.cli import main
from edge_runtime.session.event import make_event
from edge_runtime.session.plan import compile_catalog
from tests.support.broken_catalog import SHOP

TEXT = SHOP.read_text()
LOOSER = TEXT.replace(
    'views_5m   = { op = "count", event = "view", window = "5m" }',
    'views_5m = { op = "count", event = "view", window = "9d" }',
)
NAMED = 'by_item    = { op = "count_by"'


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(TEXT)
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, object]]:
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = main([*map(str, arguments)])
    return code, capsys.readouterr().out


def test_explain_shows_the_code_that_runs(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The source in the answer is that of the compiled plan, under a heading for people."""
    plan = compile_catalog(Catalog.load(SHOP)).views["activity@1"]
    code, answer = said(capsys, "explain", shop, "--view", "activity")
    assert code == 0
    assert answer["services"] == {}
    views = answer["views"]
    assert isinstance(views, dict)
    assert list(views) == ["activity@1"]
    assert views["activity@1"]["source"] == plan.source
    assert views["activity@1"]["slots"] == len(plan.new_state().cells)
    code, text = shown(capsys, "explain", shop, "--view", "activity@1")
    assert code == 0
    assert text.startswith("View activity@1: 7 features, ")
    assert plan.source.rstrip() in text
    assert "def update(state, event, event_id):" in text


def test_explain_shows_what_features_share(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two features of one stream are read from the same statistic; a derived one from its operands'."""
    more = (
        'again = { op = "count", event = "view", window = "5m" }\n'
        'rate = { op = "ratio", of = ["again", "spend_7d"] }\n'
    )
    shop.write_text(TEXT.replace(NAMED, more + NAMED))
    _, answer = said(capsys, "explain", shop)
    views = answer["views"]
    assert isinstance(views, dict)
    features = views["activity@1"]["features"]
    assert features["again"] == features["views_5m"]
    assert features["rate"] == [*features["again"], *features["spend_7d"]]
    statistics = views["activity@1"]["statistics"]
    assert statistics[features["again"][0]]["of"].endswith("of view in 60 tiles of 5s")
    spans = [(s["first"], s["last"]) for s in statistics]
    assert all(first <= last for first, last in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_explain_shows_contracts(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON is the contract; the text has a line for each number."""
    contract = Contract.of(Catalog.load(SHOP), "ranker")
    code, answer = said(capsys, "explain", shop, "--service", "ranker")
    assert (code, answer) == (0, {"views": {}, "services": {"ranker@2": contract.to_dict()}})
    _, text = shown(capsys, "explain", shop, "--service", "ranker@2")
    assert text.startswith("Service ranker@2: float32[batch, 12]\n")
    line = next(line for line in text.splitlines() if "ctx:hour" in line)
    assert line.split() == ["3", "ctx:hour", "[0,", "23]", "NaN", "ctx@1:hour"]
    _, both = shown(capsys, "explain", shop)
    assert "View activity@1" in both
    assert "Service ranker@2" in both


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--view", "ghost", "expected one of activity@1"),
        ("--view", "activity@9", "expected one of activity@1"),
        ("--view", "profile", "expected one of activity@1, got a view of source server"),
        ("--service", "ghost", "expected one of ranker@2"),
    ],
)
def test_law_12_what_cannot_be_explained_is_named(
    shop: Path, capsys: pytest.CaptureFixture[str], option: str, name: str, message: str
) -> None:
    """An unknown view or service, or one that has no code: exit 2, and what there is."""
    code, answer = said(capsys, "explain", shop, option, name)
    assert (code, answer["error"]) == (2, "MalformedRequest")
    assert message in str(answer["message"])


def test_a_broken_catalog_is_named_not_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every fault at its place, exit 2; the same for either side of a plan."""
    path = tmp_path / "broken.toml"
    path.write_text(TEXT.replace('window = "5m"', 'window = "500ms"'))
    for arguments in (("explain", path), ("plan", path, SHOP), ("plan", SHOP, path)):
        code, answer = said(capsys, *arguments)
        assert (code, answer["error"]) == (2, "CatalogError")
        assert "views.activity.features.views_5m.window: expected at least 1s" in str(answer["message"])


def test_plan_exits_0_when_nothing_is_lost(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same catalog, and one with a feature more that the journal makes whole."""
    code, answer = said(capsys, "plan", SHOP, shop)
    assert (code, answer["loses"]) == (0, False)
    shop.write_text(
        TEXT.replace(NAMED, 'views_2d = { op = "count", event = "view", window = "2d" }\n' + NAMED)
    )
    code, text = shown(capsys, "plan", SHOP, shop)
    assert code == 0
    (line,) = [line for line in text.splitlines() if "views_2d" in line]
    assert line.split(maxsplit=2) == [
        "backfilled",
        "views.activity@1.features.views_2d",
        "from the journal, whole at once",
    ]
    assert text.endswith("nothing is lost, no contract changes\n")


def test_plan_exits_1_when_state_is_lost_or_a_contract_changes(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A window that the journal does not reach; a column less for the model."""
    shop.write_text(LOOSER)
    code, text = shown(capsys, "plan", SHOP, shop)
    assert code == 1
    (line,) = [line for line in text.splitlines() if "features.views_5m" in line]
    assert line.startswith("!  backfilled")
    assert line.endswith("at least the last 7d; WARMING for at most 2d")
    shop.write_text(TEXT.replace('"ctx:hour",', ""))
    code, answer = said(capsys, "plan", SHOP, shop)
    assert code == 1
    changes = answer["changes"]
    assert isinstance(changes, list)
    changed = {c["detail"] for c in changes if c["loses"]}
    assert changed >= {"width 12 is 11", "ctx:hour removed"}


def test_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts are written from the help."""
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--help"])
    assert stopped.value.code == 0
    assert "Exit code 0: nothing is lost" in " ".join(capsys.readouterr().out.split())


def test_a_traceback_shows_the_line_of_the_code_that_explain_shows(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception inside generated code, at an update or at a read, names a line of the shown source."""
    catalog = Catalog.load(SHOP)
    plan = compile_catalog(catalog).views["activity@1"]
    state = plan.new_state()
    event = make_event(catalog, "view", {"user": "a", "item": "x"}, now_us=1_000_000)
    plan.offer(state, event, "1", 1_000_000)

    def broken(*names: str) -> None:
        raise RuntimeError(*names)

    with pytest.raises(RuntimeError) as caught:
        plan.read_one(state, "taste", 1_000_000, broken)
    _, text = shown(capsys, "explain", shop, "--view", "activity")
    generated = [f for f in traceback.extract_tb(caught.value.__traceback__) if "session plan" in f.filename]
    assert generated
    for frame in generated:
        assert frame.line
        assert frame.line in text
        assert text[text.index("# View") :].splitlines()[(frame.lineno or 0) - 1].strip() == frame.line


def test_plan_says_whether_the_privacy_part_must_be_signed_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same for other features; another, and where it protects less, for a longer lease."""
    text, new = SHOP.read_text(), tmp_path / "new.toml"
    for ttl, lease, found in (
        ("8d", "24h", {"changed": False, "weaker": []}),
        ("7d", "12h", {"changed": True, "weaker": []}),
        ("7d", "48h", {"changed": True, "weaker": ["purposes.personalization.lease"]}),
    ):
        changed = text.replace('lease = "24h"', f'lease = "{lease}"', 1).replace(
            'ttl = "7d"', f'ttl = "{ttl}"'
        )
        new.write_text(changed)
        main(["plan", str(SHOP), str(new), "--json"])
        assert json.loads(capsys.readouterr().out)["privacy"] == found
        main(["plan", str(SHOP), str(new)])
        assert ("purposes.personalization.lease" in capsys.readouterr().out) is bool(found["weaker"])
