/// How far a peer's messages of QoS 1 and 2 have been taken in.
package struct PeerPosition: Sendable, Hashable {
    private static let prefix = "link/"

    package var name: String
    /// The peer's life, its numbering in it, and the last number.
    package var epoch: UInt64
    package var stream: UInt64
    package var sequence: UInt64

    package init(name: String, epoch: UInt64, stream: UInt64, sequence: UInt64) {
        self.name = name
        self.epoch = epoch
        self.stream = stream
        self.sequence = sequence
    }

    /// Nil if this says something else.
    init?(_ setting: Stored.Setting) {
        guard setting.name.hasPrefix(Self.prefix) else { return nil }
        let numbers = setting.value.split(separator: " ").compactMap { UInt64($0) }
        guard numbers.count == 3 else { return nil }
        self.init(
            name: String(setting.name.dropFirst(Self.prefix.count)),
            epoch: numbers[0],
            stream: numbers[1],
            sequence: numbers[2]
        )
    }

    var setting: Stored.Setting {
        Stored.Setting(name: Self.prefix + self.name, value: "\(self.epoch) \(self.stream) \(self.sequence)")
    }
}
