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
        /// The share groups that it is for.
        var groups: [String] = []
        var hops: UInt8 = 0
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

    /// Says what members the peer has in a share group, and waits until it holds.
    func join(
        _ filter: String,
        online: UInt32,
        offline: OfflineMembers = .none,
        qos: UInt8 = 2,
        isKept: Bool = false
    ) async throws {
        let interest = RouteInterest(qos: qos, isKept: isKept, online: online, offline: offline)
        try await self.change(RouteChange(filter: octets(filter), interest: interest))
    }

    func leave(_ filter: String) async throws {
        try await self.change(RouteChange(filter: octets(filter), qos: nil))
    }

    private func change(_ change: RouteChange) async throws {
        try await self.onLink { self.broker.applyPeerRoutes(self.slot, [change]) }
        _ = try await eventually { self.broker.shared.routes.poll() }
    }

    /// As when the member is declared dead: what it has not taken comes back.
    func die(untaken: [Record] = []) async throws {
        try await self.onLink {
            self.broker.detachPeer(self.slot)
            var records = ByteBuffer()
            for record in untaken { record.append(to: &records) }
            if !untaken.isEmpty { self.broker.redispatch(records) }
        }
    }

    func setLinked(_ isLinked: Bool) async throws {
        try await self.onLink { self.broker.setLinked(self.slot, isLinked) }
    }

    func setAway(_ isAway: Bool) async throws {
        try await self.onLink { self.broker.setAway(self.outlet.value, isAway) }
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
                        let groups = NamedGroups(message.groups)
                        let names = groups?.filters.map { String(decoding: $0, as: UTF8.self) } ?? []
                        records.append(
                            Record(
                                topic: message.topicText,
                                payload: message.payloadText,
                                qos: message.qos,
                                retain: message.retain,
                                hasStamp: message.stamp != 0,
                                groups: names,
                                hops: groups?.hops ?? 0
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
        groups: [String] = [],
        hops: UInt8 = 1,
        stored: @escaping @Sendable () -> Void = {}
    ) async throws -> (count: Int, areStored: Bool) {
        try await self.onLink {
            var buffer = ByteBuffer()
            if !groups.isEmpty {
                let record = Record(
                    topic: topic,
                    payload: payload,
                    qos: qos,
                    retain: false,
                    hasStamp: false,
                    groups: groups,
                    hops: hops
                )
                record.append(to: &buffer)
                return buffer.withUnsafeReadableBytes { self.broker.publishFromPeer(self.slot, $0, stored: stored) }
            }
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

extension TestPeer.Record {
    /// As a record that is for share groups.
    fileprivate func append(to buffer: inout ByteBuffer) {
        var names = ByteBuffer()
        NamedGroups.begin(key: 7, hops: self.hops, in: &names)
        for group in self.groups { NamedGroups.add(octets(group), to: &names) }
        names.withUnsafeReadableBytes { names in
            withMessage(topic: self.topic, payload: self.payload, qos: self.qos) { message in
                var message = message
                message.groups = names
                MessageRecord.appendWithLength(message, qos: self.qos, to: &buffer)
            }
        }
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
