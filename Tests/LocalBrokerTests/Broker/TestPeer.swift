import NIOCore
import Protocol

@testable import LocalBroker

/// A peer node as the cluster would attach it. What it holds is touched on the link loop only.
struct TestPeer: Sendable {
    struct Record: Hashable, Sendable {
        var topic: String
        var payload: String
        var qos: QoS
        var retain: Bool
        var hasStamp: Bool
    }

    let broker: Broker
    let outlet: NIOLoopBound<PeerOutlet>
    let slot: PeerSlot

    /// Says that somebody on the peer wants messages, and waits until it holds.
    func subscribe(_ filters: String..., qos: UInt8 = 2, isKept: Bool = false) async throws {
        let changes = filters.map {
            RouteChange(filter: Array($0.utf8), interest: RouteInterest(qos: qos, isKept: isKept))
        }
        try await self.onLink { self.broker.applyPeerRoutes(self.slot, changes) }
        _ = try await eventually { self.broker.shared.routes.poll() }
    }

    func setCongested(_ isCongested: Bool) async throws {
        try await self.onLink { self.broker.setCongested(self.slot, isCongested) }
    }

    func detach() async throws {
        try await self.onLink { self.broker.detachPeer(self.slot) }
    }

    /// All that was collected for the peer so far.
    func records() async throws -> [Record] {
        try await self.onLink {
            var records: [Record] = []
            self.outlet.value.pending.withUnsafeReadableBytes { bytes in
                var at = 0
                while at < bytes.count, let (length, size) = MessageRecord.readInteger(bytes, at: at) {
                    let record = UnsafeRawBufferPointer(rebasing: bytes[(at + size)..<(at + size + length)])
                    if let message = MessageRecord.read(record) {
                        records.append(
                            Record(
                                topic: message.topicText,
                                payload: message.payloadText,
                                qos: message.qos,
                                retain: message.retain,
                                hasStamp: message.stamp != 0
                            )
                        )
                    }
                    at += size + length
                }
            }
            return records
        }
    }

    /// The peer has so many of the QoS 1 and 2 messages that were collected.
    func confirm(_ count: UInt64) async throws {
        try await self.onLink { self.outlet.value.onFinished(count) }
    }

    /// Messages of the peer arrive on its link.
    ///
    /// - Parameter stored: called when all is stored that has to be, unless it is at once.
    @discardableResult
    func publish(
        _ topic: String,
        _ payload: String,
        qos: QoS = .atLeastOnce,
        stamp: UInt64 = 0,
        stored: @escaping @Sendable () -> Void = {}
    ) async throws -> (count: Int, areStored: Bool) {
        try await self.onLink {
            var buffer = ByteBuffer()
            withMessage(topic: topic, payload: payload, qos: qos, retain: stamp != 0, stamp: stamp) {
                MessageRecord.appendWithLength($0, qos: qos, to: &buffer)
            }
            return buffer.withUnsafeReadableBytes { self.broker.publishFromPeer(self.slot, $0, stored: stored) }
        }
    }

    private func onLink<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async throws -> Result {
        try await self.broker.linkLoop.submit(body).get()
    }
}

extension TestBroker {
    /// - Parameter confirms: the peer has at once whatever is collected for it.
    func attachPeer(_ name: String, confirms: Bool = true) async throws -> TestPeer {
        let broker = self.broker
        return try await broker.linkLoop.submit {
            let outlet = broker.attachPeer(name: name)
            if confirms { outlet.onPending = { [unowned outlet] in outlet.onFinished(outlet.appended) } }
            return TestPeer(
                broker: broker,
                outlet: NIOLoopBound(outlet, eventLoop: broker.linkLoop),
                slot: outlet.slot
            )
        }.get()
    }
}
