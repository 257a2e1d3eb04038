import NIOCore
import Protocol
import Testing

@testable import LocalBroker

/// A WebSocket client made by hand, which can do all that is wrong.
struct TestWebSocket {
    let wire: TestWire

    static let key = "dGhlIHNhbXBsZSBub25jZQ=="

    /// A request that is right but for what is changed in it: a field with nil is left out.
    static func request(
        _ line: String = "GET /mqtt HTTP/1.1",
        _ changes: [String: String?] = [:]
    ) -> String {
        var fields: [String: String] = [
            "Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": Self.key, "Sec-WebSocket-Protocol": "mqtt",
        ]
        for (name, value) in changes { fields[name] = value }
        return line + "\r\n" + fields.map { "\($0): \($1)\r\n" }.sorted().joined() + "\r\n"
    }

    static func open(
        _ broker: TestBroker,
        prepare: @escaping @Sendable (any Channel) throws -> Void = { _ in }
    ) async throws -> TestWebSocket {
        let wire = try await TestWire(to: broker.address, prepare: prepare)
        try await wire.send(Self.request())
        #expect(try await eventually { wire.text.hasSuffix("\r\n\r\n") || wire.isClosed })
        try #require(wire.text.hasPrefix("HTTP/1.1 101 "))
        _ = wire.takeBytes()
        return TestWebSocket(wire: wire)
    }

    // MARK: Frames of the client

    static let mask: [UInt8] = [0x37, 0xFA, 0x21, 0x3D]

    static func frame(_ first: UInt8, _ payload: [UInt8], mask: [UInt8]? = TestWebSocket.mask) -> [UInt8] {
        var bytes = [first]
        let maskBit: UInt8 = mask == nil ? 0 : 0x80
        switch payload.count {
        case ...125: bytes.append(maskBit | UInt8(payload.count))
        case ...0xFFFF: bytes += [maskBit | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
        default:
            bytes.append(maskBit | 127)
            bytes += (0..<8).reversed().map { UInt8(payload.count >> (8 * $0) & 0xFF) }
        }
        guard let mask else { return bytes + payload }
        return bytes + mask + payload.enumerated().map { $1 ^ mask[$0 & 3] }
    }

    static func binary(_ packets: Packet...) throws -> [UInt8] {
        Self.frame(0x82, try Self.encode(packets))
    }

    static func encode(_ packets: [Packet]) throws -> [UInt8] {
        var buffer = ByteBuffer()
        for packet in packets { try packet.encode(into: &buffer, version: .v5) }
        return Array(buffer.readableBytesView)
    }

    func send(_ bytes: [UInt8]) async throws {
        try await self.wire.send(bytes)
    }

    // MARK: Frames of the broker

    struct Frame: Equatable {
        var first: UInt8
        var payload: [UInt8]
    }

    /// All complete frames that have come, which must be unmasked.
    var frames: [Frame] {
        var rest = self.wire.bytes[...]
        var frames: [Frame] = []
        while rest.count >= 2 {
            let first = rest.removeFirst()
            var length = Int(rest.removeFirst())
            let size = length == 126 ? 2 : length == 127 ? 8 : 0
            guard length < 128, rest.count >= size else { return frames }
            if size > 0 { length = rest.prefix(size).reduce(0) { $0 << 8 | Int($1) } }
            rest = rest.dropFirst(size)
            guard rest.count >= length else { return frames }
            frames.append(Frame(first: first, payload: Array(rest.prefix(length))))
            rest = rest.dropFirst(length)
        }
        return frames
    }

    func expect(_ frames: Frame..., sourceLocation: SourceLocation = #_sourceLocation) async throws {
        _ = try await eventually { self.frames.count >= frames.count || self.wire.isClosed }
        #expect(self.frames == frames, sourceLocation: sourceLocation)
        _ = self.wire.takeBytes()
    }

    /// Connects as an MQTT 5 client.
    func connect(_ id: String = "ws", keeps: Bool = false, will: Will? = nil) async throws {
        try await self.send(Self.binary(.connect(.test(id, keeps: keeps, will: will))))
        #expect(try await eventually { self.frames.count == 1 || self.wire.isClosed })
        try #require(self.frames.first?.payload.first == 0x20)
        _ = self.wire.takeBytes()
    }

    static let pong = Frame(first: 0x82, payload: [0xD0, 0])

    static func close(_ code: UInt16) -> Frame {
        Frame(first: 0x88, payload: [UInt8(code >> 8), UInt8(code & 0xFF)])
    }
}
