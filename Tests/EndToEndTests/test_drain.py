"""A node that stops sends its clients to the others."""

import json
import threading
import time

from dunlin import DISCONNECT, PATIENCE, Client, RawSession, settle, unique, until
from mqtt5 import Endpoint, Peer
from test_members import command

USE_ANOTHER_SERVER = 0x9C
SERVER_SHUTTING_DOWN = 0x8B
SERVER_REFERENCE = 0x1C


def goodbye(session):
    """The reason and the server reference of the DISCONNECT that comes next."""
    kind, body = session.packet()
    assert kind == DISCONNECT
    if len(body) < 3:
        return body[0], None
    assert body[2] == SERVER_REFERENCE
    return body[0], body[5 : 5 + int.from_bytes(body[3:5], "big")].decode()


def test_clients_are_sent_to_the_other_nodes_in_turn(cluster):
    first, second, third = cluster.grow(3)
    sessions = [RawSession(first, unique("c"), version=5) for _ in range(6)]
    with RawSession(first, unique("old")) as old:
        assert first.terminate() == 0
        assert old.at_end()
    goodbyes = [goodbye(session) for session in sessions]
    assert {reason for reason, _ in goodbyes} == {USE_ANOTHER_SERVER}
    assert {server for _, server in goodbyes} == {second.host, third.host}
    assert all(session.at_end() for session in sessions)


def test_they_are_spread_over_a_time_and_nobody_is_sent_to_a_node_that_stops_too(cluster):
    first = cluster.node(flags=["--drain-time", "2"])
    second = cluster.node(join=[first], flags=["--drain-time", "2"])
    third = cluster.node(join=[first])
    sessions = [RawSession(first, unique("c"), version=5) for _ in range(10)]
    busy = RawSession(second, unique("c"), version=5), RawSession(second, unique("c"), version=5)
    ends = [threading.Thread(target=second.terminate)]
    ends[0].start()

    def knows():
        members = json.loads(command("members", "--node", first.name, "--json", folder=first.control).stdout)["members"]
        return any(m["name"] == second.name and (m["state"] != "alive" or "draining" in m["tags"]) for m in members)

    until(knows, "the first node knows that the second one stops")
    times, servers = [], set()

    def watch(session):
        servers.add(goodbye(session))
        times.append(time.monotonic())

    watchers = [threading.Thread(target=watch, args=(session,)) for session in sessions]
    for watcher in watchers:
        watcher.start()
    assert first.terminate() == 0
    for thread in watchers + ends:
        thread.join(PATIENCE)
    assert goodbye(busy[0])[0] == goodbye(busy[1])[0] == USE_ANOTHER_SERVER
    assert len(times) == 10
    assert max(times) - min(times) > 1
    assert servers == {(USE_ANOTHER_SERVER, third.host)}


def test_without_other_nodes_clients_are_closed_at_once(cluster):
    node = cluster.node(flags=["--drain-time", "60"])
    with RawSession(node, unique("c"), version=5) as session:
        assert node.terminate() == 0
        assert goodbye(session) == (SERVER_SHUTTING_DOWN, None)


def test_a_command_stops_a_node_in_the_same_way(cluster):
    first, second = cluster.grow(2)
    with RawSession(first, unique("c"), version=5) as session:
        done = command("drain", "--node", first.name, "--json", folder=first.control)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"node": first.name, "clients": 1, "servers": 1}
        assert goodbye(session) == (USE_ANOTHER_SERVER, second.host)
    assert first.process.wait(PATIENCE) == 0
    text = command("drain", folder=second.control)
    assert text.stdout == f"{second.name} closes the connections of 0 clients and stops\n"
    assert second.process.wait(PATIENCE) == 0


def test_sessions_of_clients_that_are_away_are_given_to_the_other_nodes(cluster):
    nodes = cluster.grow(3)
    topic, names = unique("kept"), [unique("away") for _ in range(20)]
    for name in names:
        with Client(nodes[0], name, clean=False, expiry=300) as client:
            client.subscribe(topic, 1)
            settle(client, topic, nodes[1:])
    with Client(nodes[1]) as publisher:
        for number in range(100):
            publisher.publish(topic, str(number), 1)
    assert nodes[0].terminate() == 0
    nodes[0].wait_for_log("left=0 offered=20 .*other nodes have the sessions of clients that are away")
    with Client(nodes[1]) as publisher:
        publisher.publish(topic, "afterwards", 1)
    for name in names:
        with Client(nodes[2], name, clean=False, expiry=300) as client:
            assert client.session_present
            assert client.payloads(101) == [*map(str, range(100)), "afterwards"]


def test_a_will_that_waits_for_its_delay_goes_with_its_session(cluster):
    first, second = cluster.grow(2)
    will, heir, stays = unique("will"), unique("heir"), unique("stays")
    with Client(second) as watcher:
        watcher.subscribe(will + "/#", 1)
        settle(watcher, will + "/probe", [first])
        peers = [
            Peer(
                Endpoint(first),
                name,
                clean=False,
                will={"topic": f"{will}/{name}", "payload": "gone", "qos": 1, "properties": {"WillDelayInterval": 6}},
                SessionExpiryInterval=300,
            )
            for name in (heir, stays)
        ]
        start = time.monotonic()
        assert first.terminate() == 0
        assert time.monotonic() - start < 5
        with Client(second, heir, clean=False, expiry=300) as back:
            assert back.session_present
            # Of the one that does not come back it is published when it is due.
            message = watcher.receive()
            assert (message.topic, message.payload) == (f"{will}/{stays}", b"gone")
            assert time.monotonic() - start > 5.5
            assert watcher.messages.empty()
        for peer in peers:
            peer.drop()
