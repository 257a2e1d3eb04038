"""Somebody on the network of the nodes who has no key and makes up packets: it costs a bounded amount of memory, and no
member."""

import socket
import time

from dunlin import Client, settle, unique, until


def raw(value):
    return (bytes([0xA0 | len(value)]) if len(value) < 32 else b"\xda" + len(value).to_bytes(2, "big")) + value


def alive(name, number):
    """A member that does not exist, with as much meta as is allowed."""
    fields = [
        (b"Addr", raw(bytes([10, 7, number >> 8 & 255, number & 255]))),
        (b"Incarnation", b"\x01"),
        (b"Meta", raw(b"\xff\x81" + raw(b"note") + raw(b"x" * 498))),
        (b"Node", raw(name.encode())),
        (b"Port", b"\xcd\x1f\x0a"),
        (b"Vsn", raw(bytes([1, 5, 2, 2, 5, 5]))),
    ]
    return b"\x04\x86" + b"".join(raw(key) + value for key, value in fields)


def dead(name, incarnation):
    fields = [(b"From", raw(b"nobody")), (b"Incarnation", b"\xce" + incarnation.to_bytes(4, "big")), (b"Node", raw(name))]
    return b"\x05\x83" + b"".join(raw(key) + value for key, value in fields)


def resident(node):
    with open(f"/proc/{node.process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def flood(nodes, packets):
    """Sends each packet to each node, at a pace that a socket's buffer takes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.200", 0))
        for packet in packets:
            for node in nodes:
                sender.sendto(packet, (node.address, node.ports["gossip"]))


def test_members_that_are_made_up_take_a_bounded_amount_of_memory_and_nobodys_place(cluster):
    nodes = cluster.grow(3)
    first, second, third = nodes
    topic = unique("flooded")
    with Client(second) as client:
        client.subscribe(topic, 1)
        settle(client, topic, [first, third])
        before = resident(first)

        def is_full():
            flood([first], (alive(f"fake{number}", number) for number in range(20_000)))
            return "the table is full" in first.log()

        until(is_full, "more members are made up than are taken", 30)
        grown = resident(first) - before
        print(f"\n20000 made-up members: {grown / (1 << 20):.1f} MiB more")
        assert grown < 64 << 20
        for node in nodes:
            for other in nodes:
                assert f"name={other.name} [Gossip] member failed" not in node.log()
            # Five hundred in ten seconds, of what would be many thousands.
            assert node.log().count("name=fake") <= 1_500
        # They are one broker still, and a death is noticed.
        settle(client, topic, [first, third])
        seen = first.log_length()
        third.kill()
        first.wait_for_log(rf"peer={third.name}\b.*link closed", start=seen)


def test_obituaries_that_are_made_up_kill_nobody(cluster):
    nodes = cluster.grow(3)
    first, second, third = nodes
    topic = unique("buried")
    with Client(second) as client:
        client.subscribe(topic, 1)
        settle(client, topic, [first, third])
        # As loud as the nodes are or somewhat louder, and as loud as can be: nobody could refute those.
        # They begin with the seconds of the clock.
        now = int(time.time())
        incarnations = [*range(now - 30, now + 300), 0xEFFFFFFF, 0xF0000000, 0xFFFFFFFF]
        flood(nodes, [dead(node.name.encode(), number) for number in incarnations for node in nodes])
        settle(client, topic, [first, third])
    for node in nodes:
        node.wait_for_log("this node was accused of being dead; refuted")
        assert node.process.poll() is None
    late = cluster.node(join=[third])
    for other in nodes:
        late.wait_for_log(rf"name={other.name}\b.*member joined")
