import NIOCore
import Protocol

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// A client's will, kept until its connection ends. [MQTT-3.1.2-7]
struct StoredWill: Sendable {
    var topic: [UInt8]
    /// MQTT 5 property bytes as a message record carries them.
    var properties: ByteBuffer
    var payload: [UInt8]
    var qos: QoS
    var retain: Bool
    var delaySeconds: UInt32
    var expirySeconds: UInt32?

    init(_ will: Will) throws(ProtocolError) {
        self.topic = Array(will.topic.utf8)
        self.properties = ByteBuffer()
        try will.properties.encodeForwarded(into: &self.properties)
        self.payload = will.payload
        self.qos = will.qos
        self.retain = will.retain
        self.delaySeconds = will.properties.willDelayInterval ?? 0
        self.expirySeconds = will.properties.messageExpiryInterval
    }

    /// A will that was stored; nil if it cannot be read.
    init?(_ stored: Stored.Will) {
        let parts = stored.record.withUnsafeBytes { record in
            MessageRecord.read(record).map { message in
                (
                    topic: [UInt8](message.topic), properties: ByteBuffer(bytes: message.properties),
                    payload: [UInt8](message.payload), qos: message.qos, retain: message.retain
                )
            }
        }
        guard let parts, !parts.topic.isEmpty else { return nil }
        self.topic = parts.topic
        self.properties = parts.properties
        self.payload = parts.payload
        self.qos = parts.qos
        self.retain = parts.retain
        self.delaySeconds = stored.delaySeconds
        self.expirySeconds = stored.expirySeconds
    }

    /// The message that it is.
    func withMessage<Result>(expiry: UInt64, _ body: (MessageView) -> Result) -> Result {
        self.topic.withUnsafeBytes { topic in
            self.properties.withUnsafeReadableBytes { properties in
                self.payload.withUnsafeBytes { payload in
                    body(
                        MessageView(
                            topic: topic,
                            properties: properties,
                            payload: payload,
                            qos: self.qos,
                            retain: self.retain,
                            expiry: expiry
                        )
                    )
                }
            }
        }
    }
}

/// A client identifier as a key: two are the same if their bytes are. (Swift takes canonically equivalent text for equal.)
struct ClientID: Hashable, Sendable {
    var text: String

    static func == (left: ClientID, right: ClientID) -> Bool {
        left.withBytes { left in
            right.withBytes { right in
                guard left.count == right.count else { return false }
                guard let start = left.baseAddress, let other = right.baseAddress else { return true }
                return memcmp(start, other, left.count) == 0
            }
        }
    }

    func hash(into hasher: inout Hasher) {
        self.withBytes { hasher.combine(bytes: $0) }
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        let result = self.text.utf8.withContiguousStorageIfAvailable { body(UnsafeRawBufferPointer($0)) }
        return result ?? Array(self.text.utf8).withUnsafeBytes(body)
    }
}

/// A subscription as its session keeps it.
struct HeldSubscription: Sendable {
    var options: SubscriptionOptions
    /// [MQTT-3.3.4-3]; 0 for none.
    var identifier: UInt32
}

/// All of a session that outlives its connection: what moves when its client comes back on another shard.
struct SessionState: Sendable {
    /// The user that the session belongs to; another one does not get it.
    var userName: UserName?
    /// By filter, shared ones by their whole filter.
    var subscriptions: [FilterKey: HeldSubscription] = [:]
    /// Bytes of their filters.
    var filterBytes = 0
    var shares = ShareNumbers()
    /// Its share groups know that its client is away.
    var isAwayInGroups = false
    var log = OutboundLog()
    /// Retained messages still to be sent for new subscriptions.
    var retained: [RetainedDelivery] = []
    /// QoS 2 messages taken from the client and not released by it.
    var received = PacketIDSet()
    /// Seconds that the session outlives its connection; `UInt32.max` for ever. [MQTT-3.1.2-23]
    var expirySeconds: UInt32 = 0
    /// The number by which it is stored; 0 while it is not.
    var storedNumber: UInt64 = 0
    /// Rises with every connection, over all nodes.
    var epoch: UInt64 = 0
    /// What is due of it, if it moves while its client is away.
    var absence: Absence?
}

/// A client's session. Owned by the event loop of the shard that holds it.
final class Session {
    enum Phase {
        /// Its state is on the way from another shard. Messages queue; the waiting connection has no CONNACK yet.
        case arriving
        case present
        /// Another shard takes it over. Messages queue and travel with it.
        case departing
    }

    let clientID: ClientID
    let slot: UInt32
    let owner: SessionDirectory.Owner
    var phase: Phase
    @exclusivity(unchecked) var state = SessionState()
    /// The live connection; nil while the client is away.
    var connection: Connection?
    /// The will of the last connection while it waits for its delay. [MQTT-3.1.3-9]
    var delayedWill: StoredWill?
    /// The number by which the client's will is stored; 0 where none is.
    var willNumber: UInt64 = 0
    /// Set when the session lost its connection; a timer for an earlier loss is not due any more.
    var disconnects: UInt64 = 0
    /// When the delayed will is due and when a session without a connection ends, in seconds of the loop's clock.
    var willDueSeconds = Int.max
    var endDueSeconds = Int.max
    /// Its slot has been named by routes, so a delivery to it may be on its way even when they are gone.
    var wasSubscribed = false
    /// Which messages it takes, while it moves between nodes.
    var crossing: Crossing?
    /// It came from another node and nothing of it is stored here yet.
    var isUnstored = false
    /// What the client has at another node is being fetched, while it is connected here.
    var isUniting = false
    /// Its slot is another session's to have.
    var isSlotFree = false
    /// Requests to hand over that came while the session was itself arriving.
    var heldHandOvers: [HandOver] = []
    /// The last publish that reached this session, and where its receiver stands, to join overlapping subscriptions.
    var lastPublish: UInt64 = 0
    var lastReceiver = 0
    /// Messages that only the storage has are being read.
    var isReadingTail = false
    /// QoS 1 and 2 messages the client takes at a time.
    var window = 0

    init(clientID: ClientID, slot: UInt32, owner: SessionDirectory.Owner, phase: Phase) {
        self.clientID = clientID
        self.slot = slot
        self.owner = owner
        self.phase = phase
    }

    var subscriberID: SubscriberID { SubscriberID(shard: UInt16(self.owner.shard), slot: self.slot, kind: .session) }
}

@available(*, unavailable)
extension Session: Sendable {}

/// A request from one shard to another to give up a client's session.
struct HandOver: Sendable {
    var clientID: ClientID
    /// The session's owner as the asking shard found it.
    var previous: SessionDirectory.Owner
    /// Where the session goes.
    var target: SubscriberID
    /// The client wants none of the old state. [MQTT-3.1.2-4]
    var discards: Bool
    /// The client's user.
    var userName: UserName?
    /// Called with the state, nil if there was none to keep; posts itself to the asking shard.
    var reply: @Sendable (SessionState?) -> Void
}
