import Logging
import NIOCore
import Synchronization
import Testing

@testable import Gossip

/// The events a node has told of so far.
final class EventLog: Sendable {
    private let events = Mutex<[(event: MembershipEvent, time: NIODeadline)]>([])

    func append(_ event: MembershipEvent) {
        let now = NIODeadline.now()
        self.events.withLock { $0.append((event, now)) }
    }

    var all: [MembershipEvent] { self.events.withLock { $0.map(\.event) } }

    func time(of isWanted: (MembershipEvent) -> Bool) -> NIODeadline? {
        self.events.withLock { $0.first { isWanted($0.event) }?.time }
    }
}

extension MembershipEvent {
    func isFailed(_ name: String) -> Bool { if case .failed(let member) = self { member.name == name } else { false } }
    func isLeft(_ name: String) -> Bool { if case .left(let member) = self { member.name == name } else { false } }
}

/// A node on real sockets, with its events.
struct TestNode: Sendable {
    let node: GossipNode
    let log: EventLog

    var seed: GossipConfiguration.Seed {
        .init(host: self.node.advertisedAddress.host, port: self.node.advertisedAddress.port)
    }

    static func start(
        _ name: String,
        bind: String = "127.0.0.1",
        port: Int = 0,
        seeds: [GossipConfiguration.Seed] = [],
        tags: [String: String] = [:],
        profile: GossipProfile = .local,
        bootEpoch: UInt64 = 1,
        compresses: Bool = false,
        keyRing: KeyRing? = nil,
        label: String = ""
    ) async throws -> TestNode {
        let log = EventLog()
        var logger = Logger(label: name)
        logger.logLevel = .critical
        let configuration = GossipConfiguration(
            name: name,
            bindAddress: bind,
            port: port,
            seeds: seeds,
            tags: tags,
            profile: profile,
            bootEpoch: bootEpoch,
            compresses: compresses,
            keyRing: keyRing,
            label: label,
            logger: logger
        )
        return TestNode(node: try await GossipNode.start(configuration) { log.append($0) }, log: log)
    }

    func member(_ name: String) async -> Member? {
        await self.node.members().first { $0.name == name }
    }

    /// The names of the members that are taken for alive, sorted.
    func alive() async -> [String] {
        await self.node.members().filter { $0.state == .alive }.map(\.name).sorted()
    }
}

/// Waits until a condition holds; the deadline is for a machine with other work.
func eventually(
    within seconds: Int64 = 20,
    _ what: Comment,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async throws {
    let deadline = NIODeadline.now() + .seconds(seconds)
    while true {
        // Also when the deadline went by while this task was not run.
        if try await condition() { return }
        guard NIODeadline.now() < deadline else { break }
        try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record(what, sourceLocation: sourceLocation)
}
