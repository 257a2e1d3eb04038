"""`node status`: what a running node counts reaches its operator."""

import json
import os
import re
import socket

from dunlin import PATIENCE, ROOT, Client, require, settle, unique, until
from serf import SerfAgent
from test_gossip_keys import new_key
from test_members import command


def status(node):
    done = command("status", "--json", "--node", node.name, folder=node.control)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def counter(node, name):
    return status(node)["gossip"]["counters"][name]


def peer(node, other):
    peers = status(node)["links"]["peers"]
    return next((peer for peer in peers if peer["name"] == other.name), {})


def wait_for_links(*nodes):
    for node in nodes:
        for other in nodes:
            if other is not node:
                until(lambda: peer(node, other).get("in_step"), f"{node.name} is in step with {other.name}")


def send(node, *packets):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.200", 0))
        for packet in packets:
            sender.sendto(packet, (node.address, node.ports["gossip"]))


def compound(*parts):
    return bytes([7, len(parts)]) + b"".join(len(part).to_bytes(2, "big") for part in parts) + b"".join(parts)


def nested(depth):
    packet = b"\x00"
    for _ in range(depth):
        packet = compound(packet)
    return packet


def expect_counted(node, name, packet, count=3):
    """Each of the packets raises that very counter."""
    before = counter(node, name)
    send(node, *[packet] * count)
    until(lambda: counter(node, name) >= before + count, f"{name} of {node.name} goes up by {count}")


def test_what_strangers_send_is_counted_under_its_reason(cluster):
    first, second = cluster.grow(2)
    quiet = ("malformed", "oversized", "undecryptable", "wrongly_labelled", "replayed", "plaintext_dropped")
    assert [counter(first, name) for name in quiet] == [0] * len(quiet)
    expect_counted(first, "malformed", b"\xc8 no packet")
    expect_counted(first, "oversized", nested(40))
    expect_counted(first, "wrongly_labelled", bytes([244, 5]) + b"other" + b"\x00")
    expect_counted(first, "unsolicited", b"\x02\x82\xa7Payload\xa0\xa5SeqNo\xce\x7f\xff\xff\xff")
    # Exactly what was sent, and nowhere else.
    assert [counter(first, name) for name in ("malformed", "oversized", "wrongly_labelled")] == [3, 3, 3]
    assert [counter(second, name) for name in quiet] == [0] * len(quiet)
    with socket.create_connection((first.address, first.ports["gossip"]), timeout=PATIENCE) as stream:
        stream.sendall(b"\xc8" * 100)
        until(lambda: counter(first, "malformed") > 3, "a stream that is none is counted")
    with socket.create_connection((first.address, first.ports["link"]), timeout=PATIENCE) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until(lambda: status(first)["links"]["failures"]["strangers"] == 1, "what is no link is counted")
    text = command("status", "--node", first.name, folder=first.control).stdout
    assert re.search(r"^  dropped +malformed \d+, .*oversized 3, .*wrongly labelled 3$", text, re.MULTILINE), text


def test_with_keys_what_is_not_sealed_and_what_is_replayed_is_counted(cluster, tmp_path):
    require(os.geteuid() == 0, "only root can listen to what others send")
    path = tmp_path / "gossip.keys"
    path.write_text(new_key() + "\n")
    path.chmod(0o600)
    first = cluster.node(flags=["--cluster-key-file", str(path)])
    second = cluster.node(join=[first], flags=["--cluster-key-file", str(path)])
    expect_counted(first, "plaintext_dropped", b"\x00\x82 a ping, perhaps")
    # With another second byte it might be taken for a plain packet.
    expect_counted(first, "undecryptable", b"\x01\x00" + os.urandom(79))
    # A packet of the second node's, as somebody on the way sees it.
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as listener:
        listener.bind(("lo", 0))
        listener.settimeout(PATIENCE)
        seen = until(lambda: datagram(listener.recv(65_536), second.gossip, first.gossip), "the two talk")
    expect_counted(first, "replayed", seen)
    assert counter(second, "replayed") == 0


