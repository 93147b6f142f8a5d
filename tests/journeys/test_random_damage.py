"""Random damage to a kiosk's database and log, the rebuild, and the life after it: no value ever lies."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from edge_runtime.cache.write_ahead_log import read_log
from tests.support.damaged import DAY_US, SECOND, Kiosk, begun, disagreements, flip, unplugged, whole_share
from tests.support.logged import FRAME, HEADER

SEED = 20_261_204
DAMAGES = 48


@pytest.fixture(scope="module")
def kiosks(tmp_path_factory: pytest.TempPathFactory) -> list[Kiosk]:
    """Closed; unplugged after a checkpoint; unplugged with the newest commits in the log."""
    folder = tmp_path_factory.mktemp("kiosks")
    closed = begun(folder / "closed", SEED)
    return [
        closed,
        unplugged(closed, folder / "unplugged", SEED),
        unplugged(closed, folder / "logged", SEED, log=True),
    ]


def damaged(kiosk: Kiosk, rng: random.Random) -> list[str]:
    """One to eight bits, anywhere but in the last commit of the log, which may as well be torn."""
    log = kiosk.folder / "cache.db-wal"
    frames = read_log(log).frames
    places = []
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        path = log if frames and rng.random() < 0.5 else kiosk.database
        end = os.path.getsize(path) if path != log else HEADER + (frames - 8) * FRAME
        offset = rng.randrange(end)
        with open(path, "r+b") as file:
            flip(file.fileno(), offset)
        places.append(f"{path.name}:{offset}")
    return places


@pytest.mark.parametrize("number", range(DAMAGES))
def test_law_7_after_random_damage_no_value_is_wrong_and_called_whole(
    kiosks: list[Kiosk], tmp_path: Path, number: int
) -> None:
    rng = random.Random(SEED + number)
    kiosk = rng.choice(kiosks).copied(tmp_path / "kiosk")
    places = damaged(kiosk, rng)
    with kiosk.open(rebuild=True) as rt:
        assert disagreements(kiosk, rt) == [], places
        before = whole_share(kiosk, rt)
        for step_us in (20 * SECOND, 200 * SECOND, DAY_US // 10):
            kiosk.live(rt, rng, 9, step_us)
            assert disagreements(kiosk, rt) == [], places
        assert whole_share(kiosk, rt) >= min(before, 0.5), places
    with kiosk.open() as rt:
        assert disagreements(kiosk, rt) == [], places
