import LocalBroker
import Logging
import NIOCore
import Protocol

/// The broker as the links need it.
///
/// Owned by the link loop.
final class ClusterHost: LinkHost {
    private let broker: Broker
    private let logger: Logger
    private let onDead: (String, UInt64) -> Void
    /// Called once, before there is a peer.
    var onFirstPeer: (() -> Void)?
    /// Nil until the links are there.
    var takeover: TakeoverShell?

    init(broker: Broker, logger: Logger, onDead: @escaping (String, UInt64) -> Void) {
        self.broker = broker
        self.logger = logger
        self.onDead = onDead
    }

    func attach(peer name: String) -> any LinkPeerHost {
        self.onFirstPeer.take()?()
        let outlet = self.broker.attachPeer(name: name)
        self.takeover?.attached(peer: name, slot: outlet.slot)
        return ClusterPeerHost(broker: self.broker, outlet: outlet, logger: self.logger, takeover: self.takeover)
    }

    func memberKnown(_ name: String, epoch: UInt64) {
        self.takeover?.memberKnown(name, epoch: epoch)
    }

    func memberLost(_ name: String) {
        self.takeover?.memberLost(name)
    }

    var retainedCount: Int { self.broker.retained.count }

    var retainedDigests: [UInt64] {
        self.broker.retained.digests(nowMilliseconds: self.broker.nowMilliseconds)
    }

    func retained(inBuckets buckets: [Int]) -> any RetainedSource {
        BucketSource(store: self.broker.retained, buckets: buckets)
    }

    func applyRetained(_ batch: RecordBatch, from peer: String) {
        let unreadable = batch.records.withUnsafeReadableBytes { bytes in
            var unreadable = 0
            var offset = 0
            while let (length, size) = MessageRecord.readInteger(bytes, at: offset) {
                let record = UnsafeRawBufferPointer(rebasing: bytes[(offset + size)..<(offset + size + length)])
                if !self.broker.storeFromPeer(record) { unreadable += 1 }
                offset += size + length
            }
            return unreadable
        }
        guard unreadable > 0 else { return }
        self.logger.warning(
            "retained messages of a peer cannot be read",
            metadata: ["peer": "\(peer)", "count": "\(unreadable)"]
        )
    }

    func onControl(_ body: ByteBuffer, from peer: String) throws(LinkError) {
        try self.takeover?.onControl(body, from: peer)
    }

    func linkChanged(peer: String, isUp: Bool) {
        self.takeover?.linkChanged(peer: peer, isUp: isUp)
    }

    func tableAdvanced(peer: String, to sequence: UInt64) {
        self.takeover?.tableAdvanced(peer: peer, to: sequence)
    }

    func redispatch(_ records: ByteBuffer) {
        self.broker.redispatch(records)
    }

    func confirmDead(name: String, epoch: UInt64) {
        self.logger.notice("a member's process is dead", metadata: ["peer": "\(name)", "epoch": "\(epoch)"])
        self.onDead(name, epoch)
    }
}

@available(*, unavailable)
extension ClusterHost: Sendable {}

/// One peer's place in the broker.
///
/// Owned by the link loop.
private final class ClusterPeerHost: LinkPeerHost {
    private let broker: Broker
    private let outlet: PeerOutlet
    private let logger: Logger
    private let takeover: TakeoverShell?

    init(broker: Broker, outlet: PeerOutlet, logger: Logger, takeover: TakeoverShell?) {
        self.broker = broker
        self.outlet = outlet
        self.logger = logger
        self.takeover = takeover
    }

    var onPending: (() -> Void)? {
        get { self.outlet.onPending }
        set { self.outlet.onPending = newValue }
    }

    var pendingCount: Int { self.outlet.pendingCount }

    func takePending() -> ByteBuffer {
        self.outlet.take().records
    }

    func onFinished(_ count: UInt64) {
        self.outlet.onFinished(count)
    }

    func publish(_ batch: RecordBatch, position: PeerPosition?, stored: @escaping () -> Void) -> Bool {
        let (count, areStored) = batch.records.withUnsafeReadableBytes {
            self.broker.publishFromPeer(self.outlet.slot, $0, position: position, stored: stored)
        }
        guard count < batch.count else { return areStored }
        self.logger.warning(
            "messages of a peer cannot be read",
            metadata: ["peer": "\(self.outlet.name)", "count": "\(batch.count - count)"]
        )
        return areStored
    }

