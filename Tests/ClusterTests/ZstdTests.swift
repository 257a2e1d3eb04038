import NIOCore
import Testing

@testable import Cluster

@Suite("The compressed stream")
struct ZstdTests {
    private func roundTrip(_ pieces: [ByteBuffer], flushEvery: Int) throws -> (bytes: Int, output: ByteBuffer) {
        let compressor = try ZstdCompressor()
        let decompressor = try ZstdDecompressor()
        var output = ByteBuffer()
        var bytes = 0
        var wire = ByteBuffer()
        for (index, piece) in pieces.enumerated() {
            try compressor.compress(
                piece,
                flush: (index + 1).isMultiple(of: flushEvery) || index == pieces.count - 1,
                into: &wire
            )
            bytes += wire.readableBytes
            while try decompressor.decompress(&wire, into: &output, outputBytesMax: 4_096) {}
            wire.clear()
        }
        return (bytes, output)
    }

    @Test("What goes in comes out after each flush, whatever its size", arguments: [1, 2, 5])
    func roundTrips(flushEvery: Int) throws {
        var generator = SeededGenerator(seed: 3)
        let pieces = [0, 1, 100, 70_000, 300_000, 5, 0, 131_072].map { size in
            ByteBuffer(bytes: (0..<size).map { _ in UInt8.random(in: 0...15, using: &generator) })
        }
        var expected = ByteBuffer()
        for piece in pieces { expected.writeImmutableBuffer(piece) }
        #expect(try self.roundTrip(pieces, flushEvery: flushEvery).output == expected)
    }

    @Test(
        "A 176-byte telemetry publish costs at most 40 bytes flushed each and 25 under load",
        arguments: [1, 10, 100]
    )
    func telemetry(publishers: Int) throws {
        for (count, bytesMax) in [(1, 40.0), (16, 25.0)] {
            var telemetry = Telemetry(publishers: publishers)
            var frames: [ByteBuffer] = []
            for _ in 0..<(20_000 / count) {
                var records = ByteBuffer()
                for _ in 0..<count { telemetry.append(qos: 1, to: &records) }
                var frame = ByteBuffer()
                LinkFrame.publish(RecordBatch(count: count, sequenced: count, records: records)).encode(into: &frame)
                frames.append(frame)
            }
            let bytes = Double(try self.roundTrip(frames, flushEvery: 1).bytes) / Double(frames.count * count)
            #expect(bytes <= bytesMax, "\(publishers) publishers, \(count) a flush")
            print("telemetry: \(publishers) publishers, \(count) a flush: \(bytes) bytes a message")
        }
    }

    @Test("Output is made in bounded portions, however much a few bytes stand for")
    func bombs() throws {
        let compressor = try ZstdCompressor()
        let decompressor = try ZstdDecompressor()
        var wire = ByteBuffer()
        let zeros = ByteBuffer(repeating: 0, count: 64 << 20)
        try compressor.compress(zeros, flush: true, into: &wire)
        #expect(wire.readableBytes < 16_384)
        var made = 0
        var hasMore = true
        while hasMore {
            var output = ByteBuffer()
            hasMore = try decompressor.decompress(&wire, into: &output, outputBytesMax: 256 << 10)
            #expect(output.readableBytes <= 320 << 10)
            made += output.readableBytes
        }
        #expect(made == zeros.readableBytes)
    }

    @Test("A window beyond the limit is refused")
    func window() throws {
        // A frame header that asks for 1 MiB: magic, no flags, window descriptor with exponent 10.
        var wire = ByteBuffer(bytes: [0x28, 0xB5, 0x2F, 0xFD, 0x00, 10 << 3, 0x01, 0x00, 0x00])
        var output = ByteBuffer()
        let decompressor = try ZstdDecompressor()
        #expect(throws: LinkError.self) {
            try decompressor.decompress(&wire, into: &output, outputBytesMax: 65_536)
        }
    }

    @Test("Corrupted streams end in a typed error or in bounded output")
    func fuzz() throws {
        var generator = SeededGenerator(seed: 5)
        var telemetry = Telemetry(publishers: 3)
        var records = ByteBuffer()
        for _ in 0..<20 { telemetry.append(qos: 1, to: &records) }
        var good = ByteBuffer()
        try ZstdCompressor().compress(records, flush: true, into: &good)
        for _ in 0..<(fuzzInputs / 10) {
            var wire = good
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let index = Int.random(in: 0..<wire.readableBytes, using: &generator)
                wire.setInteger(UInt8.random(in: 0...255, using: &generator), at: index)
            }
            var output = ByteBuffer()
            let decompressor = try ZstdDecompressor()
            do throws(LinkError) {
                _ = try decompressor.decompress(&wire, into: &output, outputBytesMax: 1 << 20)
            } catch {
                #expect(error.code == .compression)
            }
            #expect(output.readableBytes <= 2 << 20)
        }
    }
}
