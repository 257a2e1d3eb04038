"""`node check`: what the members of a cluster hold of what they share is compared, and what differs is said."""

import json
import re
import signal
import threading

from dunlin import ROOT, Client, settle, unique, until
from serf import SerfAgent
from test_members import command
from test_node_status import table_after, wait_for_links


def check(node, status=0):
    done = command("check", "--json", "--node", node.name, folder=node.control)
    assert (done.returncode, done.stderr) == (status, ""), done.stdout
    answer = json.loads(done.stdout)
    assert answer["equal"] == (status == 0)
    return answer


def tally(good, all_of=None):
    return {"good": good, "all": all_of or good}


def test_three_equal_nodes_are_equal_from_each(cluster):
    nodes = cluster.grow(3)
    wait_for_links(*nodes)
    topic = unique("shared")
    with Client(nodes[1]) as client:
        client.subscribe(f"{topic}/+", 1)
        client.publish(f"{topic}/kept", "1", qos=1, retain=True)
        settle(client, f"{topic}/now", [nodes[0]])
        for node in nodes:
            answer = check(node)
            assert answer["node"] == node.name
            assert (answer["members"], answer["links"], answer["tables"]) == (tally(3), tally(6), tally(6))
            assert (answer["retained"], answer["retained_messages"]) == (tally(3), 1)
            assert answer["differences"] == []
    done = command("check", "--node", nodes[0].name, folder=nodes[0].control)
    assert done.returncode == 0
    assert done.stdout.startswith("members   3 of 3 answered\n") and done.stdout.endswith("\nNothing differs.\n")


def test_what_is_on_its_way_is_no_difference(cluster):
    nodes = cluster.grow(3)
    wait_for_links(*nodes)
    over = threading.Event()
    counts = [0] * 6

    def trouble(node, number):
        with Client(node) as client:
            while not over.is_set():
                client.subscribe(f"busy/{number}/{counts[number]}/#", 1)
                client.publish(f"busy/{number}/{counts[number] % 50}", str(counts[number]), qos=1, retain=True)
                counts[number] += 1

    threads = [threading.Thread(target=trouble, args=pair) for pair in zip(nodes * 2, range(6))]
    for thread in threads:
        thread.start()
    try:
        while min(counts) < 200 and all(thread.is_alive() for thread in threads):
            for node in nodes:
                check(node)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert min(counts) >= 200


def test_retained_messages_that_a_node_has_no_room_for_are_a_difference(cluster):
    first, second = cluster.grow(2)
    # From its peers a node takes twice as many as it would from its clients.
    full = cluster.node(join=[first], flags=["--max-retained-messages", "5"])
    wait_for_links(first, second, full)
    with Client(first) as client:
        for number in range(20):
            client.publish(f"many/{number}", "1", qos=1, retain=True)
    answer = check(second, status=1)
    assert answer["retained"] == tally(2, 3)
    (difference,) = answer["differences"]
    assert (difference["kind"], difference["node"], difference["other"]) == ("retained", full.name, second.name)
    assert re.search(r"it has 10, the other 20, and they differ in \d+ of 256", difference["message"])
    assert (answer["links"], answer["tables"]) == (tally(6), tally(6))
    text = command("check", "--node", full.name, folder=full.control)
    assert text.returncode == 1
    assert f"\n{first.name} does not have the same retained messages as {full.name}: it has 20" in text.stdout


def test_a_member_that_hangs_or_is_out_of_reach_is_said(cluster, tmp_path):
    # It stays a member for longer than the check takes.
    nodes = [cluster.node(flags=["--gossip-profile", "wan"])]
    nodes += [cluster.node(join=nodes[:1], flags=["--gossip-profile", "wan"]) for _ in range(2)]
    first, _, third = nodes
    wait_for_links(*nodes)
    third.process.send_signal(signal.SIGSTOP)
    try:
        answer = check(first, status=1)
    finally:
        third.process.send_signal(signal.SIGCONT)
    assert answer["members"] == tally(2, 3)
    # If the check begins late, the links to it have been given up before it ends.
    kinds = {difference["kind"] for difference in answer["differences"] if difference["node"] == third.name}
    assert "silent" in kinds or "unlinked" in kinds
    check(first)
    # A member as far as gossip knows, where nobody takes links.
    tags = ["-tag=role=dunlin", "-tag=epoch=1764266400123", "-tag=link=9"]
    agent = SerfAgent("127.0.0.101", tmp_path / "serf.log", join=first.gossip, flags=tags)
    try:
        answer = until(
            lambda: (answer := json.loads(asked(first).stdout))["members"] == tally(3, 4) and answer,
            "the agent is a member",
        )
        kinds = {(difference["kind"], difference["node"]) for difference in answer["differences"]}
        assert ("unlinked", agent.name) in kinds and ("link", first.name) in kinds
        assert "connection refused" in asked(first).stdout
    finally:
        agent.kill()


def asked(node):
    return command("check", "--json", "--node", node.name, folder=node.control)


def test_a_node_alone_is_equal_to_itself_and_one_without_a_ring_has_nothing_to_ask(cluster):
    assert check(cluster.node())["members"] == tally(1)
    node = cluster.node(ports={"gossip": "off", "link": "off"})
    done = asked(node)
    assert (done.returncode, done.stdout) == (2, "")
    assert "gossip-port off" in done.stderr


def test_without_a_node_there_is_an_error_and_no_answer(tmp_path):
    done = command("check", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no node" in done.stderr


def test_every_field_and_kind_is_documented(cluster):
    first, second = cluster.grow(2)
    wait_for_links(first, second)
    answer = check(first)
    page = (ROOT / "docs/operations.md").read_text().partition("\n## Check\n")[2].partition("\n## ")[0]
    of_one = ["kind", "node", "other", "message", "table", "other_table"]
    assert table_after(page, "With `--json`:") == set(answer) | {f"differences[].{field}" for field in of_one}
    source = (ROOT / "Sources/node/Control/CheckQuestion.swift").read_text()
    kinds = re.search(r"enum Kind[^\n]*\n *case ([a-z, ]+)", source)[1].split(", ")
    assert table_after(page, "| kind |") == set(kinds)