    func applyRoutes(_ changes: [TableChange]) {
        self.broker.applyPeerRoutes(self.outlet.slot, changes.map(RouteChange.init))
    }

    func replaceRoutes(_ all: [TableChange]) {
        self.broker.replacePeerRoutes(self.outlet.slot, all.map(RouteChange.init))
    }

    func linkChanged(isUp: Bool) {
        self.broker.setLinked(self.outlet.slot, isUp)
    }

    func congestionChanged(_ isCongested: Bool) {
        self.broker.setCongested(self.outlet.slot, isCongested)
    }

    func goAway(keeping routes: [TableChange]) {
        self.broker.setAway(self.outlet, true)
        self.takeover?.detached(peer: self.outlet.name)
        let changes = routes.map { route in
            var change = RouteChange(route)
            if route.isShared {
                change.interest?.online = 0
                change.interest?.offline = .unreachable
            }
            return change
        }
        self.broker.replacePeerRoutes(self.outlet.slot, changes)
    }

    func comeBack() {
        guard self.outlet.isAway else { return }
        self.broker.setAway(self.outlet, false)
        self.takeover?.attached(peer: self.outlet.name, slot: self.outlet.slot)
    }

    func detach() {
        self.outlet.onPending = nil
        self.broker.detachPeer(self.outlet.slot)
        self.takeover?.detached(peer: self.outlet.name)
    }
}

/// The retained messages of some buckets of the store.
private final class BucketSource: RetainedSource {
    /// Entries looked up at a time.
    private static let entriesMax = 64

    private let store: RetainedStore
    private var buckets: ArraySlice<Int>
    private var cursor = RetainedBucketCursor.start
    private var entries: ArraySlice<RetainedEntry> = []

    init(store: RetainedStore, buckets: [Int]) {
        self.store = store
        self.buckets = buckets[...]
    }

    func next(bytesMax: Int, recordBytesMax: Int) -> RetainedPart {
        var part = RetainedPart(count: 0, records: ByteBuffer(), isLast: false)
        while part.records.readableBytes < bytesMax {
            guard let entry = self.entries.popFirst() ?? self.refill() else {
                part.isLast = true
                break
            }
            Self.append(entry, to: &part, recordBytesMax: recordBytesMax)
        }
        return part
    }

    private func refill() -> RetainedEntry? {
        while let bucket = self.buckets.first, self.entries.isEmpty {
            let chunk = self.store.entries(inBucket: bucket, from: self.cursor, limit: Self.entriesMax)
            self.entries = chunk.entries[...]
            if let next = chunk.next {
                self.cursor = next
            } else {
                self.buckets = self.buckets.dropFirst()
                self.cursor = .start
            }
        }
        return self.entries.popFirst()
    }

    private static func append(_ entry: RetainedEntry, to part: inout RetainedPart, recordBytesMax: Int) {
        guard entry.recordCount <= recordBytesMax else { return }
        part.count += 1
        guard entry.isTombstone else {
            part.records.writeLinkInteger(UInt64(entry.recordCount))
            return entry.withRecord { _ = part.records.writeBytes($0) }
        }
        entry.withTopic { topic in
            let empty = UnsafeRawBufferPointer(start: nil, count: 0)
            let message = MessageView(
                topic: topic,
                properties: empty,
                payload: empty,
                qos: .atMostOnce,
                retain: true,
                expiry: 0,
                stamp: entry.stamp.rawValue
            )
            MessageRecord.appendWithLength(message, qos: .atMostOnce, to: &part.records)
        }
    }
}

extension TableChange {
    init(_ change: RouteChange) {
        self.init(
            filter: change.filter,
            interest: change.interest.map { $0.qos | ($0.isKept ? Self.keptBit : 0) },
            members: change.interest.map { min($0.online, 1 << 26) << 1 | ($0.offline == .none ? 0 : 1) } ?? 0
        )
    }
}

extension RouteChange {
    init(_ change: TableChange) {
        self.init(
            filter: change.filter,
            interest: change.interest.map { byte in
                RouteInterest(
                    qos: byte & ~TableChange.keptBit,
                    isKept: byte & TableChange.keptBit != 0,
                    online: change.members >> 1,
                    offline: change.members & 1 == 0 ? .none : .waiting
                )
            }
        )
    }
}
