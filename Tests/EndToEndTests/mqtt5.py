"""Independent MQTT 5 clients with all their properties: paho-mqtt, and mosquitto's command-line tools."""

import queue
import ssl
import subprocess
import threading
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from dunlin import PATIENCE, Node, Tool, unique, until


@dataclass(frozen=True)
class Endpoint:
    """One listener of a node, and what a client needs to use it."""

    node: Node
    listener: str = "mqtt"
    authority: str | None = None

    @property
    def address(self):
        return (self.node.address, self.node.ports[self.listener])

    @property
    def is_web_socket(self):
        return self.listener in ("ws", "wss")

    def arguments(self):
        """For mosquitto's tools, which do not speak WebSocket."""
        host, port = self.address
        return ["-h", host, "-p", str(port)] + (["--cafile", self.authority] if self.authority else [])


def properties(packet_type, values):
    result = Properties(packet_type)
    for name, value in values.items():
        setattr(result, name, value)
    return result


class Peer:
    """A paho-mqtt client of MQTT 5. It does not reconnect by itself."""

    def __init__(self, endpoint, client_id=None, clean=True, will=None, manual_ack=False, keep_alive=60, **connecting):
        """`will` is a dictionary for paho's will_set, its properties by name in "properties"; `connecting` are CONNECT's."""
        self.client_id = unique("peer") if client_id is None else client_id
        self.messages = queue.Queue()
        self.connack = None
        self.farewell = None
        self._answers = {}
        self._ended = threading.Event()
        self._paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv5,
            transport="websockets" if endpoint.is_web_socket else "tcp",
            manual_ack=manual_ack,
            reconnect_on_failure=False,
        )
        if endpoint.is_web_socket:
            self._paho.ws_set_options(path="/mqtt")
        if endpoint.authority:
            self._paho.tls_set(ca_certs=endpoint.authority, tls_version=ssl.PROTOCOL_TLS_CLIENT)
        if will:
            content = properties(PacketTypes.WILLMESSAGE, will.get("properties", {}))
            self._paho.will_set(**(will | {"properties": content}))
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_message = lambda _client, _userdata, message: self.messages.put(message)
        self._paho.on_subscribe = self._paho.on_unsubscribe = self._on_answer
        content = properties(PacketTypes.CONNECT, connecting)
        self._paho.connect(*endpoint.address, keepalive=keep_alive, clean_start=clean, properties=content)
        self._paho.loop_start()
        until(lambda: self.connack or self._ended.is_set(), f"CONNACK for {self.client_id}")

    def _on_connect(self, _client, _userdata, flags, reason, content):
        self.session_present = flags.session_present
        self.connack_properties = content
        self.connack = reason

    def _on_disconnect(self, _client, _userdata, _flags, reason, _content):
        self.farewell = reason
        self._ended.set()

    def _on_answer(self, _client, _userdata, identifier, reasons, _content):
        self._answers[identifier] = [reason.value for reason in reasons]

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def subscribe(self, topic_filter, qos=0, no_local=False, as_published=False, handling=0, **content):
        """Returns the reason codes."""
        options = SubscribeOptions(qos, no_local, as_published, handling)
        content = properties(PacketTypes.SUBSCRIBE, content)
        _result, identifier = self._paho.subscribe(topic_filter, options=options, properties=content)
        return until(lambda: self._answers.pop(identifier, None), f"SUBACK for {topic_filter}")

    def unsubscribe(self, topic_filter):
        _result, identifier = self._paho.unsubscribe(topic_filter)
        return until(lambda: self._answers.pop(identifier, None), f"UNSUBACK for {topic_filter}")

    def publish(self, topic, payload=b"", qos=0, retain=False, **content):
        """Returns when the broker has acknowledged it (QoS 0: when it is written)."""
        content = properties(PacketTypes.PUBLISH, content)
        self._paho.publish(topic, payload, qos, retain, content).wait_for_publish(PATIENCE)

    def acknowledge(self, message):
        self._paho.ack(message.mid, message.qos)

    def receive(self, seconds=PATIENCE):
        try:
            return self.messages.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"{self.client_id} received nothing within {seconds:g} s") from None

    def expect_nothing(self):
        """Nothing has come of what others know to be taken in: the next message is one that comes of its own accord."""
        topic = unique("last")
        self.subscribe(topic)
        self.publish(topic, b"last", qos=1)
        message = self.receive()
        assert message.topic == topic, f"{message.topic}: {message.payload}"

    def drop(self):
        """The network is gone."""
        self._paho._sock_close()
        self._paho.loop_stop()

    def close(self, **content):
        """Says goodbye; `content` are DISCONNECT's properties."""
        self._paho.disconnect(properties=properties(PacketTypes.DISCONNECT, content) if content else None)
        self._paho.loop_stop()


class Mosquitto(Tool):
    """One of mosquitto's tools that runs until it has what it waits for."""

    def __init__(self, tool, endpoint, *arguments):
        command = [f"mosquitto_{tool}", *endpoint.arguments(), "-V", "mqttv5", *arguments]
        super().__init__(command, stderr=subprocess.STDOUT)


def mosquitto(tool, endpoint, *arguments, stdin=None):
    """Runs one of mosquitto's tools to its end."""
    command = [f"mosquitto_{tool}", *endpoint.arguments(), "-V", "mqttv5", *arguments]
    done = subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, text=True, input=stdin)
    return done.stdout.splitlines()