def datagram(packet, source, target):
    """What an IPv4 packet carries from one UDP port to another; None for others."""
    length = (packet[0] & 15) * 4
    if packet[9] != socket.IPPROTO_UDP:
        return None
    ports = [int.from_bytes(packet[length + at : length + at + 2], "big") for at in (0, 2)]
    ends = [f"{socket.inet_ntoa(packet[at : at + 4])}:{port}" for at, port in zip((12, 16), ports)]
    return packet[length + 8 :] if ends == [source, target] else None


def test_the_broker_and_the_node_are_shown_as_they_are(cluster):
    node = cluster.node("kiln")
    before = status(node)
    assert before["node"]["name"] == "kiln"
    assert re.fullmatch(r"\d+\.\d+\.\d+", before["node"]["release"])
    listeners = {name: address for name, address in node.ready.items() if name != "name" and address != "off"}
    assert before["node"]["listeners"] == listeners
    until(lambda: status(node)["node"]["uptime_seconds"] > 0, "time passes")
    with Client(node, expiry=100) as client, Client(node) as other:
        client.subscribe("a/#", 1)
        other.subscribe("b")
        client.publish("a/1", "12345", qos=1, retain=True)
        assert client.payloads(1) == ["12345"]
        broker = status(node)["broker"]
        figures = ("clients_connected", "subscriptions", "retained_messages", "publishes_received", "publishes_sent")
        assert [broker[name] for name in figures] == [2, 2, 1, 1, 1]
        assert broker["payload_bytes_received"] == broker["payload_bytes_sent"] == 5
        assert broker["bytes_received"] > broker["payload_bytes_received"]
    until(lambda: status(node)["broker"]["clients_disconnected"] == 1, "a session is kept")
    with socket.create_connection(node.mqtt, timeout=PATIENCE) as stream:
        stream.sendall(b"\xff\xff\xff\xff\xff\xff")
        until(lambda: status(node)["broker"]["errors"]["mqtt"] == 1, "a wrong packet is counted")


def test_a_link_is_shown_with_its_state_and_its_tables(cluster):
    first, second = cluster.grow(2)
    wait_for_links(first, second)
    topic = unique("linked")
    with Client(second) as client:
        client.subscribe(topic, 1)
        settle(client, topic, [first])
        link = peer(first, second)
        assert (link["state"], link["lanes"], link["congested"]) == ("connected", 1, False)
        assert "reason" not in link
        assert link["boot_epoch"] == status(second)["node"]["boot_epoch"]
        assert link["table"] == status(second)["links"]["own_table"]
        assert link["table"]["entries"] == 1
        assert 0 < link["round_trip_ms"] < 1000
        sent = link["counters"]["messages_sent"]
        with Client(first) as publisher:
            for _ in range(50):
                publisher.publish(topic, "the same again and again " * 20, qos=1)
        client.payloads(50)
        until(lambda: peer(first, second)["queued_messages"] == 0, "the peer has acknowledged all")
        link, other = peer(first, second), peer(second, first)
        assert link["counters"]["messages_sent"] == sent + 50
        assert link["counters"]["messages_acknowledged"] >= 50
        assert other["counters"]["messages_received"] >= 50
        assert link["counters"]["bytes_sent"] < link["counters"]["bytes_sent_raw"]
        assert link["compression_ratio"] > 2
        assert set(link["dropped"].values()) == {0}
    text = command("status", "--node", first.name, folder=first.control).stdout
    assert re.search(rf"^  {second.name} +connected ", text, re.MULTILINE), text
    assert second.terminate() == 0
    until(lambda: status(first)["links"]["peers"] == [], "a member that left has no link")
    assert status(first)["gossip"]["members"] == {"alive": 1, "suspect": 0, "dead": 0, "left": 1}


