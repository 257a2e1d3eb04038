import NIOCore
import Testing

@testable import Cluster

/// One frame of each kind, and its bytes written by hand.
enum GoldenFrames {
    static let hello = LinkHello(
        origin: "a",
        originEpoch: 0x0102_0304_0506_0708,
        target: "bc",
        targetEpoch: 9,
        stream: 3
    )
    static let digests = (0..<256).map { UInt64($0) }
    static let report = CheckReport(
        request: 300,
        retainedCount: 5,
        retainedDigests: digests,
        states: [TableState(sequence: 300, count: 2, digest: 3)],
        peers: [
            CheckReport.Peer(
                name: "a",
                epoch: 9,
                isOutgoingUp: false,
                reason: "no",
                table: TableState(sequence: 4, count: 1, digest: 6)
            )
        ]
    )

    static let all: [(LinkFrame, String)] = [
        (
            .hello(hello),
            "26 01 44 4e 4c 4b 01 01 01 00 01 02 03 04 05 06 07 08 00 00 00 00 00 00 00 09 "
                + "00 00 00 00 00 00 00 03 01 61 02 62 63"
        ),
        (
            .helloAnswer(
                LinkHelloAnswer(
                    verdict: .accepted,
                    version: 1,
                    compression: .zstd,
                    name: "bc",
                    epoch: 9,
                    sequence: 300,
                    tableSequence: 2,
                    frameBytesMax: 0x0100_0000
                )
            ),
            "28 02 44 4e 4c 4b 00 01 01 00 00 00 00 00 00 00 00 09 00 00 00 00 00 00 01 2c "
                + "00 00 00 00 00 00 00 02 01 00 00 00 02 62 63"
        ),
        (.position(nextSequence: 301), "03 03 ad 02"),
        (
            .publish(TestRecord.batch([(1, 1), (2, 0)])),
            "1c 04 02 0c 01 00 01 74 00 00 00 00 00 00 00 01 0c 00 00 01 74 00 00 00 00 00 00 00 02"
        ),
        (.publishOnce(TestRecord.batch([(2, 0)])), "0f 05 01 0c 00 00 01 74 00 00 00 00 00 00 00 02"),
        (
            .tableDelta(
                firstSequence: 3,
                changes: [
                    TableChange(filter: Array("a/+".utf8), interest: 1),
                    TableChange(filter: Array("b".utf8), interest: nil),
                ]
            ),
            "0c 06 01 03 02 01 03 61 2f 2b ff 01 62"
        ),
        (
            .tableDelta(
                firstSequence: 3,
                changes: [
                    TableChange(filter: Array("$share/g/t".utf8), interest: 1, members: 201),
                    TableChange(filter: Array("$share/g/t".utf8), interest: nil),
                ]
            ),
            "1e 06 01 03 02 01 0a 24 73 68 61 72 65 2f 67 2f 74 c9 01 ff 0a 24 73 68 61 72 65 2f 67 2f 74"
        ),
        (.snapshotBegin(sequence: 300, count: 1), "05 07 01 ac 02 01"),
        (.snapshotEntries([TableChange(filter: Array("#".utf8), interest: 2)]), "06 08 01 01 02 01 23"),
        (.snapshotEnd(digest: 0xFEDC_BA98_7654_3210), "0a 09 01 fe dc ba 98 76 54 32 10"),
        (
            .retainedRecords(TestRecord.batch([(1, 1)]), isLast: true),
            "10 0a 01 01 0c 01 00 01 74 00 00 00 00 00 00 00 01"
        ),
        (
            .heartbeat(LinkHeartbeat(sequence: 300, tableSequence: 2, tableDigest: 1, retainedDigest: 2)),
            "14 0b ac 02 02 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02"
        ),
        (.control(ByteBuffer(bytes: [7])), "02 10 07"),
        (.acknowledgement(sequence: 301, tableSequence: 2), "04 0c ad 02 02"),
        (.snapshotRequest, "02 0d 01"),
        (
            .retainedRequest(digests: digests),
            "81 10 0e "
                + digests.map { "00 00 00 00 00 00 00 " + ByteBuffer(bytes: [UInt8($0)]).hexadecimal }.joined(
                    separator: " "
                )
        ),
        (.goodbye(.superseded), "02 0f 01"),
        (.checkRequest(300), "03 80 ac 02"),
        (
            .checkReport(report),
            "aa 10 81 ac 02 01 05 "
                + digests.map { "00 00 00 00 00 00 00 " + ByteBuffer(bytes: [UInt8($0)]).hexadecimal }.joined(
                    separator: " "
                )
                + " 01 ac 02 02 00 00 00 00 00 00 00 03"
                + " 01 01 61 00 00 00 00 00 00 00 09 02 02 6e 6f 04 01 00 00 00 00 00 00 00 06"
        ),
        (
            .relay(RelayCall(origin: "a", originEpoch: 1, target: "bc", targetEpoch: 9)),
            "1a 11 44 4e 4c 4b 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 09 01 61 02 62 63"
        ),
        (.relayAnswer(.noLink), "02 12 02"),
    ]
}

