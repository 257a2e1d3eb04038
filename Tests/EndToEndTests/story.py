"""The life of a node with clients that know what it promised, cut short again and again."""

import contextlib
import random
import threading

from dunlin import PATIENCE, until
from durable import Consumer, Flow, Producer
from durable_state import Changer, Leaver, Newcomer, Retainer


class Story:
    def __init__(self, node, seed, prefix="", size=1, with_ends=True):
        self._node = node
        self.random = random.Random(f"{seed} story")
        self._producers = [Producer(f"p{prefix}{index}", seed, size) for index in range(3)]
        self._consumers = [
            Consumer(f"c{prefix}stays", seed, self._producers, True, 4),
            Consumer(f"c{prefix}comes", seed, self._producers, False, 5),
            Consumer(f"c{prefix}away", seed, self._producers, None, 4),
        ]
        self._others = [Retainer(f"r{prefix}", seed, size), Changer(f"s{prefix}", seed)]
        newcomer = Newcomer(f"n{prefix}", seed)
        newcomer.retain(node)
        self._others.append(newcomer)
        if with_ends:
            self._others.append(Leaver(f"e{prefix}", seed))
        self._ends = 0
        for consumer in self._consumers:
            consumer.subscribe(node)

    @property
    def count(self):
        """How often something was acknowledged."""
        return sum(actor.count for actor in self._actors)

    @property
    def _actors(self):
        return self._producers + self._consumers + self._others

    def live(self, most, then=lambda: None):
        """All clients do what they do until the broker has promised so much more, or is dead, and then while something else
        happens to it; then it is killed."""
        threads = [threading.Thread(target=actor.run, args=(self._node,), daemon=True) for actor in self._actors]
        most += self.count
        for thread in threads:
            thread.start()
        until(lambda: self.count >= most or self._is_over(), f"{most} acknowledgements", 3 * PATIENCE)
        if not self._is_over():
            then()
        self._node.kill()
        for thread in threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()
        for failure in self._failures:
            raise failure

    def _is_over(self):
        return self._failures or self._node.process.poll() is not None

    @property
    def _failures(self):
        return [actor.failure for actor in self._actors if actor.failure]

    def check(self):
        """Whether all is there that should be in the node that was started again, and nothing else."""
        for actor in self._others:
            actor.check(self._node)
        if self.random.random() < 0.5:
            self.finish()

    def finish(self):
        """Whether every consumer has received all that was acknowledged."""
        self._ends += 1
        end = f"end {self._ends}".encode()
        with Flow(self._node, "", clean=True) as flow:
            flow.publish("q/end", end)
        for consumer in self._consumers:
            consumer.take_all(self._node, end)
            consumer.check()


@contextlib.contextmanager
def told(moment, seed, left):
    """What is wrong is said with all that is needed to look into it."""
    try:
        yield
    except AssertionError as error:
        how = f"seed {seed}: DUNLIN_CRASH_SEED={seed} makes the same choices, though processes take their own time"
        where = f"the data directory as it was found at the last start: {left}"
        raise AssertionError(f"{moment}: {error}\n{how}; {where}") from error
