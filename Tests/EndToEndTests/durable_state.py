"""Clients that change what a broker keeps: retained messages, subscriptions, sessions."""

from durable import Actor, Flow, Register
from wire import DISCONNECT, PUBACK, PUBCOMP, PUBREL, SUBACK, UNSUBACK, packet, publish, subscribe, u32, unsubscribe


def probe(node, topics, payload, qos=1):
    """Publishes this to each of the topics in turn."""
    with Flow(node, "", clean=True) as flow:
        for topic in topics:
            flow.publish(topic, payload, qos)


class Retainer(Actor):
    """Sets, changes and clears retained messages, as fast as they are acknowledged."""

    WINDOW = 20

    def __init__(self, name, seed, size, topics=30):
        super().__init__(name, seed)
        self._size = size
        self._registers = {f"{name}/{index}": Register(b"") for index in range(topics)}
        self._next = 1

    def live(self, node):
        waiting = {}
        with Flow(node, self.name, clean=True) as flow:
            while True:
                while len(waiting) < self.WINDOW:
                    topic, number = self.random.choice(list(self._registers)), self._next
                    payload = b"" if self.random.random() < 0.2 else str(number).encode().ljust(self._size)
                    self._next += 1
                    self._registers[topic].ask(number, payload)
                    identifier = number % 65_535 + 1
                    waiting[identifier] = (topic, number)
                    flow.send(publish(topic, payload, 1, identifier, retain=True, version=4))
                _, body = flow.answer(PUBACK)
                topic, number = waiting.pop(int.from_bytes(body, "big"))
                self._registers[topic].on_acknowledged(number)
                self.count += 1

    def check(self, node):
        end = f"{self.name}/end"
        with Flow(node, "", clean=True) as flow:
            flow.subscribe(f"{self.name}/#", 1)
            probe(node, [end], b"")
            found = {}
            for message in flow.messages_until(end):
                assert message.topic not in found, f"{message.topic} is retained twice"
                found[message.topic] = message.payload
        for topic, register in self._registers.items():
            register.on_found(found.get(topic, b""), f"the retained message of {topic}")


class Changer(Actor):
    """A kept session that subscribes and unsubscribes."""

    FILTERS = 8
    WINDOW = 4

    def __init__(self, name, seed):
        super().__init__(name, seed)
        # What each filter is subscribed to at, None for not.
        self._registers = [Register(None) for _ in range(self.FILTERS)]
        self._next = 1
        self._checks = 0
        self._is_known = False

    def _topic(self, index):
        return f"{self.name}/{index}"

    def live(self, node):
        waiting = {}
        with Flow(node, self.name) as flow:
            while True:
                while len(waiting) < self.WINDOW:
                    index, number = self.random.randrange(self.FILTERS), self._next
                    qos = self.random.choice([None, 0, 1, 2])
                    self._next += 1
                    self._registers[index].ask(number, qos)
                    identifier = number % 65_535 + 1
                    waiting[identifier] = (index, number, qos)
                    if qos is None:
                        flow.send(unsubscribe(self._topic(index), identifier=identifier, version=4))
                    else:
                        flow.send(
                            subscribe(self._topic(index), options=qos, identifier=identifier, version=4)
                        )
                # Probes of the last check may come again.
                kind, body = flow.answer(SUBACK, UNSUBACK)
                index, number, qos = waiting.pop(int.from_bytes(body[:2], "big"))
                assert (kind, body[2:]) == ((UNSUBACK, b"") if qos is None else (SUBACK, bytes([qos])))
                self._registers[index].on_acknowledged(number)
                self._is_known = True
                self.count += 1

    def check(self, node):
        self._checks += 1
        end, payload = f"{self.name}/end", f"check {self._checks}".encode()
        with Flow(node, self.name) as flow:
            assert flow.session_present or not self._is_known, f"the session of {self.name} is lost"
            flow.subscribe(end, 2)
            self._is_known = True
            # QoS 2: the end is behind all that goes through the session's queue.
            probe(node, [*(self._topic(index) for index in range(self.FILTERS)), end], payload, 2)
            found = {message.topic: message.qos for message in flow.messages_until(end) if message.payload == payload}
        for index, register in enumerate(self._registers):
            register.on_found(found.get(self._topic(index)), f"the subscription of {self.name} to {index}")


