/// The 27 properties of MQTT 5 (section 2.2.2.2). Every identifier fits one byte, so none needs a second.
enum PropertyIdentifier: UInt8, CaseIterable, Sendable {
    case payloadFormatIndicator = 0x01
    case messageExpiryInterval = 0x02
    case contentType = 0x03
    case responseTopic = 0x08
    case correlationData = 0x09
    case subscriptionIdentifier = 0x0B
    case sessionExpiryInterval = 0x11
    case assignedClientIdentifier = 0x12
    case serverKeepAlive = 0x13
    case authenticationMethod = 0x15
    case authenticationData = 0x16
    case requestProblemInformation = 0x17
    case willDelayInterval = 0x18
    case requestResponseInformation = 0x19
    case responseInformation = 0x1A
    case serverReference = 0x1C
    case reasonString = 0x1F
    case receiveMaximum = 0x21
    case topicAliasMaximum = 0x22
    case topicAlias = 0x23
    case maximumQoS = 0x24
    case retainAvailable = 0x25
    case userProperty = 0x26
    case maximumPacketSize = 0x27
    case wildcardSubscriptionAvailable = 0x28
    case subscriptionIdentifierAvailable = 0x29
    case sharedSubscriptionAvailable = 0x2A
}

/// Which properties a packet may carry, one bit an identifier.
struct PropertySet: OptionSet, Sendable {
    let rawValue: UInt64

    init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    init(_ identifiers: PropertyIdentifier...) {
        self.rawValue = identifiers.reduce(0) { $0 | 1 << UInt64($1.rawValue) }
    }

    /// Whether the set has that identifier; all 27 are below 64.
    @inline(__always)
    func contains(_ identifier: UInt8) -> Bool {
        identifier < 64 && self.rawValue & (1 << UInt64(identifier)) != 0
    }

    // Literal bit sets, so that reading a PUBLISH never asks whether a static has been initialised.

    static var none: PropertySet { PropertySet(rawValue: 0) }
    static var publish: PropertySet { PropertySet(rawValue: 0x48_0000_0B0E) }
    static var connect: PropertySet { PropertySet(rawValue: 0xC6_02E2_0000) }
    static var will: PropertySet { PropertySet(rawValue: 0x40_0100_030E) }
    static var connAck: PropertySet { PropertySet(rawValue: 0x7F6_946E_0000) }
    static var acknowledgement: PropertySet { PropertySet(rawValue: 0x40_8000_0000) }
    static var subscribe: PropertySet { PropertySet(rawValue: 0x40_0000_0800) }
    static var unsubscribe: PropertySet { PropertySet(rawValue: 0x40_0000_0000) }
    static var disconnect: PropertySet { PropertySet(rawValue: 0x40_9002_0000) }
    static var auth: PropertySet { PropertySet(rawValue: 0x40_8060_0000) }
}
