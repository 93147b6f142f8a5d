"""The base rule as a pure function, against every short history; progress against the definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync_server.consent.decisions import judge
from sync_server.consent.progress import enforced, progress
from sync_server.store.records import DENIALS, Answer, DecisionState, RevocationRow, Target

said = st.lists(
    st.tuples(st.sampled_from([*sorted(DENIALS), "given", "given"]), st.integers(0, 12)), max_size=12
)


@given(said)
def test_law_2_nothing_older_than_a_denial_brings_anything_back(history: list[tuple[str, int]]) -> None:
    """In any history: permission stands exactly when a give that saw the newest denial came after it."""
    state = DecisionState("unknown", 0, 0)
    newest_denial, live = 0, False
    for seq, (word, base) in enumerate(history, 1):
        base = min(base, seq - 1)
        verdict = judge(state, word, base, seq)
        if word in DENIALS:
            newest_denial, live = seq, False
        elif base >= newest_denial:
            live = True
        else:
            assert verdict.outcome == "superseded"
        state = verdict.now or state
        assert (state.grant != 0) is live
        assert state.denial == newest_denial
        assert state.grant == 0 or state.grant > state.denial


times = st.none() | st.integers(100, 200)
target = st.builds(
    Target,
    st.just("r"),
    st.sampled_from("abcdef"),
    st.just(1),
    st.integers(100, 200),
    times,
    times,
    st.just(False),
)


@given(st.lists(target, max_size=5, unique_by=lambda t: t.device_id), st.integers(100, 220))
def test_progress_follows_from_the_targets(targets: list[Target], now_us: int) -> None:
    """Enforced when each acknowledged, lapsed or wiped itself; overdue who owes when due; counters add up."""
    row = RevocationRow("r", bytes(16), "subject", "api", 90, 150, 95, 0, None)
    answers = [Answer(1, t.device_id, b"", "erased") for t in targets if t.erased_us]
    found = progress(row, targets, answers, now_us)
    locked = [t for t in targets if t.lease_bound_us <= now_us or (t.acked_us or t.erased_us) is not None]
    for one in targets:
        stopped = enforced(one, now_us)
        assert (stopped is not None) is (one in locked)
        at_us = {"acknowledged": one.acked_us, "lease_ended": one.lease_bound_us, "wiped": one.erased_us}
        assert stopped is None or at_us[stopped.by] == stopped.at_us
        assert stopped is None or stopped.by != "lease_ended" or stopped.at_us <= now_us
    owing = [t.device_id for t in targets if t.erased_us is None]
    assert found.counters.enforced == len(locked)
    assert (found.enforced_us is None) is (len(locked) < len(targets))
    assert found.overdue == (tuple(owing) if now_us >= 150 else ())
    assert found.counters.erased == found.counters.receipts == len(targets) - len(owing)
    assert (found.erased_us is None) is bool(owing)
    assert found.state != "completed"
    if found.overdue:
        assert found.state == "partially_completed"