def test_a_link_that_is_missing_is_shown_with_its_reason(cluster, tmp_path):
    node = cluster.node()
    # A member as far as gossip knows, where nobody takes links.
    tags = ["-tag=role=dunlin", "-tag=epoch=1764266400123", "-tag=link=9"]
    agent = SerfAgent("127.0.0.100", tmp_path / "serf.log", join=node.gossip, flags=tags)
    try:
        link = until(lambda: (link := peer(node, agent)).get("reason") and link, "a link is missing")
        assert (link["state"], link["reason"], link["lanes"]) == ("connecting", "connection refused", 0)
        assert "round_trip_ms" not in link and not link["in_step"]
        text = command("status", folder=node.control).stdout
        assert f"\n  {agent.name}: connection refused\n" in text
        assert re.search(r"^  failures +unreachable \d+$", text, re.MULTILINE), text
    finally:
        agent.kill()


def test_a_node_that_takes_no_links_is_told_from_one_that_cannot_be_reached(cluster):
    first = cluster.node(ports={"link": "off"})
    second = cluster.node(join=[first])
    link = until(lambda: peer(second, first), "the member is shown")
    assert (link["state"], link["lanes"]) == ("unlinked", 0)
    assert "link-port is off" in link["reason"]
    answer = status(first)
    assert "links" not in answer and answer["gossip"]["members"]["alive"] == 2


def test_a_node_that_is_alone_has_no_ring_and_no_links(cluster):
    node = cluster.node(ports={"gossip": "off", "link": "off"})
    assert set(status(node)) == {"node", "broker"}
    text = command("status", folder=node.control).stdout
    assert text.startswith(f"node {node.name}, Dunlin ") and "\nbroker\n" in text
    assert "\ngossip\n" not in text and "\nlinks\n" not in text


def table_after(page, words):
    """The names in the first table after some words."""
    rows = page.partition(words)[2].partition("\n|---")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", rows, re.MULTILINE))


def test_every_field_is_documented_and_every_documented_field_is_there(cluster, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "dunlin.db").write_bytes(b"no database" * 100)
    first = cluster.node(flags=["--data", str(data)])
    second = cluster.node(join=[first])
    wait_for_links(first, second)
    answer = status(first)
    page = (ROOT / "docs/operations.md").read_text().partition("\n## Status\n")[2].partition("\n## ")[0]
    fields = set(answer) | {f"{section}.{field}" for section in answer for field in answer[section]}
    assert table_after(page, "With `--json`:") == fields
    links = answer["links"]
    assert table_after(page, "Of a table,") == set(links["own_table"]) == set(links["peers"][0]["table"])
    # The two are linked and directly, so there is no reason for anything else.
    assert table_after(page, "Of a peer,") == set(links["peers"][0]) | {"reason", "via", "incoming_via"}
    counters = set(links["peers"][0]["counters"]) | set(links["peers"][0]["dropped"])
    assert table_after(page, "In `links.peers[].counters`") == counters
    topics = (ROOT / "docs/monitoring.md").read_text()

    def below(prefix):
        names = re.findall(rf"^\| `\$SYS/broker/{prefix}/([a-z-]+)`", topics, re.MULTILINE)
        return {name.replace("-", "_") for name in names}

    assert set(answer["gossip"]["counters"]) == below("gossip") - {"health_score"}
    assert set(answer["links"]["failures"]) == below("links/failures")
    assert counters == below("links/dropped") | below("links") - OF_ALL_LINKS
    assert set(answer["broker"]["limits"]) == below("limits")
    assert set(answer["broker"]["dropped"]) == below("publish/messages/dropped")
    assert set(answer["broker"]["errors"]) == below("errors")
    assert set(answer["broker"]["refused"]) == below("refused")


# What of all links together is how they stand.
OF_ALL_LINKS = {"connected", "missing", "congested", "queued_messages", "queued_bytes"}
