/// The properties of an MQTT 5 packet; all empty in MQTT 3.
///
/// One type for all packets: which properties a packet may carry is checked on reading and writing.
/// Strings that are canonically equivalent are equal in Swift but not in MQTT: compare their `utf8`.
public struct Properties: Hashable, Sendable {
    // MARK: A message

    /// 1 if the payload is UTF-8 text.
    public var payloadFormatIndicator: UInt8?
    /// In seconds.
    public var messageExpiryInterval: UInt32?
    public var contentType: String?
    public var responseTopic: String?
    public var correlationData: [UInt8]?
    /// One at most in a SUBSCRIBE, one for each matching subscription in a PUBLISH.
    public var subscriptionIdentifiers: [UInt32] = []
    public var topicAlias: UInt16?
    /// In seconds.
    public var willDelayInterval: UInt32?

    // MARK: A session

    /// In seconds; 0xFFFFFFFF for never.
    public var sessionExpiryInterval: UInt32?
    public var assignedClientIdentifier: String?
    /// In seconds.
    public var serverKeepAlive: UInt16?
    public var authenticationMethod: String?
    public var authenticationData: [UInt8]?
    public var requestProblemInformation: Bool?
    public var requestResponseInformation: Bool?
    public var responseInformation: String?
    public var serverReference: String?

    // MARK: Limits

    public var receiveMaximum: UInt16?
    public var topicAliasMaximum: UInt16?
    /// At most once or at least once.
    public var maximumQoS: QoS?
    public var retainAvailable: Bool?
    /// In bytes.
    public var maximumPacketSize: UInt32?
    public var wildcardSubscriptionAvailable: Bool?
    public var subscriptionIdentifierAvailable: Bool?
    public var sharedSubscriptionAvailable: Bool?

    // MARK: Any packet

    public var reasonString: String?
    public var userProperties: [UserProperty] = []

    public init() {}

    /// Whether there is not a single one.
    public var isEmpty: Bool {
        self == Properties()
    }
}

/// A name and a value that mean what the applications agree on; names may repeat.
public struct UserProperty: Hashable, Sendable {
    public var name: String
    public var value: String

    public init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}
