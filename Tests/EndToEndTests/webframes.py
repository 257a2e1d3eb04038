"""WebSocket by hand, for frames that no library would send (RFC 6455)."""

import base64
import hashlib
import os
import struct

from wire import Raw

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL = 0x80


def frame(opcode, payload=b"", final=True, masked=True, reserved=0, length=None):
    """A client's frame; `length` is what it says in place of the payload's own."""
    size = len(payload) if length is None else length
    head = bytes([(FINAL if final else 0) | reserved << 4 | opcode])
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index & 3] for index, byte in enumerate(payload))


def request(path="/mqtt", method="GET", version="HTTP/1.1", **fields):
    """An opening request; a field that is None is left out."""
    content = {
        "Host": "broker.example",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": base64.b64encode(bytes(16)).decode(),
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Protocol": "mqtt",
    } | fields
    lines = [f"{method} {path} {version}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in content.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def response_head(raw):
    """What the server answers up to the empty line; b"" if it closes without an answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = raw.socket.recv(1)
        if not part:
            return head
        head += part
    return head


class WebRaw(Raw):
    """A connection whose bytes go in binary frames."""

    def __init__(self, address, wrap=None, protocol="mqtt"):
        super().__init__(address, wrap)
        self._stream = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(request(Sec_WebSocket_Key=key, Sec_WebSocket_Protocol=protocol))
        head = response_head(self).decode()
        proof = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert head.startswith("HTTP/1.1 101 "), head
        assert f"sec-websocket-accept: {base64.b64encode(proof).decode()}".lower() in head.lower()
        self.protocol = next(
            line.split(":")[1].strip()
            for line in head.splitlines()
            if line.lower().startswith("sec-websocket-protocol")
        )

    def send(self, data):
        self.socket.sendall(frame(BINARY, data))

    def send_raw(self, data):
        self.socket.sendall(data)

    def try_send(self, data):
        super().try_send(frame(BINARY, data))

    def frame(self):
        """The next frame's opcode and payload; (None, b"") at the end of the connection. The server's are whole."""
        head = self._exactly(2)
        if not head:
            return None, b""
        assert head[0] & 0xF0 == FINAL and head[1] < 128, head.hex()
        size = head[1]
        if size > 125:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, self._exactly(size)

    def expect_close(self, code):
        """A close frame with this code, and then the end."""
        assert self.frame() == (CLOSE, struct.pack(">H", code) if code else b"")
        assert self.socket.recv(1) == b""

    def expect_end(self, seconds=10):
        """MQTT ends: a close frame, or the end of the connection itself."""
        self.socket.settimeout(seconds)
        assert self._stream == b"", self._stream.hex()
        opcode, payload = self.frame()
        assert opcode in (CLOSE, None), f"{opcode} {payload.hex()}"

    def _read(self, count):
        while len(self._stream) < count:
            opcode, payload = self.frame()
            if opcode is None or opcode == CLOSE:
                assert not self._stream, f"the connection ended within a packet, after {self._stream.hex()}"
                return b""
            assert opcode == BINARY
            self._stream += payload
        data, self._stream = self._stream[:count], self._stream[count:]
        return data

    def _exactly(self, count):
        return super()._read(count)