@Suite("Frames of a link")
struct LinkFrameTests {
    @Test("Every frame is written byte for byte as by hand", arguments: GoldenFrames.all.indices)
    func goldenEncode(index: Int) {
        let (frame, bytes) = GoldenFrames.all[index]
        var buffer = ByteBuffer()
        frame.encode(into: &buffer)
        #expect(buffer.hexadecimal == bytes)
    }

    @Test("Every frame is read from the bytes written by hand", arguments: GoldenFrames.all.indices)
    func goldenDecode(index: Int) throws {
        let (frame, bytes) = GoldenFrames.all[index]
        var decoder = LinkFrameDecoder(frameBytesMax: 4_096)
        decoder.buffer = ByteBuffer(hexadecimal: bytes)
        #expect(try decoder.next() == frame)
        #expect(try decoder.next() == nil)
        #expect(decoder.buffer.readableBytes == 0)
    }

    @Test("Frames are found wherever the bytes are split")
    func splits() throws {
        var whole = ByteBuffer()
        for (frame, _) in GoldenFrames.all { frame.encode(into: &whole) }
        for size in [1, 2, 3, 7, 64, 1_000] {
            var decoder = LinkFrameDecoder(frameBytesMax: 4_096)
            var input = whole
            var frames: [LinkFrame] = []
            while input.readableBytes > 0 {
                var piece = input.readSlice(length: min(size, input.readableBytes)) ?? ByteBuffer()
                decoder.buffer.writeBuffer(&piece)
                while let frame = try decoder.next() { frames.append(frame) }
                decoder.reclaim()
            }
            #expect(frames == GoldenFrames.all.map(\.0))
        }
    }

    @Test("No truncation of a frame's body is taken for a whole frame", arguments: GoldenFrames.all.indices)
    func truncations(index: Int) throws {
        let (frame, bytes) = GoldenFrames.all[index]
        var body = ByteBuffer(hexadecimal: bytes)
        while let byte = body.readInteger(as: UInt8.self), byte & 0x80 != 0 {}
        body.moveReaderIndex(forwardBy: 1)
        for length in 0..<body.readableBytes {
            let cut = try #require(body.getSlice(at: body.readerIndex, length: length))
            #expect(throws: LinkError.self) { try LinkFrameDecoder.decode(type: frame.type, body: cut) }
        }
    }

