"""The town: one server, its devices, their links, and everything that can happen to them.

Each public method named `do_...` is one thing that happens; its numbers are chosen by whoever drives. After
it `check` looks at everybody that it may have touched. What happened is hashed, frame by frame.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, deque
from functools import partial
from pathlib import Path
from typing import Final

from edge_runtime.errors import EdgeError
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.messages import LaneEntry
from sync_server.consent.decisions import device_actor
from tests.support.clock import ManualClock
from tests.support.simulation import invariants, proofs, shops
from tests.support.simulation.cable import Cable
from tests.support.simulation.device import SimDevice
from tests.support.simulation.invariants import Broken, Watch
from tests.support.simulation.oracle import Known, Oracle, Pair, Published
from tests.support.simulation.server import SimServer

SECOND_US: Final = 1_000_000
YEAR_1970_US, YEAR_2040_US = 1_000_000, 2_208_988_800_000_000
STATES: Final = ("given", "given", "given", "refused", "withdrawn", "objected", "restricted")
SEGMENTS: Final = (None, None, None, (), ("gold",), ("new",), ("gold", "new"))
"""Of an item whose row is published; None leaves them as they are."""
LAST_EVENTS: Final = 60


class World:
    """A whole town under one seed. Open it inside `chance.seeded(seed)`."""

    def __init__(
        self, seed: int, folder: Path, devices: int = 3, *, hostile: bool = True, journalled: bool = False
    ) -> None:
        chance = random.Random(f"town {seed}")
        self.seed, self.steps = seed, 0
        self.hostile = hostile
        """Whether somebody meddles with single frames; if not, no digest may ever differ."""
        self.server = SimServer(folder / "server", ManualClock(), chance, journalled=journalled)
        self.server.ask_onward()
        self.server_jumped = False
        self.oracle = Oracle()
        self._lives = 0
        self.devices: dict[str, SimDevice] = {}
        self.cables: dict[str, Cable] = {}
        self.known: dict[str, Known] = {}
        self.watches: dict[str, Watch] = {}
        self.lost: set[str] = set()
        """Ids of the devices that were lost: nobody waits for their answers."""
        self.acknowledged: set[str] = set()
        """Revocations that the onward recipient has answered."""
        self.proven: dict[str, str] = {}
        """Revocation -> the state in which its outcome verified."""
        self.counts: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=LAST_EVENTS)
        self.let_go: set[tuple[str, int, str]] = set()
        """(device, session, channel) of what retention took while the session followed it."""
        self._snapshots: deque[m.Delta] = deque(maxlen=400)
        """Of channels about somebody, as they were first sent."""
        self._hash = hashlib.blake2b()
        self._touched: set[str] = set()
        self._served = True
        self._pseudonyms = {s: self.server.authority.pseudonym(s) for s in shops.SUBJECTS}
        self._folder, self._chance = folder, chance
        for n in range(devices):
            self._add_device(f"d{n}", folder / f"d{n}", skew_us=n * 7_000_000)

    def _add_device(self, name: str, folder: Path, skew_us: int) -> None:
        device, chance = SimDevice(name, self.server, folder, self._chance, skew_us), self._chance
        self.devices[name], self.known[name], self.watches[name] = device, Known(), Watch()
        hooks = (partial(self._heard, name), partial(self._said, name), self._told)
        self.cables[name] = Cable(device, self.server, chance.random, *hooks)

    def close(self) -> None:
        for device in self.devices.values():
            device.close()
        self.server.close()

    # ---- names -------------------------------------------------------------------------------------------

    def device(self, n: int) -> str:
        names = list(self.cables)
        return names[n % len(names)]

    def pseudonym(self, subject: str) -> bytes:
        return self._pseudonyms[subject]

    def subject_of(self, pseudonym: bytes) -> str | None:
        return next((s for s, p in self._pseudonyms.items() if p == pseudonym), None)

    def name_of(self, device_id: str) -> str | None:
        return next((n for n, d in self.devices.items() if d.device_id == device_id), None)

    def _pair_of(self, entry: LaneEntry) -> Pair | None:
        subject = self.subject_of(entry.subject)
        return None if subject is None else (subject, entry.purpose)

    # ---- what is overheard -------------------------------------------------------------------------------

    def note(self, *what: object) -> None:
        """Something happened: it counts into the hash of the run."""
        text = " ".join(map(str, what))
        self.last.append(f"{self.steps}: {text}")
        self._hash.update(text.encode() + b"\n")

    @property
    def digest(self) -> str:
        """A hash of everything that happened so far."""
        return self._hash.hexdigest()

    def _heard(self, name: str, message: m.Message) -> None:
        self._frame(f"{name} <-", message)
        known, device = self.known[name], self.devices[name]
        match message:
            case m.Lane():
                known.heard_lane(message, self._pair_of)
            case m.DecisionAck():
                known.heard_ack(message)
            case m.Lease() if message.id in known.asked:
                sent_us = known.asked.pop(message.id)
                known.lease_end_us = max(known.lease_end_us, sent_us + message.duration_us)
                for purpose in shops.PURPOSES:
                    limit_us = device.rt.catalog.purposes[purpose].lease_us
                    limit_us = min(limit_us, message.limits.get(purpose, limit_us))
                    until_us = sent_us + min(message.duration_us, limit_us)
                    known.leased_until_us[purpose] = max(known.leased_until_us.get(purpose, 0), until_us)
            case m.Welcome() if message.restores:  # perhaps the first of this incarnation: all start over
                self.watches[name].replaced.add("*")
            case m.Delta() if message.replacing:
                self.watches[name].replaced.add(message.channel)
                dialogue = self.cables[name].dialogue
                if dialogue is None or message.channel in dialogue.following:  # else it crossed an Unfollow
                    self.watches[name].coming.add(message.channel)
            case m.Checkpoint() if message.seq == device.replica.cursor(message.channel):
                self.watches[name].coming.discard(message.channel)
            case _:
                pass

    def _said(self, name: str, message: m.Message) -> None:
        self._frame(f"{name} ->", message)
        if isinstance(message, m.Repair) and not self.hostile:
            raise Broken(
                self.story(f"{name}: the rows of {message.channel} do not add up, and nobody meddled")
            )
        if isinstance(message, m.LeaseRequest):
            self.known[name].asked[message.id] = self.devices[name].boot_us()

    def _stolen(self, cable: Cable) -> list[bytes]:
        """Snapshots of long ago of channels that this device follows now."""
        following = {} if cable.dialogue is None else cable.dialogue.following
        return [codec.encode(delta) for delta in self._snapshots if delta.channel in following]

    def _told(self, behind: bool, message: m.Message) -> None:
        if (
            isinstance(message, m.Delta)
            and message.channel.startswith("~")
            and message.replacing
            and message.rows
        ):
            self._snapshots.append(message)
        invariants.check_frame(self, behind, message)

    def _frame(self, way: str, message: m.Message) -> None:
        frame = codec.encode(message)
        about = getattr(message, "channel", getattr(message, "code", getattr(message, "upto", "")))
        self.note(way, type(message).__name__, about, hashlib.blake2b(frame, digest_size=6).hexdigest())

    # ---- after each step ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `Broken` unless everything holds that must."""
        self.steps += 1
        self._served |= self.server.lane_head() != self.oracle.ledger  # told in a device's last words
        try:
            if self._served:
                self._read_ledger()
                invariants.check_server(self)
                invariants.note_enforced(self)
            for name in sorted(self._touched):
                invariants.check_reads(self, name)
                invariants.check_positions(self, name)
        except Broken as broken:
            raise Broken(self.story(str(broken))) from None
        self._touched.clear()
        self._served = False

    def story(self, what: str) -> str:
        """What broke, and what led to it."""
        last = "\n".join(self.last)
        return f"seed {self.seed}, step {self.steps}: {what}\nthe last of what happened:\n{last}"

    def _read_ledger(self) -> None:
        with self.server.store.read() as tx:
            for seq in range(self.oracle.ledger + 1, tx.lane_head() + 1):
                step = tx.evidence(seq)
                assert step is not None
                subject = self.subject_of(step.subject)
                assert subject is not None
                pair = (subject, step.purpose)
                said = (step.state, step.base, step.decision, step.outcome, step.actor)
                fault = self.oracle.step(seq, pair, *said)
                if fault is not None:
                    raise Broken(fault)

    def touch(self, *names: str, server: bool = False) -> None:
        self._touched.update(names)
        self._served |= server

    # ---- links -------------------------------------------------------------------------------------------

    def do_connect(self, n: int) -> None:
        name = self.device(n)
        if self.cables[name].connect():
            self.watches[name].replaced.add("*")  # another catalog starts every channel over
            self.note("connect", name)
        self.touch(name)

    def do_pump(self, n: int, frames: int) -> None:
        """Some frames move both ways."""
        name = self.device(n)
        cable = self.cables[name]
        for _ in range(frames):
            moved = cable.pull()
            moved |= cable.deliver_down()
            moved |= cable.deliver_up()
            if not moved:
                break
        self.touch(name, server=True)

    def do_talk(self, n: int) -> None:
        """A device comes back, and for a while everything goes well."""
        self.do_connect(n)
        self.do_pump(n, 60)

    def do_pull(self, n: int) -> None:
        """The server fills the buffers on the way; nothing arrives."""
        while self.cables[self.device(n)].pull():
            pass

    def do_deliver(self, n: int, down: bool) -> None:
        name = self.device(n)
        if down:
            self.cables[name].deliver_down()
        else:
            self.cables[name].deliver_up()
        self.touch(name, server=not down)

    def do_tick(self, n: int) -> None:
        name = self.device(n)
        self.cables[name].tick()
        self.touch(name)

    def do_cut(self, n: int, keep: int) -> None:
        """The link breaks; inside a frame when `keep` bytes of it arrived."""
        name = self.device(n)
        self.note("cut", name, keep)
        if keep:
            self.cables[name].cut_in_mid_frame(keep)
        else:
            self.cables[name].cut()
        self.touch(name, server=True)

    def do_block(self, n: int, down: bool) -> None:
        self.note("one way", self.device(n), down)
        self.cables[self.device(n)].block("down" if down else "up")

    def do_meddle(self, n: int, what: int, place: int, down: bool) -> None:
        """A hostile proxy does something to single frames."""
        name, direction = self.device(n), "down" if down else "up"
        cable = self.cables[name]
        if not self.hostile:
            return
        self.note("meddle", name, what, place, direction)
        while cable.pull():
            pass
        match what % 4:
            case 0:
                cable.duplicate(direction, place)
            case 1:
                cable.swap(direction, place)
            case 2:
                cable.lose(direction, place)
            case _:
                past = [f for c in self.cables.values() for f in (c.past_down if down else c.past_up)]
                if past:
                    self._inject(name, direction, past[place % len(past)])
        self.touch(name)

    def _inject(self, name: str, direction: str, frame: bytes) -> None:
        """A frame of another session arrives next.

        A snapshot of long ago puts a channel back, which no cursor tells from a new one: its checkpoint does,
        and a repair is what heals it.
        """
        self.cables[name].inject(direction, frame)
        message = codec.decode(frame)
        if direction == "down" and isinstance(message, m.Delta | m.Patch):
            self.known[name].damaged.add(message.channel)

    def do_bring_back(self, n: int, which: int) -> None:
        """A hostile proxy brings rows about somebody from long ago back to a device that follows them now."""
        cable = self.cables[self.device(n)]
        stolen = self._stolen(cable) if self.hostile else []
        if stolen:
            self.note("bring back", self.device(n))
            self._inject(self.device(n), "down", stolen[which % len(stolen)])
            cable.deliver_down()
        self.touch(self.device(n))

    def do_keep_back(self, n: int, who: int, purpose: int) -> None:
        """A hostile proxy keeps a denial from a device, and lets go on what comes after it."""
        self.do_decide(who, purpose, STATES.index("withdrawn"), 0)
        if self.hostile:
            self.do_meddle(n, 2, 0, True)

    # ---- what the platform does --------------------------------------------------------------------------

    def do_publish(
        self, view: int, who: int, item: int, age_s: int, lag: int, gone: bool, segment: int = 0
    ) -> None:
        names = (*shops.SHARED_VIEWS, *shops.PERSONAL_VIEWS)
        name = names[view % len(names)]
        subject, thing = shops.SUBJECTS[who % 3], shops.ITEMS[item % 6]
        pair: Pair | None = None
        entity: object = thing
        on_wire = thing
        if name in shops.PURPOSE_OF:
            thing = shops.ITEMS[item % 2]
            pair, on_wire = (subject, shops.PURPOSE_OF[name]), seal.subject_token(self.pseudonym(subject))
            entity = subject
            if name == "basket":
                entity, on_wire = {"user": subject[5:], "item": thing[5:]}, f"{on_wire}|{thing}"
        mark = self.oracle.next_mark()
        grant = 0 if pair is None else self.oracle.holding[pair].grant
        self.oracle.published[mark] = Published(name, on_wire, pair, grant)
        segments = None if pair is not None or gone else SEGMENTS[segment % len(SEGMENTS)]
        code, as_of = self.server.publish(
            name, entity, None if gone else mark, age_s=age_s, lag=lag, segments=segments
        )
        self.note("publish", name, on_wire, mark, code)
        expected = self.oracle.expected_refusal(pair, as_of)
        if code != expected and not (expected is None and code == "older"):
            raise Broken(self.story(f"publishing {name}: expected {expected}, got {code}"))
        if code is not None or gone:
            del self.oracle.published[mark]
        self.touch(server=True)

    def do_decide(self, who: int, purpose: int, state: int, lag: int) -> None:
        subject, name = shops.SUBJECTS[who % 3], shops.PURPOSES[purpose % 2]
        said = STATES[state % len(STATES)]
        self.note("decide", subject, name, said, lag)
        self.server.decide(subject, name, said, lag)
        self.touch(server=True)

    def do_revoke(self, who: int, controller: bool) -> None:
        subject = shops.SUBJECTS[who % 3]
        self.note("revoke", subject)
        self.server.revoke(subject, "controller" if controller else "subject")
        self.touch(server=True)

    def do_admit(self, n: int, who: int, purpose: int) -> None:
        """A device takes up a consent with a ticket; a ticket of another device must open nothing."""
        name, subject = self.device(n), shops.SUBJECTS[who % 3]
        purposes = (shops.PURPOSES[purpose % 2],)
        device = self.devices[name]
        ticket = self.server.ticket(device.device_id, subject, purposes)
        try:
            record = device.rt.consent.admit(subject, purposes, ticket)
        except EdgeError as error:
            self.note("admit", name, subject, type(error).__name__)
            self.touch(name)
            return
        channel = seal.personal_channel(self.pseudonym(subject), purposes[0])
        device.link.memory.tickets[channel] = ticket
        self.note("admit", name, subject, record.grants)
        self.known[name].consents((subject, purposes[0]))
        self.touch(name)

    def do_shut_out(self, n: int) -> None:
        """A device is revoked: it wipes itself, hands in what proves that, and another comes in its place."""
        name = self.device(n)
        device, cable = self.devices[name], self.cables[name]
        self.note("shut out", name)
        with self.server.store.write("revoke_device") as tx:
            tx.revoke_device(device.device_id, self.server.clock.now_us())
        self.server.deaf = False
        cable.cut()
        cable.forget()
        for _ in range(900):
            moved = cable.connect() | cable.pull() | cable.deliver_down() | cable.deliver_up()
            if cable.refusals.get("device_revoked"):
                break
            if not moved:  # turned away: it comes again
                self.do_wait(20)
        if not cable.refusals.get("device_revoked"):
            raise Broken(self.story(f"{name}: revoked, and never told so"))
        if [*device.held(), *device.readable(), *device.rt._keyring.every_key()]:
            raise Broken(self.story(f"{name}: revoked, and holds something still"))
        cable.cut()
        device.close()
        self._lives += 1
        self._add_device(name, self._folder / f"{name}-{self._lives}", skew_us=self._lives)
        self.touch(name, server=True)

    def replace_lost(self, name: str) -> None:
        """A device is lost and never heard again; another takes its place. The last one is still watched."""
        self.cables[name].cut()
        self.lost.add(self.devices[name].device_id)
        before = f"{name} (lost)"
        for gone in [n for n in self.devices if n not in self.cables]:
            self.devices.pop(gone).close()
        self.devices[before] = self.devices.pop(name)
        self.known[before], self.watches[before] = self.known.pop(name), self.watches.pop(name)
        self._lives += 1
        self._add_device(name, self._folder / f"{name}-{self._lives}", skew_us=self._lives)

    def do_poll(self) -> None:
        self.server.poll()
        self.touch(server=True)

    def do_deaf(self, deaf: bool) -> None:
        """Hints are lost from now on, or heard again."""
        self.note("deaf", deaf)
        self.server.deaf = deaf

    def do_sweep_server(self) -> None:
        self.note("server sweeps")
        self.server.sweep()
        self.touch(server=True)

    def do_back_up(self) -> None:
        self.note("server backed up")
        self.server.back_up()

    def do_restore(self) -> None:
        """The server is lost, and restored from its last backup and its journal."""
        for cable in self.cables.values():
            cable.cut()
        if self.server.restore():
            self.note("server restored")
            self.counts["restores"] += 1
            for watch in self.watches.values():
                watch.replaced.add("*")
        self.touch(*self.devices, server=True)

    def do_crash_server(self) -> None:
        self.note("server crashes")
        for cable in self.cables.values():
            cable.cut()
        self.server.crash()
        self.touch(*self.devices, server=True)

    # ---- what happens on a device ------------------------------------------------------------------------

    def do_give(self, n: int, who: int, purpose: int) -> None:
        name, pair = self.device(n), (shops.SUBJECTS[who % 3], shops.PURPOSES[purpose % 2])
        self.note("give", name, *pair)
        self._give(name, pair)

    def _give(self, name: str, pair: Pair) -> None:
        heard = self.knowledge(name, pair)
        record = self.devices[name].rt.consent.give(pair[0], [pair[1]], notice="2026-11")
        self.oracle.knew[record.decisions[0]] = heard
        self.known[name].consents(pair, record.decisions[0])
        self.touch(name)

    def knowledge(self, name: str, pair: Pair) -> tuple[int, frozenset[bytes], str]:
        """What a decision taken now on the device has seen, and as whose the ledger has it."""
        known, device = self.known[name], self.devices[name]
        own = frozenset((*known.denied_here.get(pair, ()), *known.restricted_here.get(pair, ())))
        return device.replica.lane_position(), own, device_actor(device.device_id)

    def do_toggle(self, n: int, who: int, purpose: int, times: int) -> None:
        """Somebody withdraws and gives again, perhaps twice, and an event comes in."""
        name, pair = self.device(n), (shops.SUBJECTS[who % 3], shops.PURPOSES[purpose % 2])
        for _ in range(times):
            self.do_deny(n, who, purpose, refuse=False)
            self.note("again", name, *pair)
            self._give(name, pair)
        self.do_track(n, who, flush=True)

    def do_deny(self, n: int, who: int, purpose: int, refuse: bool) -> None:
        name, pair = self.device(n), (shops.SUBJECTS[who % 3], shops.PURPOSES[purpose % 2])
        consent, heard = self.devices[name].rt.consent, self.knowledge(name, pair)
        self.note("deny", name, *pair, refuse)
        if refuse:
            ids = list(consent.refuse(pair[0], [pair[1]], notice="2026-11").decisions)
        else:
            ids = consent.withdraw(pair[0], [pair[1]]).receipt.decisions
        for id_ in ids:
            self.oracle.knew.setdefault(id_, heard)
        self.known[name].denied_here[pair].extend(ids)
        self.known[name].close(pair)
        self.touch(name)

    def do_track(self, n: int, who: int, flush: bool) -> None:
        name, subject = self.device(n), shops.SUBJECTS[who % 3]
        device, known = self.devices[name], self.known[name]
        rt, newest = device.rt, device.newest_event_us
        said = rt.track("view", user=subject[5:], item="0")
        self.note("track", name, subject, said)
        if said.name == "ACCEPTED":
            known.events[subject, shops.P] = known.events.get((subject, shops.P), 0) + 1
            newest[subject] = max(newest.get(subject, 0), device.clock.now_us())
        if flush:
            rt.flush()
        self.touch(name)

    def do_sweep(self, n: int) -> None:
        name = self.device(n)
        device = self.devices[name]
        self.note("sweep", name)
        before = device.stands()
        device.rt.sweep()
        # past its retention a channel is not received yet, again: the next session brings it
        gone = {
            channel for (channel, handle), stand in device.stands().items() if stand < before[channel, handle]
        }
        self.watches[name].replaced.update(gone)
        session = self.cables[name].sessions
        self.let_go.update((name, session, channel) for channel in gone)
        self.touch(name)

    def do_lose_a_row(self, n: int, which: int) -> None:
        """A row goes without leaving a trace; the next checkpoint tells."""
        name = self.device(n)
        if self.hostile and self.devices[name].lose_a_row(which):
            self.note("lose a row", name, which)
            self.known[name].damaged.add("all")
            self.cables[name].cut()
        self.touch(name)

    def do_restart(self, n: int, how: int) -> None:
        """A device ends in order or by `kill -9`, and comes back, perhaps under another catalog."""
        name = self.device(n)
        device = self.devices[name]
        self.note("restart", name, how)
        self.cables[name].cut()
        self.cables[name].forget()
        match how % 4:
            case 0:
                device.restart()
            case 1:
                device.restart(version=1 - device.version)
            case _:
                device.crash()
        if how % 5 == 0:
            device.clock.reboot()
            device.restart()
        self.cables[name].forget()
        self.known[name].restarted()
        self.touch(name)

    # ---- time --------------------------------------------------------------------------------------------

    def do_wait(self, seconds: int) -> None:
        """Time passes for everybody; who waits for a tick gets one."""
        self.note("wait", seconds)
        for clock in (self.server.clock, *(d.clock for d in self.devices.values())):
            clock.advance(seconds=seconds)
        for cable in self.cables.values():
            cable.age()
            cable.tick()
        if not self.server.deaf or seconds >= 3_600:
            self.server.poll()
        self.touch(*self.devices, server=True)

    def do_jump(self, n: int, where: int) -> None:
        """Somebody sets a wall clock; beyond the devices it is the server's."""
        at_us = (YEAR_1970_US, YEAR_2040_US, None)[where % 3]
        clocks = [*(self.devices[name].clock for name in self.cables), self.server.clock]
        clock = clocks[n % len(clocks)]
        self.note("jump", n % len(clocks), at_us)
        self.server_jumped |= clock is self.server.clock
        moved_us = clock.now_us() + (where - 50) * 3_600 * SECOND_US
        clock.set_wall(max(moved_us, 0) if at_us is None else at_us)  # no system sets one before 1970
        self.touch(*self.devices, server=True)

    def do_boot_back(self, n: int) -> None:
        """The boot clock of a running device goes back, as after a virtual machine was restored."""
        name = self.device(n)
        before_us = self.devices[name].boot_us()
        self.devices[name].clock.reboot()
        if self.devices[name].boot_us() == before_us:
            return
        self.note("boot back", name)
        self.known[name].restarted()
        self.cables[name].forget()
        self.touch(name)

    # ---- coming to rest ----------------------------------------------------------------------------------

    def rest(self) -> None:
        """Nothing fails any more: within a bounded time all must be equal, fresh and told.

        Sessions that somebody meddled with end, as the proxy is gone; the others must go on by themselves.
        """
        self.note("rest")
        self.server.deaf = False
        self.server.poll()
        for name, cable in self.cables.items():
            if cable.tainted or cable.blocked:
                cable.cut()
            self.touch(name)
        for round_ in range(90):
            self._settle()
            self.acknowledged.update(self.server.acknowledge(1_000_000))
            self.check()
            faults = [*invariants.faults_at_rest(self), *proofs.faults_in_proofs(self)]
            if not faults:
                self.counts["rests"] += 1
                self.counts["rounds of resting"] += round_
                return
            self.do_wait((2, 40, 130)[round_ % 3])
        raise Broken(self.story("does not come to rest: " + "; ".join(faults[:6])))

    def _settle(self) -> None:
        for _ in range(2_000):
            moved = False
            for cable in self.cables.values():
                moved |= cable.connect()
                moved |= cable.pull()
                moved |= cable.deliver_down()
                moved |= cable.deliver_up()
            if not moved:
                break
        else:
            raise Broken(self.story("the two sides never fall silent"))
        for name in self.cables:
            self.watches[name].replaced.add("*")
            self.touch(name, server=True)
