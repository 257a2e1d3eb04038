"""Clients with kept sessions that move between the nodes of a cluster, and a check of every message's fate.

What is checked, of all that was acknowledged with PUBACK or PUBREC, at every subscriber:

1. It is received, whatever happened to the cluster meanwhile.
2. At QoS 2 it is received once, unless its publisher's node was killed before it had answered. At QoS 1 it is received again
   only if its publisher or its subscriber had left it unacknowledged.
3. What one publisher sends at one QoS to one topic comes in that order. Excepted is what it sent at two nodes, if some of it
   was unacknowledged when it moved, or a node was out of reach: then each of the two may have something that waits.

A client whose session is at a node that is dead or out of reach waits for it, unless it is impatient: then it gets a new
session where it connects, which is united with the old one later; what reached both may come twice, and in another order. So
it may be with a session that is on its way just when a node dies or the network breaks. Such a client is in doubt until the
cluster has settled, and excused from 2 and 3 until then, never from 1.
"""

import bisect
import contextlib
import time

from dunlin import PATIENCE
from durable import Actor, Flow, Refused
from wire import DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, packet, publish, subscribe, u16

# The packet identifier of subscriptions, which only ask for an answer. Publishers use low ones.
FENCE = 65_535

# After the first SUBACK on a connection it takes a moment until the node before knows that the session is no longer its own.
MOVE_SECONDS = 0.5

# A publisher is answered after 5 s when a node that is to have its message is silent.
ANSWER_SECONDS = 5 + PATIENCE


class Traveller(Actor):
    """A client with a kept session that connects to one node after the other."""

    def __init__(self, name, seed, world, version=4, stay=None, home=None, is_impatient=False):
        """`stay` is about so many seconds at each node; without it the client stays at the first one for good."""
        super().__init__(name, seed)
        self.world = world
        self.home = home or self.random.choice(world.nodes)
        self.is_in_doubt = False
        self.moves = self.refusals = 0
        # Where and when it connected.
        self.trail = []
        self._version = version
        self._stay = stay
        self._is_impatient = is_impatient
        self._has_session = False
        self._is_moving = False
        self._settled_at = 0.0

    def on_change(self):
        """Something breaks or is mended."""
        if self._is_moving or time.monotonic() - self._settled_at < MOVE_SECONDS:
            self.is_in_doubt = True

    def live(self, _nothing):
        """Until the world is over. The old socket is sometimes still open while it connects elsewhere."""
        with contextlib.ExitStack() as sockets:
            while not self.world.is_over.is_set():
                flow = self._move()
                sockets.close()
                if flow is None:
                    self.world.is_over.wait(0.02)
                    continue
                sockets.enter_context(flow)
                leaves = time.monotonic() + self._stay * self.random.uniform(0.3, 1.7) if self._stay else float("inf")
                try:
                    self.visit(flow, leaves)
                except (ConnectionError, BrokenPipeError) as end:
                    self._on_end(end)
                    sockets.close()
                self._leave(flow, sockets)

    def _leave(self, flow, sockets):
        how = self.random.choice(["goodbye", "gone", "still open"])
        with contextlib.suppress(OSError):
            if how == "goodbye":
                flow.send(packet(DISCONNECT))
        if how != "still open":
            sockets.close()

    def _arrive(self, flow):
        """Asks for an answer that comes when the session is stored here."""
        self._is_moving = True
        flow.send(subscribe(f"fence/{self.name}", options=2, identifier=FENCE, version=self._version))

    def _on_arrived(self, body):
        assert body[-1] == 2, f"SUBACK {body.hex()}"
        if self._is_moving:
            self._settled_at, self._is_moving = time.monotonic(), False

    def _on_end(self, end):
        # A node that is killed, or that has an older session of a client that has a newer one elsewhere.
        self.trail.append(f"the end {time.monotonic():.3f}")
        assert self.world.may_end(self.home) or self.is_in_doubt, f"{self.name} was sent away by {self.home.name}: {end}"

    def _move(self):
        """A connection to some node that has, or can have, the session; or None."""
        with self.world.lock:
            node = self._choose()
            if node is None:
                return None
            if self.world.side(node) != self.world.side(self.home):
                self.is_in_doubt = True
            before, self.home, self._is_moving = self.home, node, True
        try:
            flow = Flow(node, self.name, self._version)
        except Refused as refusal:
            # 0x89, or 3 in MQTT 3: the session is just on its way, try again.
            assert refusal.code in (0x89, 3), refusal
            self.refusals += 1
            assert self.refusals < 500, f"{self.name} is refused again and again"
            return None
        except (ConnectionRefusedError, ConnectionResetError) as error:
            assert self.world.may_end(node), f"{self.name} does not get to {node.name}: {error}"
            self.home = before if isinstance(error, ConnectionRefusedError) else node
            return None
        self.moves += 1
        self.trail.append(f"{node.name} {time.monotonic():.3f} {'goes on' if flow.session_present else 'new'}")
        assert flow.session_present or not self._has_session or self.is_in_doubt, (
            f"{self.name} moved from {before.name} to {node.name} and its session did not: {self.moves} moves"
        )
        if not flow.session_present:
            self.on_new_session()
        self._has_session = True
        return flow

    def _choose(self):
        side = self.world.side
        nodes = [node for node in self.world.nodes if side(node) is not None]
        if not self._is_impatient:
            nodes = [node for node in nodes if side(node) == side(self.home)]
        nodes = [node for node in nodes if node not in self.world.leaving]
        if self._stay is None and self.home not in self.world.leaving:
            nodes = [node for node in nodes if node is self.home]
        others = [node for node in nodes if node is not self.home]
        if others and (self.home not in nodes or self.random.random() < 0.9):
            nodes = others
        return self.random.choice(nodes) if nodes else None

    def on_settled(self):
        self.is_in_doubt = False


