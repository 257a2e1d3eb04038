import NIOCore
import Testing

@testable import LocalBroker

@Suite("WebSocket frames")
struct WebSocketDecoderTests {
    /// Decodes bytes in pieces; returns the payload, the controls, and what was wrong.
    static func decode(
        _ pieces: [[UInt8]],
        payloadMax: Int = 1 << 20
    ) -> (payload: [UInt8], controls: [WebSocketDecoder.Control], error: WebSocketError?) {
        var decoder = WebSocketDecoder(payloadMax: payloadMax)
        var payload = ByteBuffer()
        var controls: [WebSocketDecoder.Control] = []
        for piece in pieces {
            let error: WebSocketError? = piece.withUnsafeBytes { bytes in
                var at = 0
                do throws(WebSocketError) {
                    while let control = try decoder.next(in: bytes, at: &at, payload: &payload) {
                        controls.append(control)
                    }
                    return nil
                } catch {
                    return error
                }
            }
            if let error { return (Array(payload.readableBytesView), controls, error) }
        }
        return (Array(payload.readableBytesView), controls, nil)
    }

    /// The example in RFC 6455, 5.7.
    @Test("the specification's masked example is read")
    func example() {
        let result = Self.decode([[0x82, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58]])
        #expect(result.payload == Array("Hello".utf8))
        #expect(result.error == nil)
    }

    @Test("frames are understood wherever they are split in two")
    func split() {
        let bytes =
            TestWebSocket.frame(0x02, Array("abcdefghijk".utf8)) + TestWebSocket.frame(0x89, Array("ping".utf8))
            + TestWebSocket.frame(0x00, Array("lmnop".utf8)) + TestWebSocket.frame(0x80, [])
            + TestWebSocket.frame(0x82, Array(repeating: 0x71, count: 300)) + TestWebSocket.frame(0x8A, [1])
            + TestWebSocket.frame(0x88, [0x03, 0xE8])
        let whole = Self.decode([bytes])
        #expect(whole.payload == Array("abcdefghijklmnop".utf8) + Array(repeating: 0x71, count: 300))
        #expect(whole.controls == [.ping(ByteBuffer(string: "ping")), .close(code: 1000)])
        for at in 0...bytes.count {
            let result = Self.decode([Array(bytes[..<at]), Array(bytes[at...])])
            #expect(result.payload == whole.payload && result.controls == whole.controls && result.error == nil)
        }
        let single = Self.decode(bytes.map { [$0] })
        #expect(single.payload == whole.payload && single.controls == whole.controls && single.error == nil)
    }

    @Test("random bytes in random frames, masks and pieces come out as they went in", arguments: 1...20)
    func random(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var sent: [UInt8] = []
        var bytes: [UInt8] = []
        var isInMessage = false
        for _ in 0..<50 {
            let payload = (0..<Int.random(in: 0...400, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            let mask = (0..<4).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let isFinal = Bool.random(using: &generator)
            let first = (isFinal ? 0x80 : 0) | (isInMessage ? UInt8(0) : 2)
            bytes += TestWebSocket.frame(first, payload, mask: mask)
            sent += payload
            isInMessage = !isFinal
        }
        var pieces: [[UInt8]] = []
        while !bytes.isEmpty {
            let count = min(Int.random(in: 1...700, using: &generator), bytes.count)
            pieces.append(Array(bytes[..<count]))
            bytes.removeFirst(count)
        }
        let result = Self.decode(pieces)
        #expect(result.payload == sent)
        #expect(result.error == nil)
    }

    @Test("a frame's length is judged before its payload is there, and the largest is taken")
    func largest() {
        let largest = TestWebSocket.frame(0x82, Array(repeating: 1, count: 70_000))
        #expect(Self.decode([largest], payloadMax: 70_000).error == nil)
        let header = Array(largest[..<10])
        guard case .violation(.messageTooBig, _) = Self.decode([header], payloadMax: 69_999).error else {
            Issue.record("the length was not refused")
            return
        }
    }

    @Test("any bytes are read or refused", arguments: 1...200)
    func fuzz(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<50 {
            let bytes = (0..<Int.random(in: 1...64, using: &generator)).map { index in
                // Headers that are nearly right get further.
                index == 0
                    ? [0x82, 0x02, 0x89, 0x88, 0x00].randomElement(using: &generator) ?? 0
                    : UInt8.random(
                        in: index == 1 ? 0x80...0xFF : 0...0xFF,
                        using: &generator
                    )
            }
            #expect(Self.decode([bytes]).payload.count <= bytes.count)
        }
    }
}
