import Foundation
import NIOCore
import Testing

@testable import Gossip

/// Decoders given garbage: they may only return or throw, within their limits.
@Suite("Bad input", .ownThread)
struct FuzzTests {
    /// Inputs of each random test; `DUNLIN_FUZZ_INPUTS` makes it more.
    static let inputs = ProcessInfo.processInfo.environment["DUNLIN_FUZZ_INPUTS"].flatMap(Int.init) ?? 20_000

    private static func decodeStream(_ bytes: [UInt8]) -> Message? {
        var decoder = StreamDecoder()
        // Anything but a crash is right here.
        return try? decoder.receive(bytes)
    }

    @Test(
        "Every truncation of every capture throws, waits, or loses parts; none reads on",
        arguments: GoldenPacket.plain
    )
    func truncation(packet: GoldenPacket) {
        for count in 0..<packet.bytes.count {
            let part = Array(packet.bytes[..<count])
            if packet.isStream {
                #expect(Self.decodeStream(part) == nil)
            } else if packet.bytes[0] == 12, count > 5 {
                #expect(throws: WireError.checksumMismatch) { try PacketCodec.decode(part) }
            } else {
                // What is whole within a compound may be returned.
                _ = try? PacketCodec.decode(part)
            }
        }
    }

    @Test("Every corruption of one byte of every capture is survived", arguments: GoldenPacket.all)
    func corruption(packet: GoldenPacket) {
        // Behind the CRC, where there is one: it would hide the rest from everything that is not caught by it.
        let content = packet.bytes[0] == 12 ? Array(packet.bytes[5...]) : packet.bytes
        for index in content.indices {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xc0, 0xdb, 0xdf, 0xff] as [UInt8] {
                var bytes = content
                bytes[index] = value
                if packet.isStream { _ = Self.decodeStream(bytes) } else { _ = try? PacketCodec.decode(bytes) }
            }
        }
    }

    @Test("Random mutations of captures and random bytes are survived, and so is what the core makes of them")
    func random() {
        var generator = SeededGenerator(seed: 20_261_123)
        var instance = Instance(
            .init(
                name: "p4",
                address: NodeAddress(bytes: [10, 77, 0, 9], port: 7_946)!,
                bootEpoch: 1,
                incarnation: 9,
                randomSeed: 1
            ),
            now: .uptimeNanoseconds(1)
        )
        let source = NodeAddress(bytes: [10, 77, 0, 1], port: 7_946)!
        let captures = GoldenPacket.plain
        for round in 0..<Self.inputs {
            let capture = captures[Int.random(in: 0..<captures.count, using: &generator)]
            var bytes = capture.bytes[0] == 12 ? Array(capture.bytes[5...]) : capture.bytes
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[index] = .random(in: 0...255, using: &generator)
                case 1: bytes.insert(.random(in: 0...255, using: &generator), at: index)
                case 2 where bytes.count > 2: bytes.remove(at: index)
                default: bytes[index] ^= 1 << UInt8.random(in: 0...7, using: &generator)
                }
            }
            let now = NIODeadline.uptimeNanoseconds(UInt64(round + 1) * 1_000_000)
            if capture.isStream {
                if let message = Self.decodeStream(bytes) {
                    _ = instance.onStreamMessage(message, from: source, now: now)
                }
            } else {
                _ = instance.onPacket(bytes, from: source, now: now)
            }
            if instance.nextDeadline <= now { _ = instance.onTimer(now: now) }
        }
        #expect(instance.members.count <= instance.settings.membersMax + 1)
    }

    @Test("Compression that unpacks to more than the limit is refused, nested or not")
    func bomb() throws {
        // A run of one byte is LZW's best case: 4 KiB of codes make megabytes.
        let bomb = Self.compressedRun(codes: 3_800)
        #expect(throws: WireError.limitExceeded(.decompressedBytes)) {
            try PacketCodec.decode(bomb, limits: WireLimits(decompressedBytes: 100_000))
        }
        var nested: [UInt8] = [MessageType.ping.rawValue]
        for _ in 0..<40 { nested = [MessageType.compound.rawValue, 1, 0, UInt8(nested.count)] + nested }
        #expect(throws: WireError.limitExceeded(.nestingDepth)) { try PacketCodec.decode(nested) }
    }

    @Test("A map that claims more than it holds costs nothing")
    func claims() {
        let liars: [[UInt8]] = [
            [0x00, 0xdf, 0xff, 0xff, 0xff, 0xff], [0x00, 0x81, 0xdb, 0xff, 0xff, 0xff, 0xff],
            [0x00, 0x81, 0xa1, 0x78, 0xdd, 0xff, 0xff, 0xff, 0xff], [0x07, 0xff], [0x07, 0x02, 0xff, 0xff],
        ]
        for bytes in liars {
            #expect(throws: WireError.self) { try PacketCodec.decode(bytes) }
        }
        let header: [UInt8] = [0x06, 0x81, 0xa5] + Array("Nodes".utf8) + [0xce, 0xff, 0xff, 0xff, 0xff]
        #expect(throws: WireError.limitExceeded(.nodesInStream)) {
            var decoder = StreamDecoder()
            _ = try decoder.receive(header)
        }
    }

    @Test("A stream that never ends is cut off at its limit")
    func endless() {
        var limits = WireLimits.stream
        limits.streamBytes = 10_000
        var decoder = StreamDecoder(limits: limits)
        let chunk = [UInt8](repeating: 0xa1, count: 1_000)
        #expect(throws: WireError.self) {
            _ = try decoder.receive([0x08, 0x81, 0xaa] + Array("UserMsgLen".utf8) + [0xcd, 0x27, 0x00])
            for _ in 0..<11 { _ = try decoder.receive(chunk) }
        }
    }

    @Test("The number of parts that Debian's memberlist would drop is never written", arguments: [1, 2, 126, 127])
    func parts(count: Int) throws {
        let ping = Message.ping(Ping(sequence: 1, target: "x")).encoded()
        let packet = PacketCodec.encode([[UInt8]](repeating: ping, count: count), withCRC: true)
        #expect(try PacketCodec.decode(packet).messages.count == count)
    }

    /// A compress message whose content is a long run, by codes that each refer to the one just defined.
    private static func compressedRun(codes: Int) -> [UInt8] {
        var bits: [UInt8] = []
        var window = 0
        var filled = 0
        func put(_ code: Int, _ width: Int) {
            window |= code << filled
            filled += width
            while filled >= 8 {
                bits.append(UInt8(window & 0xff))
                window >>= 8
                filled -= 8
            }
        }
        put(256, 9)
        put(0x41, 9)
        var next = 258
        var width = 9
        for _ in 0..<codes {
            put(next, width)
            if next + 1 >= 1 << width, width < 12 { width += 1 }
            next += 1
        }
        put(257, width)
        bits.append(UInt8(window & 0xff))
        var writer = MessagePackWriter(type: .compress)
        writer.writeMap(count: 2)
        writer.write("Algo", UInt8(0))
        writer.write("Buf", bits)
        return writer.bytes
    }
}
