import LocalBroker

/// What the node stores, and how that goes.
struct StorageSection: StatusSection {
    /// Something could not be stored, and nothing has been since.
    var failing: Bool
    var writes: UInt64
    var changes: UInt64
    var failures: UInt64
    var writeSeconds: Double
    var damage: Damage?

    /// A database that was found damaged when the node started.
    struct Damage: Codable, Equatable, Sendable {
        var reason: String
        var file: String
        var kept: Int
    }

    enum CodingKeys: String, CodingKey {
        case failing, writes, changes, failures, damage
        case writeSeconds = "write_seconds"
    }

    var text: String {
        let microseconds = self.writes == 0 ? 0 : Int(self.writeSeconds * 1_000_000) / Int(clamping: self.writes)
        var rows = [
            ("state", self.failing ? "nothing can be stored, see the log" : "in order"),
            ("writes", "\(self.writes) of \(self.changes) changes, \(microseconds) µs each"),
            ("failures", "\(self.failures)"),
        ]
        if let damage {
            let kept = "\(damage.kept) values are kept, the rest is in \(damage.file)"
            rows.append(("damage", "at the start: \(damage.reason); \(kept)"))
        }
        return StatusText.section("storage", rows)
    }
}

extension StorageSection {
    init(_ status: StorageStatus) {
        let seconds = status.statistics.duration / .seconds(1)
        self.init(
            failing: status.isFailing,
            writes: status.statistics.batches,
            changes: status.statistics.changes,
            failures: status.statistics.failures,
            writeSeconds: seconds,
            damage: status.damage.map { Damage(reason: $0.reason, file: $0.path, kept: $0.kept) }
        )
    }
}
