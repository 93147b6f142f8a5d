"""Devices for `bench revoke`: simulated ones that answer every denial, and real runtimes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import edge_runtime as er
from bench.crowd_lines import DeviceLine, DeviceTold, masked
from bench.served import CATALOG
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.receipt import Receipt, receipt_bytes

LOOK_EVERY_S = 0.002
"""How often a runtime is asked whether it still reads."""


class KioskLine(DeviceLine):
    """A device with a live lease. It acknowledges the lane, then says that it held nothing of the subject.

    A round makes it follow `all` from nothing: the snapshot streams while denials come.
    """

    def __init__(self, told: DeviceTold) -> None:
        super().__init__(told, leases=True)
        self._denied: list[m.LaneEntry] = []
        self._streamed = 0
        self.device.on_lane = lambda lane: self._denied.extend(e for e in lane.entries if e.grant == 0)

    def begin(self, size_bytes: int) -> bytes:
        self.arrived_s, self._streamed = 0.0, 0
        self.device.cursors["all"] = 0
        self.device.equal.discard("all")
        return masked(codec.encode(m.Follow(channel="all", cursor=0)))

    def take(self, data: bytes, now_s: float) -> bytes:
        answers = super().take(data, now_s)
        if self.device.fresh and not self.arrived_s:
            self.arrived_s = now_s
        denied, self._denied = self._denied, []
        return answers + b"".join(masked(codec.encode(self._receipt(entry))) for entry in denied)

    def _receipt(self, entry: m.LaneEntry) -> m.ReceiptNote:
        body = receipt_bytes(
            Receipt(
                v=1,
                id=os.urandom(16),
                kind="held_none",
                device_id=self.device.enrolled.device_id,
                subject=entry.subject,
                purposes=[entry.purpose],
                denials=[entry.denial],
                decisions=[],
                keys_destroyed=0,
                rows_deleted={},
                counter_before=0,
                counter_after=0,
                canary_unreadable=None,
                assurance="memory",
                cold_start="server",
                at_us=time.time_ns() // 1_000,
            )
        )
        return m.ReceiptNote(receipt=body, signature=seal.sign(self.device.enrolled.key, seal.RECEIPT, body))


def runtimes(pipe: Connection, folder: str, url: str, tokens: Sequence[str], subjects: Sequence[str]) -> None:
    """Real runtimes, one a token, in this process: each holds features of every subject under consent.

    Says "ready"; for each subject named to it, answers when each runtime read it no more (wall clock, s).
    """
    catalog = er.Catalog.from_toml(CATALOG)
    with contextlib.ExitStack() as stack:
        held = []
        for number, token in enumerate(tokens):
            own = Path(folder) / token[-12:]
            own.mkdir()
            key = er.KeyFile(own / "device.key")
            rt = stack.enter_context(er.Runtime.open(own / "cache.db", catalog=catalog, key=key))
            rt.enrol(url, token)
            for subject in subjects:
                rt.consent.give(subject, ["personalization"], notice="bench")
            background = rt.sync_in_background()
            background.wait_caught_up(60)
            for subject in subjects:
                rt.track("view", user=subject, item=f"i{number}")
            rt.flush()
            held.append(rt)
        assert all(_reads(rt, subject) for rt in held for subject in subjects)
        pipe.send("ready")
        while True:
            try:
                subject = pipe.recv()
            except EOFError:
                return
            pipe.send("watching")
            pipe.send(_unreadable(held, subject))


def _unreadable(held: Sequence[er.Runtime], subject: str) -> list[float]:
    left, times = list(held), []
    until = time.monotonic() + 60
    while left and time.monotonic() < until:
        for rt in tuple(left):
            if not _reads(rt, subject):
                left.remove(rt)
                times.append(time.time())
        time.sleep(LOOK_EVERY_S)
    assert not left, "a revoked subject is still read after a minute"
    return times


def _reads(rt: er.Runtime, subject: str) -> bool:
    return rt.read("activity:views_5m", user=subject).status is not er.Status.REVOKED
