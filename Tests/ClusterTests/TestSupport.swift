import Cluster
import NIOCore

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// A small seeded generator (SplitMix64): a failing seed replays exactly.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        self.state = seed
    }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// The number of generated inputs a fuzz test runs; CI sets `DUNLIN_FUZZ_INPUTS` higher.
var fuzzInputs: Int {
    getenv("DUNLIN_FUZZ_INPUTS").flatMap { Int(String(cString: $0)) } ?? 20_000
}

/// Message records as the broker makes them.
enum TestRecord {
    /// Appends one record behind its length.
    static func append(
        topic: String = "t",
        qos: UInt8,
        groups: [String] = [],
        payload: some Collection<UInt8>,
        to buffer: inout ByteBuffer
    ) {
        var record = ByteBuffer()
        record.writeInteger(qos | (groups.isEmpty ? 0 : 0x80))
        if !groups.isEmpty {
            record.writeLinkInteger(UInt64(groups.reduce(5) { $0 + 2 + $1.utf8.count }))
            record.writeBytes([0, 0, 0, 0, 1])
            for group in groups {
                record.writeInteger(UInt16(group.utf8.count))
                record.writeString(group)
            }
        }
        record.writeInteger(UInt16(topic.utf8.count))
        record.writeString(topic)
        record.writeBytes(payload)
        buffer.writeLinkInteger(UInt64(record.readableBytes))
        buffer.writeBuffer(&record)
    }

    /// A record with topic "t" whose payload is a number.
    static func append(number: UInt64, qos: UInt8, to buffer: inout ByteBuffer) {
        Self.append(qos: qos, payload: withUnsafeBytes(of: number.bigEndian, Array.init), to: &buffer)
    }

    /// The numbers in a batch of such records, with their QoS.
    static func numbers(in batch: RecordBatch) -> [(number: UInt64, qos: UInt8)] {
        var records = batch.records
        var numbers: [(UInt64, UInt8)] = []
        while let length = records.readInteger(as: UInt8.self), length == 12,
            let qos = records.readInteger(as: UInt8.self), records.readInteger(as: UInt16.self) == 1,
            records.readInteger(as: UInt8.self) != nil, let number = records.readInteger(as: UInt64.self)
        {
            numbers.append((number, qos & 3))
        }
        return numbers
    }

    static func batch(_ numbers: [(UInt64, UInt8)]) -> RecordBatch {
        var buffer = ByteBuffer()
        for (number, qos) in numbers { Self.append(number: number, qos: qos, to: &buffer) }
        return RecordBatch(
            count: numbers.count,
            sequenced: numbers.count(where: { $0.1 > 0 }),
            records: buffer
        )
    }
}

/// Telemetry as `mqload --fill json` makes it: a 24-byte header with run, publisher, sequence and time, then JSON in
/// which some digits change.
struct Telemetry {
    private var generator = SeededGenerator(seed: 7)
    private var sequences: [UInt64]
    private var time: UInt64 = 1_700_000_000_000_000_000
    private let filler: [UInt8]

    init(publishers: Int, size: Int = 176) {
        self.sequences = Array(repeating: 0, count: publishers)
        let json = Array(#"{"device":"0000","temperature":21.5731,"unit":"C","ok":true},"#.utf8)
        self.filler = (0..<(size - 24)).map { json[$0 % json.count] }
    }

    mutating func append(qos: UInt8, to buffer: inout ByteBuffer) {
        let publisher = Int.random(in: 0..<self.sequences.count, using: &self.generator)
        var payload = ByteBuffer()
        payload.writeInteger(0x0123_4567 as UInt32, endianness: .little)
        payload.writeInteger(UInt32(publisher), endianness: .little)
        payload.writeInteger(self.sequences[publisher], endianness: .little)
        payload.writeInteger(self.time, endianness: .little)
        self.sequences[publisher] += 1
        self.time += UInt64.random(in: 0..<50_000, using: &self.generator)
        var text = self.filler
        for index in stride(from: 12, to: text.count - 4, by: 48) {
            for digit in 0..<4 { text[index + digit] = UInt8.random(in: 48...57, using: &self.generator) }
        }
        payload.writeBytes(text)
        TestRecord.append(topic: "mq/p/\(publisher)", qos: qos, payload: payload.readableBytesView, to: &buffer)
    }
}

extension ByteBuffer {
    /// The bytes as hexadecimal digits, as the documentation writes them.
    var hexadecimal: String {
        self.readableBytesView.map { byte in
            String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
        }.joined(separator: " ")
    }

    init(hexadecimal: String) {
        self.init(bytes: hexadecimal.split(whereSeparator: \.isWhitespace).compactMap { UInt8($0, radix: 16) })
    }
}
