#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The aliases under which topics are sent to a client that takes them. [MQTT-3.1.2-26], [MQTT-3.1.2-27]
///
/// Each topic has one place, by its hash, and the place's alias. A free place is taken at once; an occupied one goes to
/// another topic when that comes twice with no third in between, so topics that come once do not push out those that come
/// always. A look-up is a hash and one comparison, whatever the number of topics.
struct OutboundAliases {
    enum Choice: Equatable {
        /// The topic goes as it is.
        case none
        /// The topic goes with its new alias. To be told to `commit` if the packet is really sent.
        case new(UInt16)
        /// The alias goes in place of the topic.
        case known(UInt16)
    }

    private struct Place {
        var topic: [UInt8] = []
        var candidate: UInt64 = 0
    }

    /// Below it an alias saves nothing; above it a client's topics would cost much memory.
    static let topicBytes = 4...1024

    private var places: [Place]

    /// - Precondition: `count` > 0.
    init(count: Int) {
        self.places = Array(repeating: Place(), count: count)
    }

    /// How the topic is sent next.
    mutating func choose(_ topic: UnsafeRawBufferPointer) -> Choice {
        guard Self.topicBytes.contains(topic.count) else { return .none }
        let hash = Self.hash(topic)
        let index = Int(hash % UInt64(self.places.count))
        let alias = UInt16(index + 1)
        if self.places[index].topic.isEmpty { return .new(alias) }
        if Self.isEqual(self.places[index].topic, topic) {
            self.places[index].candidate = 0
            return .known(alias)
        }
        if self.places[index].candidate == hash { return .new(alias) }
        self.places[index].candidate = hash
        return .none
    }

    /// The client has been sent the topic with its new alias.
    mutating func commit(_ alias: UInt16, _ topic: UnsafeRawBufferPointer) {
        self.places[Int(alias) - 1] = Place(topic: Array(topic))
    }

    private static func isEqual(_ known: [UInt8], _ topic: UnsafeRawBufferPointer) -> Bool {
        guard known.count == topic.count, let base = topic.baseAddress else { return false }
        return known.withUnsafeBytes { $0.baseAddress.map { memcmp($0, base, topic.count) == 0 } ?? false }
    }

    private static func hash(_ topic: UnsafeRawBufferPointer) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in topic { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        // The low bits of the product alone would depend on the low bits of the topic alone.
        return hash ^ hash >> 32
    }
}
