"""A disk that fails: nothing is acknowledged that is not kept, all else goes on, and so does the rest when the disk works
again."""

import errno
import re
import subprocess

import pytest

from dunlin import ENVIRONMENT, PATIENCE, until
from durable import Flow
from durable_state import probe
from power import FAIL_OPEN, FAIL_READ, FAIL_SYNC, FAIL_WRITE, FAULTS, Disk
from story import Story, told
from wire import PUBACK, PUBREC, SUBACK, Raw, connect, publish, subscribe, u16, u32

FAILS = r"nothing can be stored"
WORKS = r"storing works again"

# What every write comes to: a full disk, a broken one, one that loses what it was to synchronise.
WRITE_FAULTS = [
    pytest.param(FAIL_WRITE, errno.ENOSPC, id="full"),
    pytest.param(FAIL_WRITE, errno.EIO, id="broken"),
    pytest.param(FAIL_SYNC, errno.EIO, id="unsynchronised"),
]
FAULTY_READ = pytest.param(FAIL_READ, errno.EIO, id="unreadable")


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "power")


def start(cluster, disk):
    return cluster.node("n", flags=["--data", disk.data, "--shards", "2"], environment=disk.environment)


def session(node, client_id, version=5, keeps=False):
    raw = Raw(node.mqtt)
    props = b"\x11" + u32(3600) if keeps else b""
    raw.send(connect(client_id, version=version, flags=0, props=props if version == 5 else b""))
    assert raw.packet()[1][:2] == b"\x00\x00"
    return raw


@pytest.mark.parametrize("which, error", WRITE_FAULTS)
def test_what_cannot_be_stored_is_not_acknowledged_and_all_else_goes_on(cluster, disk, which, error):
    node = start(cluster, disk)
    with Flow(node, "away") as flow:
        flow.subscribe("kept/#", 1)
    free, new = session(node, "free"), session(node, "new")
    old, changer = session(node, "old", version=4), session(node, "changer", keeps=True)
    free.send(subscribe("free", options=2))
    assert free.packet() == (SUBACK, u16(1) + b"\x00\x02")
    begin = node.log_length()
    disk.set(which, error)

    new.send(publish("kept/new", b"1", 1, 1))
    first, body = new.packet()
    assert (first, body[:3]) == (PUBACK, u16(1) + b"\x97")
    new.send(publish("kept/new", b"2", 2, 2))
    first, body = new.packet()
    assert (first, body[:3]) == (PUBREC, u16(2) + b"\x97")
    node.wait_for_log(FAILS, begin)
    # What needs no storage: a subscriber that is not kept.
    for qos in (0, 1, 2):
        new.send(publish("free", str(qos).encode(), qos, 3))
        if qos:
            first, body = new.packet()
            assert (first, body[:2]) == (PUBACK if qos == 1 else PUBREC, u16(3))
        first, body = free.packet()
        assert (first >> 1 & 3, body[-1:]) == (qos, str(qos).encode())
    # MQTT 3 has no word for it: the next that the publisher hears is of its next message.
    changer.send(subscribe("changed", options=1))
    old.send(publish("kept/old", b"1", 1, 1, version=4))
    old.send(publish("free", b"old", 1, 2, version=4))
    assert old.packet() == (PUBACK, u16(2))
    assert free.packet()[1].endswith(b"old")
    # No SUBACK so far.
    changer.expect_ping()
    assert node.log(begin).count("nothing can be stored") == 1

    disk.set(which, 0)
    node.wait_for_log(WORKS, begin)
    assert changer.packet() == (SUBACK, u16(1) + b"\x00\x01")
    old.send(publish("kept/old", b"1", 1, 1, dup=True, version=4))
    assert old.packet() == (PUBACK, u16(1))
    new.send(publish("kept/new", b"3", 1, 1))
    assert new.packet() == (PUBACK, u16(1))
    node.kill()
    disk.cut(0, 0)
    node.start_anywhere()
    with Flow(node, "away") as flow:
        messages = []
        flow.subscribe("end", 1, messages.append)
        probe(node, ["end"], b"")
        messages += flow.messages_until("end")
    found = {(message.topic, message.payload) for message in messages}
    assert found >= {("kept/new", b"3"), ("kept/old", b"1")}


@pytest.mark.parametrize("recovers", [False, True], ids=["to_the_end", "for_a_while"])
@pytest.mark.parametrize("which, error", [*WRITE_FAULTS, FAULTY_READ])
def test_faults_under_load_and_a_power_cut_lose_nothing_that_was_acknowledged(
    cluster, disk, seed, which, error, recovers
):
    node = start(cluster, disk)
    # A new session is not denied to a client because its old one cannot be forgotten.
    story = Story(node, seed, size=4000, with_ends=False)

    def fail():
        begin = node.log_length()
        disk.set(which, error)
        node.wait_for_log(FAILS, begin)
        if recovers:
            disk.set(which, 0)
            node.wait_for_log(WORKS, begin)
            # SUBACKs that had to wait, and what comes after.
            most = story.count + 20
            until(lambda: story.count >= most, "more acknowledgements")

    for cut in range(2):
        with told(f"fault {cut}", seed, disk.left):
            story.live(story.random.randrange(1, 600), fail)
            disk.set(which, 0)
            disk.cut(f"{seed} {cut}", story.random.choice([0, 50, 100]))
            node.start_anywhere()
            story.check()
    with told("the end", seed, disk.left):
        story.finish()
    assert disk.control[FAULTS] > 0
    assert "damaged" not in node.log()


@pytest.mark.parametrize(
    "which, error",
    [
        pytest.param(FAIL_OPEN, errno.EIO, id="open"),
        pytest.param(FAIL_READ, errno.EIO, id="read"),
        pytest.param(FAIL_WRITE, errno.ENOSPC, id="full"),
        pytest.param(FAIL_SYNC, errno.EIO, id="synchronise"),
    ],
)
def test_a_node_does_not_start_where_the_disk_fails_and_touches_nothing(cluster, disk, which, error):
    node = start(cluster, disk)
    with Flow(node, "p") as flow:
        flow.send(publish("kept", b"x", 1, retain=True, version=4))
        flow.answer(PUBACK)
    node.kill()
    disk.set(which, error)
    done = subprocess.run(
        node.command(), capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT | disk.environment
    )
    assert done.returncode == 1, done.stderr
    assert re.search("data directory|storing failed|no room", done.stderr), done.stderr
    disk.set(which, 0)
    node.start_anywhere()
    assert "damaged" not in node.log()
    with Flow(node, "q") as flow:
        flow.subscribe("kept", 1)
        kind, body = flow.packet()
        assert flow.message(kind, body).payload == b"x"
