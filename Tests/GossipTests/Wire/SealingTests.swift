import NIOCore
import Testing

@testable import Gossip

@Suite("Label and encryption")
struct SealingTests {
    private static let ring = KeyRing(KeyRing.Key(bytes: Array(0..<32))!)
    private static let otherRing = KeyRing(KeyRing.Key(bytes: Array(1...32))!)
    private static let label = Array("ring.example".utf8)

    /// All kinds there are: each refuses all the others.
    static let kinds = [
        Sealing(), Sealing(ring: Self.ring), Sealing(ring: Self.otherRing), Sealing(label: Self.label),
        Sealing(label: Array("ring".utf8)), Sealing(label: Self.label, ring: Self.ring),
        Sealing(label: Self.label, ring: Self.otherRing), Sealing(label: Array("ring".utf8), ring: Self.ring),
    ]

    private static func pings(_ count: Int, _ generator: inout SeededGenerator) -> [Message] {
        (0..<count).map { _ in
            .ping(Ping(sequence: .random(in: .min ... .max, using: &generator), target: "peer"))
        }
    }

    @Test("What one kind writes only that kind reads, and the error says why", arguments: Self.kinds.indices)
    func foreign(index: Int) throws {
        var generator = SeededGenerator(seed: 1)
        let writer = Self.kinds[index]
        let ping = Self.pings(1, &generator)[0].encoded()
        let packet = writer.seal(packet: ping, using: &generator)
        let stream = writer.seal(stream: ping, isAnswer: false, using: &generator)
        #expect(packet.count == ping.count + writer.packetOverhead)
        for (other, reader) in Self.kinds.enumerated() {
            var decoder = StreamDecoder(sealing: reader)
            if other == index {
                #expect(try reader.open(packet: packet) == ping)
                #expect(try decoder.receive(stream)?.encoded() == ping)
                continue
            }
            let expected = Self.expectedError(writer: writer, reader: reader)
            #expect(throws: expected) { try reader.open(packet: packet) }
            #expect(throws: expected) { _ = try decoder.receive(stream) }
        }
    }

    private static func expectedError(writer: Sealing, reader: Sealing) -> WireError {
        if writer.label != reader.label { return reader.label.isEmpty ? .labelled : .wrongLabel }
        guard reader.ring != nil else { return .encrypted }
        return writer.ring == nil ? .notEncrypted : .wrongKey
    }

    @Test("Any bit flipped in a packet is refused", arguments: GoldenPacket.sealedDatagrams.filter(\.isEncrypted))
    func flippedPacket(packet: GoldenPacket) {
        // Which of the two versions it is the format does not protect.
        let version = packet.isLabelled ? packet.sealing.label.count + 2 : 0
        for index in packet.bytes.indices {
            for bit in 0..<8 where index != version || bit > 0 {
                var bytes = packet.bytes
                bytes[index] ^= 1 << bit
                #expect(throws: WireError.self, "byte \(index) bit \(bit)") { try packet.sealing.open(packet: bytes) }
            }
        }
    }

    @Test("Any bit flipped in a stream is refused or waited for", arguments: GoldenPacket.sealedStreams)
    func flippedStream(packet: GoldenPacket) {
        guard packet.isEncrypted || packet.sealing.ring != nil else { return }
        let version = (packet.isLabelled ? packet.sealing.label.count + 2 : 0) + Sealing.frameHeaderBytes
        for index in packet.bytes.indices {
            for bit in 0..<8 where index != version || bit > 0 {
                var bytes = packet.bytes
                bytes[index] ^= 1 << bit
                var decoder = StreamDecoder(sealing: packet.sealing, isAnswer: packet.isAnswer)
                // A length that was made larger is waited for, and the deadline of the stream ends that.
                let message = try? decoder.receive(bytes)
                #expect(message == nil, "byte \(index) bit \(bit)")
            }
        }
    }