class Publisher(Traveller):
    """Publishes rising numbers at QoS 1 and 2, some 60 a second, and sends again on each connection what is unfinished."""

    WINDOW = 20
    SECONDS_EACH = 1 / 60

    def __init__(self, name, seed, world, **options):
        super().__init__(name, seed, world, **options)
        self.next = 1
        # By packet identifier: number, QoS, whether PUBREC has come, when it was sent first.
        self._waiting = {}
        self.acknowledged = {}
        # What may have been taken twice: at QoS 1 what was sent again, at QoS 2 that to a session that has not heard of it.
        self.repeated = set()
        # By number: at which nodes it was sent and acknowledged, and when.
        self._history = {}
        # The first number of each stretch whose order is promised.
        self._stretches = [1]

    @staticmethod
    def qos(number):
        return 1 + number % 2

    def topic(self, number):
        return f"q/{self.name}/{self.qos(number)}/{number // 2 % 2}"

    def _note(self, number, what):
        self._history.setdefault(number, []).append(f"{what} at {self.home.name} {time.monotonic():.3f}")

    def history(self, number):
        return f"{number} was {', '.join(self._history[number])}; now {time.monotonic():.3f}"

    def stretch(self, number):
        return bisect.bisect(self._stretches, number)

    def on_new_session(self):
        self.repeated.update(number for number, *_ in self._waiting.values())

    def on_change(self):
        super().on_change()
        if self.is_in_doubt or self.world.side(self.home) is None:
            self.on_new_session()

    def visit(self, flow, leaves):
        is_calm = self.world.is_whole and time.monotonic() - self.world.changed_at > 2
        if self._stay is not None and (self._waiting or not is_calm):
            self._stretches.append(self.next)
        self._arrive(flow)
        self._resend(flow)
        due = time.monotonic()
        while (now := time.monotonic()) < leaves and not self.world.is_over.is_set():
            if now >= due and len(self._waiting) < self.WINDOW:
                identifier = next(i for i in range(1, 65_536) if i not in self._waiting)
                self._waiting[identifier] = (self.next, self.qos(self.next), False, now)
                self.next += 1
                self._note(self.next - 1, "sent")
                flow.send(self._packet(identifier, self.next - 1, False))
                due = now + self.SECONDS_EACH
            self._take(flow, *flow.packet_within(max(0.001, due - now)))

    def finish(self):
        """Until all is acknowledged."""
        with Flow(self.home, self.name, self._version) as flow:
            assert flow.session_present or not self._has_session, f"the session of {self.name} is lost"
            self._resend(flow)
            while self._waiting:
                self._take(flow, *flow.packet())

    def _resend(self, flow):
        if self.is_in_doubt:
            self.on_new_session()
        for identifier, (number, qos, is_received, _) in list(self._waiting.items()):
            self._note(number, "released" if is_received else "sent again")
            if qos == 1:
                self.repeated.add(number)
            flow.send(packet(PUBREL, u16(identifier)) if is_received else self._packet(identifier, number, True))

    def _take(self, flow, kind, body):
        if kind is None:
            late = [number for number, _, _, sent in self._waiting.values() if time.monotonic() - sent > ANSWER_SECONDS]
            assert not late or self.is_in_doubt, f"{late} of {self.name} got no answer at {self.home.name}"
            return
        if kind == DISCONNECT:
            raise ConnectionError(f"DISCONNECT {body.hex()}")
        if kind == SUBACK:
            self._on_arrived(body)
            return
        identifier = int.from_bytes(body[:2], "big")
        assert identifier in self._waiting, f"{self.name} got {kind:#x} {body.hex()} for nothing"
        number, qos, _, sent = self._waiting[identifier]
        if kind in (PUBACK, PUBREC):
            assert kind == (PUBACK if qos == 1 else PUBREC)
            self.acknowledged.setdefault(self.topic(number), set()).add(number)
            self.count += 1
            self._note(number, "acknowledged")
        if kind == PUBREC:
            self._waiting[identifier] = (number, qos, True, sent)
            flow.send(packet(PUBREL, u16(identifier)))
        else:
            assert kind in (PUBACK, PUBCOMP), f"{kind:#x}"
            del self._waiting[identifier]

    def _packet(self, identifier, number, dup):
        return publish(self.topic(number), str(number).encode(), self.qos(number), identifier, dup=dup, version=self._version)


