import NIOCore
import Protocol

/// Who published a message as which of its messages, written into the payload so that a receiver can tell.
struct FuzzMark: Equatable {
    static let size = 14

    var publisher: UInt32
    var sequence: UInt32
    var qos: QoS

    init(publisher: UInt32, sequence: UInt32, qos: QoS) {
        self.publisher = publisher
        self.sequence = sequence
        self.qos = qos
    }

    /// The mark of a payload; nil if it has none, or one that was damaged on the way to the broker.
    init?(_ payload: ByteBuffer) {
        var payload = payload
        guard payload.readInteger(as: UInt8.self) == 0x70,
            let (publisher, sequence, level, sum) = payload.readMultipleIntegers(
                as: (UInt32, UInt32, UInt8, UInt32).self
            ),
            let qos = QoS(rawValue: level)
        else { return nil }
        self.init(publisher: publisher, sequence: sequence, qos: qos)
        guard sum == self.sum else { return nil }
    }

    private var sum: UInt32 {
        (self.publisher &* 0x9E37_79B1 ^ self.sequence) &* 0x85EB_CA77 ^ UInt32(self.qos.rawValue)
    }

    /// A payload of this size, with the mark where there is room for it.
    func payload(size: Int) -> ByteBuffer {
        guard size >= Self.size else { return ByteBuffer(repeating: 0x70, count: size) }
        var buffer = ByteBuffer()
        buffer.writeMultipleIntegers(0x70 as UInt8, self.publisher, self.sequence, self.qos.rawValue, self.sum)
        buffer.writeRepeatingByte(0x70, count: size - Self.size)
        return buffer
    }
}

/// The order of what one connection receives: of each publisher, topic and quality of service.
///
/// Only topics that no share group can match are looked at: what a member leaves behind comes to the others late, and
/// may. Retained messages, and those that are sent again, are older than others and may be.
struct FuzzOrder {
    private struct Stream: Hashable {
        var publisher: UInt32
        var topic: String
        var published: QoS
        var delivered: QoS
    }

    private var last: [Stream: UInt32] = [:]
    /// Messages that had a predecessor.
    private(set) var compared = 0

    mutating func isRight(_ publish: Publish, _ topic: String) -> Bool {
        guard topic.hasPrefix("$x"), !publish.retain, !publish.dup, let mark = FuzzMark(publish.payload) else {
            return true
        }
        let stream = Stream(publisher: mark.publisher, topic: topic, published: mark.qos, delivered: publish.qos)
        guard let previous = self.last.updateValue(mark.sequence, forKey: stream) else { return true }
        self.compared += 1
        return previous < mark.sequence
    }
}