    @Test(
        "A plain content passed off as padded is refused unless it ends like a padding",
        arguments: [0, 1, 15, 16, 17]
    )
    func padding(count: Int) {
        var content = [UInt8](repeating: 0x55, count: count)
        let nonce = [UInt8](repeating: 1, count: 12)
        func opened(_ content: [UInt8]) -> [UInt8]? {
            var sealed = Self.ring.seal(content, additional: [], nonce: nonce)
            sealed[0] = 0
            return Self.ring.open(sealed[...], additional: [])
        }
        #expect(opened(content) == nil)
        content += [UInt8](repeating: 0, count: (32 - count) % 16)
        for value in [0, 17, 255] as [UInt8] { #expect(opened(content.dropLast() + [value]) == nil) }
        #expect(opened(content.dropLast(2) + [3, 2]) == nil)
        if content.count >= 16 { #expect(opened(content.dropLast(2) + [2, 2]) == content.dropLast(2)) }
    }

    @Test("Any content of any length comes back, and no two packets are alike")
    func roundTrip() throws {
        var generator = SeededGenerator(seed: 4)
        var seen: Set<[UInt8]> = []
        for length in 0..<300 {
            let kind = Sealing(label: Self.label, ring: Self.ring)
            let content = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let packet = kind.seal(packet: content, using: &generator)
            #expect(try kind.open(packet: packet) == content)
            #expect(seen.insert(packet).inserted)
        }
    }

    @Test("A full packet with its layers is not larger than the limit", arguments: Self.kinds)
    func packetSize(kind: Sealing) throws {
        var generator = SeededGenerator(seed: 3)
        let source = try #require(NodeAddress(bytes: [10, 0, 0, 2], port: 7_946))
        var settings = Instance.Settings(name: "me", address: source, bootEpoch: 1, incarnation: 1, randomSeed: 1)
        settings.packetBytesMax = 1_400 - kind.packetOverhead
        var instance = Instance(settings, now: .uptimeNanoseconds(1))
        let now = NIODeadline.uptimeNanoseconds(1_000_000_000)
        var directives: [Directive] = []
        for index in 0..<40 {
            let alive = Alive(
                incarnation: 1,
                node: "peer\(index)",
                address: [10, 0, 1, UInt8(index)],
                port: 7_946,
                meta: SerfTags.encode(["filler": String(repeating: "x", count: 3 * index)], bootEpoch: 1),
                versions: [1, 5, 2, 2, 5, 5]
            )
            directives += instance.onPacket(Message.alive(alive).encoded(), from: source, now: now)
        }
        for _ in 0..<20 { directives += instance.onTimer(now: instance.nextDeadline) }
        var sizes: [Int] = []
        for case .send(let bytes, _) in directives { sizes.append(kind.seal(packet: bytes, using: &generator).count) }
        #expect(try #require(sizes.max()) <= 1_400)
        #expect(try #require(sizes.max()) > 1_200)
    }

    @Test("Every truncation of an encrypted packet is refused", arguments: GoldenPacket.sealedDatagrams)
    func truncated(packet: GoldenPacket) {
        guard packet.sealing.ring != nil else { return }
        for count in packet.bytes.indices {
            #expect(throws: WireError.self) { try packet.sealing.open(packet: Array(packet.bytes[..<count])) }
        }
    }

    @Test("Bytes after an encrypted stream's frame do not become part of it")
    func injected() throws {
        var generator = SeededGenerator(seed: 2)
        let kind = Sealing(ring: Self.ring)
        let ping = Self.pings(1, &generator)[0].encoded()
        let half = kind.seal(stream: Array(ping[..<8]), isAnswer: false, using: &generator)
        var decoder = StreamDecoder(sealing: kind)
        #expect(throws: WireError.self) { _ = try decoder.receive(half + ping[8...]) }
    }

    @Test("A frame that claims more than a stream may have is refused before it comes")
    func claim() {
        var decoder = StreamDecoder(sealing: Sealing(ring: Self.ring))
        #expect(throws: WireError.limitExceeded(.streamBytes)) {
            _ = try decoder.receive([10, 0xff, 0xff, 0xff, 0xff])
        }
    }

    @Test("Random bytes and mutations of captures are survived and never taken for authentic")
    func fuzz() {
        var generator = SeededGenerator(seed: 20_261_125)
        let captures = GoldenPacket.wrapped.filter { $0.sealing.ring != nil }
        for _ in 0..<FuzzTests.inputs {
            let capture = captures[Int.random(in: 0..<captures.count, using: &generator)]
            var bytes = capture.bytes
            let version = (capture.isLabelled ? capture.sealing.label.count + 2 : 0) + (capture.isStream ? 5 : 0)
            for _ in 0..<Int.random(in: 1...6, using: &generator) where !bytes.isEmpty {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[index] = .random(in: 0...255, using: &generator)
                case 1: bytes.insert(.random(in: 0...255, using: &generator), at: index)
                case 2: bytes.removeSubrange(index...)
                default: bytes[index] ^= 1 << UInt8.random(in: 0...7, using: &generator)
                }
            }
            let isChanged =
                bytes.count < capture.bytes.count
                || zip(bytes, capture.bytes).enumerated().contains {
                    $0.offset != version && $0.element.0 != $0.element.1
                }
            if capture.isStream {
                var decoder = StreamDecoder(sealing: capture.sealing, isAnswer: capture.isAnswer)
                let message = try? decoder.receive(bytes)
                if isChanged { #expect(message == nil) }
            } else {
                let opened = try? capture.sealing.open(packet: bytes)
                if isChanged || bytes.count > capture.bytes.count { #expect(opened == nil) }
            }
        }
    }
}
