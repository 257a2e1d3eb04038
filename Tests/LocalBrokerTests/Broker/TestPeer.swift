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
    func subscribe(_ filters: String..., qos: UInt8 = 2) async throws {
        let changes = filters.map { RouteChange(filter: Array($0.utf8), qos: qos) }
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

    /// Messages of the peer arrive on its link.
    func publish(_ topic: String, _ payload: String, qos: QoS = .atLeastOnce, stamp: UInt64 = 0) async throws -> Int {
        try await self.onLink {
            var buffer = ByteBuffer()
            withMessage(topic: topic, payload: payload, qos: qos, retain: stamp != 0, stamp: stamp) {
                MessageRecord.appendWithLength($0, qos: qos, to: &buffer)
            }
            return buffer.withUnsafeReadableBytes { self.broker.publishFromPeer(self.slot, $0) }
        }
    }

    private func onLink<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async throws -> Result {
        try await self.broker.linkLoop.submit(body).get()
    }
}

extension TestBroker {
    func attachPeer(_ name: String) async throws -> TestPeer {
        let broker = self.broker
        return try await broker.linkLoop.submit {
            let outlet = broker.attachPeer(name: name)
            return TestPeer(
                broker: broker,
                outlet: NIOLoopBound(outlet, eventLoop: broker.linkLoop),
                slot: outlet.slot
            )
        }.get()
    }
}
