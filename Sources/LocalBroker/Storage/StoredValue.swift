/// What a broker stores: one value is one row of a table.
public enum StoredValue: Sendable, Equatable {
    case setting(Stored.Setting)
    case session(Stored.Session)
    case subscription(Stored.Subscription)
    case message(Stored.Message)
    case delivery(Stored.Delivery)
    case receipt(Stored.Receipt)
    case will(Stored.Will)
    case retained(Stored.Retained)

    /// What names it in its table.
    public var key: StorageKey {
        switch self {
        case .setting(let value): .setting(value.name)
        case .session(let value): .session(value.number)
        case .subscription(let value): .subscription(session: value.session, filter: value.filter)
        case .message(let value): .message(value.number)
        case .delivery(let value): .delivery(session: value.session, message: value.message)
        case .receipt(let value): .receipt(session: value.session, packetID: value.packetID)
        case .will(let value): .will(session: value.session)
        case .retained(let value): .retained(topic: value.topic)
        }
    }
}

/// Names one value.
public enum StorageKey: Sendable, Hashable {
    case setting(String)
    case session(UInt64)
    case subscription(session: UInt64, filter: [UInt8])
    case message(UInt64)
    case delivery(session: UInt64, message: UInt64)
    case receipt(session: UInt64, packetID: UInt16)
    case will(session: UInt64)
    case retained(topic: [UInt8])

    /// The session that the value is part of; nil for what no session owns.
    public var session: UInt64? {
        switch self {
        case .session(let number): number
        case .subscription(let session, _), .delivery(let session, _), .receipt(let session, _), .will(let session):
            session
        case .setting, .message, .retained: nil
        }
    }

    /// The table that the value is in.
    public var table: StorageTable {
        switch self {
        case .setting: .settings
        case .session: .sessions
        case .subscription: .subscriptions
        case .message: .messages
        case .delivery: .deliveries
        case .receipt: .receipts
        case .will: .wills
        case .retained: .retained
        }
    }
}

/// The kinds of values, in an order in which none comes before what it refers to.
public enum StorageTable: Sendable, CaseIterable {
    case settings
    case sessions
    case subscriptions
    case messages
    case deliveries
    case receipts
    case wills
    case retained
}

/// The values of each table.
public enum Stored {
    /// Something about the broker itself.
    public struct Setting: Sendable, Equatable {
        public var name: String
        public var value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// A session that outlives its client's connection.
    public struct Session: Sendable, Equatable {
        /// Never used again for another session.
        public var number: UInt64
        public var clientID: String
        public var userName: String?
        /// Seconds that it outlives its connection; `UInt32.max` for ever.
        public var expirySeconds: UInt32
        /// When its client was disconnected, in milliseconds since the Unix epoch; 0 while it is connected.
        public var disconnectedAt: UInt64

        public init(
            number: UInt64,
            clientID: String,
            userName: String?,
            expirySeconds: UInt32,
            disconnectedAt: UInt64
        ) {
            self.number = number
            self.clientID = clientID
            self.userName = userName
            self.expirySeconds = expirySeconds
            self.disconnectedAt = disconnectedAt
        }
    }

    /// A topic filter that a session is subscribed to.
    public struct Subscription: Sendable, Equatable {
        public var session: UInt64
        /// UTF-8, with `$share/…` where it is shared.
        public var filter: [UInt8]
        /// Bits 0–1 QoS, bit 2 No Local, bit 3 Retain As Published.
        public var options: UInt8
        /// MQTT 5's subscription identifier; 0 for none.
        public var identifier: UInt32
        /// The number by which deliveries name a shared subscription; 0 where it is not one.
        public var share: UInt16
        /// The topic from which on, in the order of topics, retained messages are still to be sent for it; empty for all, nil
        /// for none.
        public var retainedFrom: [UInt8]?

        public init(
            session: UInt64,
            filter: [UInt8],
            options: UInt8,
            identifier: UInt32,
            share: UInt16,
            retainedFrom: [UInt8]? = nil
        ) {
            self.session = session
            self.filter = filter
            self.options = options
            self.identifier = identifier
            self.share = share
            self.retainedFrom = retainedFrom
        }
    }

    /// A message that is on its way to one or more sessions.
    public struct Message: Sendable, Equatable {
        public var number: UInt64
        /// Topic, properties, payload and expiry, in the form of `docs/bridge-protocol.md`.
        public var record: [UInt8]

        public init(number: UInt64, record: [UInt8]) {
            self.number = number
            self.record = record
        }
    }

    /// That a message is to be delivered to a session, and how far that has come. Those of a session are delivered in the
    /// order of the messages' numbers.
    public struct Delivery: Sendable, Equatable {
        public var session: UInt64
        public var message: UInt64
        public var qos: UInt8
        /// The packet identifier that it is sent with.
        public var packetID: UInt16
        /// QoS 2: the client has received it, and PUBCOMP is due.
        public var isReceived: Bool
        public var retain: Bool
        public var share: UInt16
        public var identifier: UInt32
        /// Bytes of the message's record.
        public var size: UInt32

        public init(
            session: UInt64,
            message: UInt64,
            qos: UInt8,
            packetID: UInt16,
            isReceived: Bool,
            retain: Bool,
            share: UInt16,
            identifier: UInt32,
            size: UInt32
        ) {
            self.session = session
            self.message = message
            self.qos = qos
            self.packetID = packetID
            self.isReceived = isReceived
            self.retain = retain
            self.share = share
            self.identifier = identifier
            self.size = size
        }
    }

    /// A QoS 2 message of a session's client that was taken and not released.
    public struct Receipt: Sendable, Equatable {
        public var session: UInt64
        public var packetID: UInt16

        public init(session: UInt64, packetID: UInt16) {
            self.session = session
            self.packetID = packetID
        }
    }

    /// The will of a client.
    public struct Will: Sendable, Equatable {
        /// The number of its session, or one of its own where that ends with the connection.
        public var session: UInt64
        /// As `Message.record`.
        public var record: [UInt8]
        /// Seconds from its publication until it expires; nil for never.
        public var expirySeconds: UInt32?
        public var delaySeconds: UInt32
        /// When it is to be published, in milliseconds since the Unix epoch; 0 while the client is connected.
        public var dueAt: UInt64

        public init(session: UInt64, record: [UInt8], expirySeconds: UInt32?, delaySeconds: UInt32, dueAt: UInt64) {
            self.session = session
            self.record = record
            self.expirySeconds = expirySeconds
            self.delaySeconds = delaySeconds
            self.dueAt = dueAt
        }
    }

    /// The retained message of a topic, or the tombstone of one.
    public struct Retained: Sendable, Equatable {
        /// UTF-8.
        public var topic: [UInt8]
        /// As `Message.record`; empty where the topic was cleared.
        public var record: [UInt8]
        /// Orders the values of a topic.
        public var stamp: UInt64

        public init(topic: [UInt8], record: [UInt8], stamp: UInt64) {
            self.topic = topic
            self.record = record
            self.stamp = stamp
        }
    }
}