    @Test("A length above the limit is refused before its bytes come")
    func tooLarge() {
        var decoder = LinkFrameDecoder(frameBytesMax: 100)
        decoder.buffer = ByteBuffer(bytes: [0x65])
        #expect(throws: LinkError(.tooLarge, "a frame of 101 bytes, the limit is 100")) { try decoder.next() }
        decoder.buffer = ByteBuffer(bytes: [0xFF, 0xFF, 0xFF, 0xFF, 0x0F])
        #expect(throws: LinkError.self) { try decoder.next() }
        decoder.buffer = ByteBuffer(bytes: [0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
        #expect(throws: LinkError.self) { try decoder.next() }
    }

    @Test("Unknown frames are skipped from 128 on and refused below")
    func unknownTypes() throws {
        #expect(try LinkFrameDecoder.decode(type: 200, body: ByteBuffer(bytes: [1, 2])) == .skipped(type: 200))
        #expect(throws: LinkError.self) { try LinkFrameDecoder.decode(type: 99, body: ByteBuffer()) }
        #expect(throws: LinkError.self) { try LinkFrameDecoder.decode(type: 0, body: ByteBuffer()) }
    }

    @Test("A number has one encoding")
    func integers() throws {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, UInt64(UInt32.max), .max] {
            var buffer = ByteBuffer()
            buffer.writeLinkInteger(value)
            var offset = 0
            #expect(buffer.readableBytes == LinkInteger.size(of: value))
            #expect(try LinkInteger.read(buffer.readableBytesSpan, at: &offset) == value)
            #expect(offset == buffer.readableBytes)
        }
        for bytes in [[0x80, 0x00], Array(repeating: 0xFF, count: 11), Array(repeating: 0xFF, count: 9) + [0x02]] {
            let buffer = ByteBuffer(bytes: bytes.map(UInt8.init))
            var offset = 0
            #expect(throws: LinkError.self) { try LinkInteger.read(buffer.readableBytesSpan, at: &offset) }
        }
    }

    @Test("What cannot become a hello is known by its first bytes")
    func strangers() throws {
        var decoder = LinkFrameDecoder(frameBytesMax: 4_096)
        for byte in ByteBuffer(hexadecimal: "26 01 44 4e 4c 4b 01 01").readableBytesView {
            #expect(try decoder.canBeHello())
            decoder.buffer.writeInteger(byte)
        }
        #expect(try decoder.canBeHello())
        decoder.buffer = ByteBuffer(hexadecimal: "1a 11 44 4e 4c 4b 00")
        #expect(try decoder.canBeHello())
        for bytes in ["47 45", "26 02", "26 01 44 4e 4c 4c"] {
            decoder.buffer = ByteBuffer(hexadecimal: bytes)
            #expect(try !decoder.canBeHello())
        }
    }

    @Test("A hello says who carries it, if anybody does")
    func via() throws {
        var hello = GoldenFrames.hello
        hello.via = "d"
        var buffer = ByteBuffer()
        LinkFrame.hello(hello).encode(into: &buffer)
        #expect(
            buffer.hexadecimal
                == "28 01 44 4e 4c 4b 01 01 01 00 01 02 03 04 05 06 07 08 00 00 00 00 00 00 00 09 "
                + "00 00 00 00 00 00 00 03 01 61 02 62 63 01 64"
        )
        var decoder = LinkFrameDecoder(frameBytesMax: 4_096)
        decoder.buffer = buffer
        #expect(try decoder.next() == .hello(hello))
    }

    @Test("The highest common version is chosen")
    func versions() {
        var hello = GoldenFrames.hello
        hello.versionMin = 1
        hello.versionMax = 7
        #expect(hello.commonVersion(minimum: 1, maximum: 3) == 3)
        #expect(hello.commonVersion(minimum: 8, maximum: 9) == nil)
        hello.versionMin = 5
        #expect(hello.commonVersion(minimum: 1, maximum: 4) == nil)
    }

    @Test("Corrupted and random bytes end in a frame or a typed error, never in more memory than they have")
    func fuzz() {
        var generator = SeededGenerator(seed: 1)
        for input in 0..<fuzzInputs {
            var bytes: [UInt8]
            if input % 4 == 0 {
                bytes = (0..<Int.random(in: 0..<200, using: &generator)).map { _ in
                    UInt8.random(in: 0...255, using: &generator)
                }
            } else {
                let golden = GoldenFrames.all[Int.random(in: 0..<GoldenFrames.all.count, using: &generator)].0
                var buffer = ByteBuffer()
                golden.encode(into: &buffer)
                bytes = Array(buffer.readableBytesView)
                for _ in 0..<Int.random(in: 1...4, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
                }
            }
            var decoder = LinkFrameDecoder(frameBytesMax: 4_096)
            decoder.buffer.writeBytes(bytes)
            do throws(LinkError) {
                while let frame = try decoder.next() {
                    // What was read can be written, and reads the same again.
                    if case .skipped = frame { continue }
                    if case .goodbye = frame { continue }
                    var again = LinkFrameDecoder(frameBytesMax: 4_096)
                    frame.encode(into: &again.buffer)
                    #expect(try again.next() == frame)
                }
            } catch {
                continue
            }
        }
    }
}