class Subscriber(Traveller):
    """Receives all that the publishers send, and remembers it as a client that stores its state does."""

    FILTER = "q/#"

    def __init__(self, name, seed, world, publishers, **options):
        super().__init__(name, seed, world, **options)
        self._publishers = {publisher.name: publisher for publisher in publishers}
        self._unreleased = set()
        self._is_subscribed = False
        self.seen = {}
        self._highest = {}
        # Numbers below these were sent while this client was in doubt.
        self._excused = {}
        # QoS 1: acknowledged before the broker acknowledged something else to this client.
        self._settled = set()

    def on_new_session(self):
        self._unreleased.clear()
        self._is_subscribed = False

    def begin(self):
        """Is subscribed when this returns."""
        with self._move() as flow:
            self._receive(flow, lambda: self._is_subscribed)

    def on_settled(self):
        if self.is_in_doubt:
            self._excused = {name: publisher.next for name, publisher in self._publishers.items()}
        super().on_settled()

    def visit(self, flow, leaves):
        self._receive(flow, lambda: time.monotonic() >= leaves or self.world.is_over.is_set())

    def finish(self):
        """Until all that was acknowledged is here, and what may come behind it."""
        missing = self.missing()

        def is_done():
            for topic, number in list(missing):
                if number in self.seen.get(topic, set()):
                    missing.discard((topic, number))
            return not missing

        with Flow(self.home, self.name, self._version) as flow:
            assert flow.session_present or not self._has_session, f"the session of {self.name} is lost"
            self._receive(flow, is_done, patience=PATIENCE)
            lost = [f"{topic} {self._publishers[topic.split('/')[1]].history(number)}" for topic, number in sorted(missing)]
            went = ", ".join(self.trail[-15:])
            assert not lost, f"{self.name} never received {len(lost)}: {lost[:3]}… {lost[-1]}; {self.name} went to {went}"
            # What is doubled would come now.
            self._receive(flow, lambda: False, patience=0.3)

    def missing(self):
        return {
            (topic, number)
            for publisher in self._publishers.values()
            for topic, numbers in publisher.acknowledged.items()
            for number in numbers - self.seen.get(topic, set())
        }

    def _receive(self, flow, is_done, patience=float("inf")):
        """Until this is so, or nothing has come for so long."""
        if self.is_in_doubt:
            # It may be the other one of two sessions, whose packet identifiers mean other messages.
            self._unreleased.clear()
        if not self._is_subscribed:
            flow.send(subscribe(self.FILTER, options=2, identifier=FENCE, version=self._version))
        self._arrive(flow)
        # What was acknowledged since the last question, and before it; and how many answers are to come.
        acknowledged, asked, answers, last = [], [], 1 + (not self._is_subscribed), time.monotonic()
        while not is_done() and time.monotonic() - last < patience:
            kind, body = flow.packet_within(0.05)
            if kind is None:
                continue
            last = time.monotonic()
            if kind == DISCONNECT:
                raise ConnectionError(f"DISCONNECT {body.hex()}")
            if kind == PUBREL:
                self._unreleased.discard(int.from_bytes(body[:2], "big"))
                flow.send(packet(PUBCOMP, body[:2]))
            elif kind == SUBACK:
                self._on_arrived(body)
                self._is_subscribed = True
                answers -= 1
                self._settled.update(asked)
                asked = []
            else:
                assert kind & 0xF0 == PUBLISH, f"{kind:#x} {body.hex()}"
                message = flow.message(kind, body)
                self._take(message)
                flow.acknowledge(message)
                if message.qos == 1:
                    acknowledged.append((message.topic, int(message.payload)))
            if len(acknowledged) >= 10 and not answers:
                asked, acknowledged, answers = acknowledged, [], 1
                flow.send(subscribe(f"fence/{self.name}", options=2, identifier=FENCE, version=self._version))

    def _take(self, message):
        if message.qos == 2:
            if message.identifier in self._unreleased:
                return
            self._unreleased.add(message.identifier)
        publisher, number = self._publishers[message.topic.split("/")[1]], int(message.payload)
        key, seen = (message.topic, number), self.seen.setdefault(message.topic, set())
        is_excused = self.is_in_doubt or number < self._excused.get(publisher.name, 0)
        what = f"{self.name} received {number} of {message.topic}"
        history = f"{publisher.history(number)}; {self.name} went to {', '.join(self.trail[-8:])}"
        if number in seen:
            is_ours_to_repeat = message.qos == 1 and key not in self._settled
            assert is_excused or is_ours_to_repeat or number in publisher.repeated, f"{what} twice; {history}"
            return
        highest = self._highest.get(message.topic, 0)
        is_ordered = number > highest or publisher.stretch(number) != publisher.stretch(highest)
        assert is_excused or is_ordered, f"{what} behind {highest}; {history}"
        seen.add(number)
        self._highest[message.topic] = max(number, highest)
        self.count += 1
