"""What clients of `moving.py` do in a cluster while things happen to it."""

import random
import threading
import time

from dunlin import PATIENCE, until
from moving import Publisher, Subscriber
from test_node_status import status


class World:
    """The nodes, and which of them reach each other."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self._sides = dict.fromkeys(nodes, 0)
        # Nodes that are stopped in order: their clients go elsewhere, and nothing else changes for anybody.
        self.leaving = set()
        self.changed_at = float("-inf")

    def side(self, node):
        """Nodes on one side reach each other; a dead one is on none."""
        return self._sides[node]

    @property
    def is_whole(self):
        return set(self._sides.values()) == {0}

    def may_end(self, node):
        """Whether it may close connections, or refuse them."""
        return self.side(node) is None or node in self.leaving

    def change(self, actors, sides, act=lambda: None):
        """Breaks something, or mends it, while no client is just choosing where to go."""
        with self.lock:
            self._sides |= sides
            self.changed_at = time.monotonic()
            for actor in actors:
                actor.on_change()
            act()


class Journey:
    """Publishers and subscribers of all kinds, and what happens to the nodes meanwhile."""

    def __init__(self, nodes, seed):
        self.random = random.Random(f"{seed} journey")
        self.world = world = World(nodes)
        publishers = [Publisher(f"p-{node.name}", seed, world, home=node) for node in nodes]
        publishers += [Publisher(f"p-moves{version}", seed, world, version=version, stay=0.7) for version in (4, 5)]
        self._publishers = publishers
        # One stays at each node: a node that others have lost is kept messages for if it had a subscriber of the filter then.
        kinds = {f"stays-{node.name}": {"home": node} for node in nodes} | {
            "hasty": {"stay": 0.15},
            "moves": {"stay": 0.4},
            "moves5": {"stay": 0.4, "version": 5},
            "slow": {"stay": 1.5},
            "slow5": {"stay": 1.5, "version": 5},
            "impatient": {"stay": 0.5, "is_impatient": True},
        }
        self._subscribers = [
            Subscriber(f"s-{kind}", seed, world, publishers, **options) for kind, options in kinds.items()
        ]
        for subscriber in self._subscribers:
            subscriber.begin()

    @property
    def _actors(self):
        return self._publishers + self._subscribers

    @property
    def moves(self):
        return sum(actor.moves for actor in self._actors)

    def live(self, happen):
        """All clients do what they do while this happens; then the cluster settles, and every message's fate is known."""
        self.world.is_over.clear()
        threads = [threading.Thread(target=actor.run, args=(None,), daemon=True) for actor in self._actors]
        for thread in threads:
            thread.start()
        try:
            happen(self)
        finally:
            self.world.is_over.set()
            for thread in threads:
                thread.join(2 * PATIENCE)
        self._raise_failures()
        assert not any(thread.is_alive() for thread in threads)
        until(lambda: self._count_sessions() == len(self._actors), "each client has one session", 2 * PATIENCE)
        for actor in self._actors:
            actor.finish()
        for actor in self._actors:
            actor.on_settled()

    def _raise_failures(self):
        for actor in self._actors:
            if actor.failure:
                raise actor.failure

    def _count_sessions(self):
        counts = [status(node)["broker"] for node in self.world.nodes]
        return sum(count["clients_connected"] + count["clients_disconnected"] for count in counts)

    def go_on(self, moves):
        """Until clients have moved so often."""
        moves += self.moves
        until(lambda: self.moves >= moves or any(actor.failure for actor in self._actors), f"{moves} moves", 3 * PATIENCE)
        self._raise_failures()

    def change(self, sides, act=lambda: None):
        print(f"{time.monotonic():.3f}: {({node.name: side for node, side in sides.items()})}")
        self.world.change(self._actors, sides, act)

    def figures(self):
        received, refusals = sum(subscriber.count for subscriber in self._subscribers), sum(a.refusals for a in self._actors)
        sent = sum(publisher.count for publisher in self._publishers)
        return f"{self.moves} moves, {refusals} refused, {sent} messages acknowledged, {received} received"
