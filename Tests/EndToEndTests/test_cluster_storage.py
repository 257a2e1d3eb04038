"""What a publisher at one node was told is safe, when the node of the subscriber is killed."""

import os
import random
import threading

from dunlin import Client, until

# How often the subscriber's node is killed: fifty and more by hand.
KILLS = int(os.environ.get("DUNLIN_PEER_KILLS", "4"))


class Publisher(threading.Thread):
    """Publishes numbers at one QoS, each when the one before is acknowledged."""

    def __init__(self, node, qos):
        super().__init__(daemon=True)
        self.node = node
        self.qos = qos
        self.acknowledged = []
        self.ends = threading.Event()
        self.failure = None

    def run(self):
        try:
            with Client(self.node) as client:
                number = 0
                while not self.ends.is_set():
                    client.publish(f"numbers/{self.qos}", str(number), self.qos)
                    self.acknowledged.append(number)
                    number += 1
        except Exception as error:  # the test reports it
            self.failure = error


def test_what_is_acknowledged_at_another_node_outlives_kills_of_the_subscribers_node(cluster, tmp_path):
    seed = random.randrange(2**32)
    generator = random.Random(seed)
    home = cluster.node()
    node = cluster.node(join=[home], flags=["--data", str(tmp_path / "data")])
    with Client(node, "away", clean=False, expiry=3600) as subscriber:
        subscriber.subscribe("numbers/#", 2)
    publishers = [Publisher(home, 1), Publisher(home, 2)]
    for publisher in publishers:
        publisher.start()
    for _ in range(KILLS):
        # Some messages get through in each life before it ends.
        counts = [len(publisher.acknowledged) + generator.randrange(1, 200) for publisher in publishers]
        until(
            lambda: any(len(p.acknowledged) >= count or p.failure for p, count in zip(publishers, counts)),
            f"messages are acknowledged (seed {seed})",
            30,
        )
        node.kill()
        node.start()
    for publisher in publishers:
        publisher.ends.set()
        publisher.join(30)
        assert publisher.failure is None, (seed, publisher.failure)
    received = {1: [], 2: []}
    with Client(node, "away", clean=False, expiry=3600) as subscriber:
        assert subscriber.connack == (0, True), seed
        wanted = {publisher.qos: set(publisher.acknowledged) for publisher in publishers}

        def complete():
            while not subscriber.messages.empty():
                message = subscriber.messages.get()
                received[message.qos].append(int(message.payload))
            return all(wanted[qos] <= set(received[qos]) for qos in wanted)

        try:
            until(complete, "all that was acknowledged arrives")
        except AssertionError:
            missing = {qos: sorted(wanted[qos] - set(received[qos]))[:20] for qos in wanted}
            raise AssertionError(f"seed {seed}: missing {missing}") from None
    assert received[2] == sorted(set(received[2])), f"seed {seed}: QoS 2 is doubled or out of order"
    firsts = list(dict.fromkeys(received[1]))
    assert firsts == sorted(firsts), f"seed {seed}: QoS 1 is out of order"