class Leaver(Actor):
    """Clients whose sessions end: one that ended does not come back, nor what was queued to it."""

    def __init__(self, name, seed, clients=3):
        super().__init__(name, seed)
        self._ids = [f"{name}-{index}" for index in range(clients)]
        # Which of a client's sessions there is, by the number that its subscription has; None for one without.
        self._registers = {client_id: Register(None) for client_id in self._ids}
        # Those that have their SUBACK, and what was acknowledged to be queued to each.
        self._queued = {}
        self._numbers = {client_id: [] for client_id in self._ids}
        self._next = 1
        self._checks = 0

    def _topic(self, client_id, number):
        return f"{client_id}/{number}"

    def live(self, node):
        while True:
            client_id = self.random.choice(self._ids)
            self.random.choice([self._renew, self._renew, self._leave, self._end])(node, client_id)
            self.count += 1

    def _ask(self, client_id, value):
        number, self._next = self._next, self._next + 1
        self._registers[client_id].ask(number, number if value else None)
        if value:
            self._numbers[client_id] = [*self._numbers[client_id][-20:], number]
        return number

    def _renew(self, node, client_id):
        """A new session, with something queued to it, in the place of what there was."""
        number = self._ask(client_id, True)
        with Flow(node, client_id, version=5, clean=True) as flow:
            assert not flow.session_present
            self._registers[client_id].on_acknowledged(number)
            topic = self._topic(client_id, number)
            flow.subscribe(topic, 1)
            self._queued[number] = set()
            payload = f"queued {number}".encode()
            probe(node, [topic], payload)
            self._queued[number].add(payload)

    def _leave(self, node, client_id):
        """Says that the session ends with its connection, and hears from the next that it did."""
        with Flow(node, client_id, version=5) as flow:
            number = self._ask(client_id, False)
            flow.send(packet(DISCONNECT, b"\x00\x05\x11" + u32(0)))
            assert flow.is_at_end()
        with Flow(node, client_id, version=5) as flow:
            assert not flow.session_present, f"the session of {client_id} is there after its end"
            self._registers[client_id].on_acknowledged(number)

    def _end(self, node, client_id):
        """Wants no session, and none from before."""
        number = self._ask(client_id, False)
        with Flow(node, client_id, clean=True) as flow:
            assert not flow.session_present
            self._registers[client_id].on_acknowledged(number)

    def check(self, node):
        self._checks += 1
        for client_id in self._ids:
            self._check(node, client_id, f"check {self._checks}".encode())

    def _check(self, node, client_id, payload):
        register, end = self._registers[client_id], f"{client_id}/end"
        possible = list(register.possible)
        with Flow(node, client_id, version=5) as flow:
            messages = []
            flow.subscribe(end, 1, messages.append)
            probe(node, [self._topic(client_id, number) for number in self._numbers[client_id]], payload)
            probe(node, [end], payload)
            messages += flow.messages_until(end)
        found = {int(message.topic.rsplit("/", 1)[1]) for message in messages if message.topic != end}
        gone = sorted(number for number in found if number not in possible)
        assert not gone, f"session {gone[0]} of {client_id} came back; there may be one of {possible}: {messages[:3]}"
        live = {int(message.topic.rsplit("/", 1)[1]) for message in messages if message.payload == payload}
        assert len(live) <= 1
        value = live.pop() if live else None
        if value is None and any(number not in self._queued for number in possible if number):
            # It was there before it was subscribed to anything.
            possible.append(None)
        assert value in possible, f"of {client_id} there is session {value} and may only be one of {possible}"
        missing = self._queued.get(value, set()) - {message.payload for message in messages}
        assert not missing, f"what was queued to session {value} of {client_id} is lost: {missing}"
        self._queued[value] = set()
        self._registers[client_id] = Register(value)


class Newcomer(Actor):
    """Subscribes to what was retained long ago, again and again: all of it comes after the SUBACK, whatever happens then."""

    TOPICS = 150

    def __init__(self, name, seed):
        super().__init__(name, seed)
        self._topics = [f"{name}/{index}" for index in range(self.TOPICS)]
        # What has not come since the SUBACK; nothing is expected before it.
        self._missing = set()
        self._unreleased = set()

    def retain(self, node):
        with Flow(node, "", clean=True) as flow:
            for index, topic in enumerate(self._topics):
                flow.publish(topic, b"x", 1 + index % 2, retain=True)

    def live(self, node):
        while True:
            if not self._missing:
                self._subscribe(node)
            self._take_all(node)
            self.count += 1

    def _subscribe(self, node):
        with Flow(node, self.name, 5, clean=True) as flow:
            flow.subscribe(f"{self.name}/#", 2)
            self._missing, self._unreleased = set(self._topics), set()

    def _take_all(self, node):
        with Flow(node, self.name, 5, receive_maximum=10) as flow:
            assert flow.session_present, f"the session of {self.name} is lost"
            while self._missing:
                kind, body = flow.packet()
                if kind == PUBREL:
                    self._unreleased.discard(int.from_bytes(body[:2], "big"))
                    flow.send(packet(PUBCOMP, body[:2]))
                    continue
                message = flow.message(kind, body)
                if message.qos == 2 and message.identifier not in self._unreleased:
                    self._unreleased.add(message.identifier)
                    assert message.topic in self._missing, f"{self.name} received {message.topic}'s message twice"
                self._missing.discard(message.topic)
                flow.acknowledge(message)

    def check(self, node):
        try:
            if self._missing:
                self._take_all(node)
        except TimeoutError:
            missing = f"{len(self._missing)} topics, {sorted(self._missing)[:5]}…"
            raise AssertionError(f"{self.name} never received what is retained for {missing}") from None
