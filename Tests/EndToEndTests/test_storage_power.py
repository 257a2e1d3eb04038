"""What a power cut leaves: everything that was synchronised, and of the rest whatever the disk had got to."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile

import pytest

from dunlin import ENVIRONMENT, PATIENCE
from durable import Flow
from durable_state import probe
from power import (
    DIE_AT_CALL,
    DIE_AT_DATABASE_WRITE,
    DIRECTORY_SYNCS,
    IGNORES_SYNC,
    LOG_SYNCS,
    OTHER_SYNCS,
    SYNC_DELAY,
    Disk,
)
from story import Story, told

# How often the power fails: a hundred times by hand.
CUTS = int(os.environ.get("DUNLIN_POWER_CUTS", "5"))

# So many bytes a message that the log is full, and written to the database, several times between two cuts.
SIZE = 4000

CALLS_MAX = 1_000_000


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "power")


def start(cluster, disk, *flags):
    return cluster.node("n", flags=["--data", disk.data, "--shards", "2", *flags], environment=disk.environment)


def arm(disk, story):
    """The power fails at some moment, or at some call, or while the log is written to the database."""
    moment = story.random.choice(["any moment", "a call", "a checkpoint"])
    if moment == "a call":
        disk.set(DIE_AT_CALL, story.random.randrange(1, 2000))
    elif moment == "a checkpoint":
        disk.set(DIE_AT_DATABASE_WRITE, story.random.randrange(1, 1500))
    disk.set(SYNC_DELAY, story.random.choice([0, 0, 10]))
    # Nothing that was not synchronised is there, or all, or any part.
    return moment, story.random.choice([0, 10, 50, 90, 100])


@pytest.mark.timeout(60 + 10 * CUTS)
def test_power_cuts_lose_nothing_that_was_acknowledged(cluster, disk, seed):
    node = start(cluster, disk)
    story = Story(node, seed, size=SIZE)
    begun = disk.control[OTHER_SYNCS]
    for cut in range(1, CUTS + 1):
        moment, kept = arm(disk, story)
        with told(f"power cut {cut}, at {moment}, {kept} % kept", seed, disk.left):
            story.live(story.random.randrange(1, 1500))
            disk.cut(f"{seed} {cut}", kept)
            node.start_anywhere()
            story.check()
    with told("the end", seed, disk.left):
        story.finish()
    assert "damaged" not in node.log()
    # It was something to survive: sectors were lost, and the log was written to the database.
    checkpoints = disk.control[OTHER_SYNCS] - begun
    print(f"{disk.unsynced} sectors were not synchronised, {disk.lost} of them lost; {checkpoints} checkpoints")
    assert disk.lost > 0 and checkpoints > 0
    assert disk.control[LOG_SYNCS] > CUTS and disk.control[DIRECTORY_SYNCS] > CUTS


def test_the_disk_sees_all_that_the_node_writes(cluster, disk, seed):
    node = start(cluster, disk)
    story = Story(node, seed, size=SIZE)
    story.live(1500)
    node.start_anywhere()
    assert node.terminate() == 0
    assert disk.control[OTHER_SYNCS] > 2
    assert disk.differing() == []


def test_a_disk_that_does_not_synchronise_is_found_out(cluster, disk, seed):
    """The same test fails where nothing is kept: it can."""
    disk.set(IGNORES_SYNC, 1)
    node = start(cluster, disk)
    story = Story(node, seed)
    story.live(100)
    disk.cut(seed, 0)
    node.start_anywhere()
    with pytest.raises(AssertionError, match="is lost|may only be"):
        story.check()
        story.finish()


@pytest.mark.timeout(60 + 10 * CUTS)
@pytest.mark.parametrize("sync", ["os", "50"])
def test_a_node_that_synchronises_later_loses_something_but_not_itself(cluster, disk, seed, sync):
    node = start(cluster, disk, "--sync", sync)
    losses = 0
    for cut in range(1, CUTS + 1):
        if cut % 3 == 0:
            node.stop()
            disk.empty()
            node.start_anywhere()
        # What was lost confuses those who had it: others come.
        story = Story(node, f"{seed} {cut}", prefix=f"{cut}-", size=SIZE)
        moment, kept = arm(disk, story)
        kept = 0 if cut == 1 else kept
        with told(f"power cut {cut}, at {moment}, {kept} % kept", seed, disk.left):
            story.live(story.random.randrange(100, 1500))
            disk.cut(f"{seed} {cut}", kept)
            assert_whole(disk.left)
            node.start_anywhere()
        try:
            story.check()
            story.finish()
        except AssertionError:
            losses += 1
    assert "damaged" not in node.log()
    assert losses > 0


def retained(node):
    """The topics with a retained message."""
    with Flow(node, "", clean=True) as flow:
        flow.subscribe("kept/#", 1)
        probe(node, ["kept/end"], b"")
        return {message.topic for message in flow.messages_until("kept/end")}


@pytest.mark.timeout(60 + 5 * CUTS)
def test_power_cuts_while_a_damaged_database_is_replaced_lose_nothing_more(cluster, disk, tmp_path, seed):
    node = start(cluster, disk)
    with Flow(node, "", clean=True) as flow:
        for index in range(300):
            flow.publish(f"kept/{index}", b"x" * 400, retain=True)
    assert node.terminate() == 0
    database, damaged = disk.root / "data/dunlin.db", tmp_path / "damaged"
    content = bytearray(database.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(4096)
    database.write_bytes(content)
    shutil.copytree(disk.root, damaged)
    disk.put(damaged)
    disk.set(DIE_AT_CALL, CALLS_MAX)
    node.start_anywhere()
    calls = CALLS_MAX - disk.control[DIE_AT_CALL]
    readable = retained(node)
    assert 150 < len(readable) < 300
    generator = random.Random(seed)
    for cut in range(1, 4 * CUTS + 1):
        node.stop()
        disk.put(damaged)
        at, kept = generator.randrange(1, calls), generator.choice([0, 10, 50, 90, 100])
        with told(f"power cut {cut}, at call {at} of {calls}, {kept} % kept", seed, disk.left):
            disk.set(DIE_AT_CALL, at)
            done = subprocess.run(node.command(), env=ENVIRONMENT | disk.environment, timeout=PATIENCE, capture_output=True)
            assert done.returncode == -signal.SIGKILL
            disk.cut(f"{seed} {cut}", kept)
            node.start_anywhere()
            missing = sorted(readable - retained(node))
            assert not missing, f"{len(missing)} messages are lost that could be read: {missing[:3]}…"


def assert_whole(left):
    """SQLite finds nothing wrong, in a copy of what was left."""
    if (left / "data/dunlin.db").exists():
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(left / "data", copy, dirs_exist_ok=True)
            with contextlib.closing(sqlite3.connect(f"{copy}/dunlin.db")) as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
