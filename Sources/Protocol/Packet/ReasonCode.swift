/// What an MQTT 5 packet says about the outcome of an operation (MQTT 5, section 2.4).
///
/// The version-neutral form: CONNACK return codes and SUBACK codes of MQTT 3 are translated on reading and writing.
public struct ReasonCode: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Whether the operation failed: 0x80 and above.
    public var isError: Bool {
        self.rawValue >= 0x80
    }

    public static let success = ReasonCode(rawValue: 0x00)
    /// 0x00 in a DISCONNECT.
    public static let normalDisconnection = ReasonCode(rawValue: 0x00)
    /// 0x00 in a SUBACK.
    public static let grantedQoS0 = ReasonCode(rawValue: 0x00)
    public static let grantedQoS1 = ReasonCode(rawValue: 0x01)
    public static let grantedQoS2 = ReasonCode(rawValue: 0x02)
    public static let disconnectWithWillMessage = ReasonCode(rawValue: 0x04)
    public static let noMatchingSubscribers = ReasonCode(rawValue: 0x10)
    public static let noSubscriptionExisted = ReasonCode(rawValue: 0x11)
    public static let continueAuthentication = ReasonCode(rawValue: 0x18)
    public static let reAuthenticate = ReasonCode(rawValue: 0x19)
    public static let unspecifiedError = ReasonCode(rawValue: 0x80)
    public static let malformedPacket = ReasonCode(rawValue: 0x81)
    public static let protocolError = ReasonCode(rawValue: 0x82)
    public static let implementationSpecificError = ReasonCode(rawValue: 0x83)
    public static let unsupportedProtocolVersion = ReasonCode(rawValue: 0x84)
    public static let clientIdentifierNotValid = ReasonCode(rawValue: 0x85)
    public static let badUserNameOrPassword = ReasonCode(rawValue: 0x86)
    public static let notAuthorized = ReasonCode(rawValue: 0x87)
    public static let serverUnavailable = ReasonCode(rawValue: 0x88)
    public static let serverBusy = ReasonCode(rawValue: 0x89)
    public static let banned = ReasonCode(rawValue: 0x8A)
    public static let serverShuttingDown = ReasonCode(rawValue: 0x8B)
    public static let badAuthenticationMethod = ReasonCode(rawValue: 0x8C)
    public static let keepAliveTimeout = ReasonCode(rawValue: 0x8D)
    public static let sessionTakenOver = ReasonCode(rawValue: 0x8E)
    public static let topicFilterInvalid = ReasonCode(rawValue: 0x8F)
    public static let topicNameInvalid = ReasonCode(rawValue: 0x90)
    public static let packetIdentifierInUse = ReasonCode(rawValue: 0x91)
    public static let packetIdentifierNotFound = ReasonCode(rawValue: 0x92)
    public static let receiveMaximumExceeded = ReasonCode(rawValue: 0x93)
    public static let topicAliasInvalid = ReasonCode(rawValue: 0x94)
    public static let packetTooLarge = ReasonCode(rawValue: 0x95)
    public static let messageRateTooHigh = ReasonCode(rawValue: 0x96)
    public static let quotaExceeded = ReasonCode(rawValue: 0x97)
    public static let administrativeAction = ReasonCode(rawValue: 0x98)
    public static let payloadFormatInvalid = ReasonCode(rawValue: 0x99)
    public static let retainNotSupported = ReasonCode(rawValue: 0x9A)
    public static let qosNotSupported = ReasonCode(rawValue: 0x9B)
    public static let useAnotherServer = ReasonCode(rawValue: 0x9C)
    public static let serverMoved = ReasonCode(rawValue: 0x9D)
    public static let sharedSubscriptionsNotSupported = ReasonCode(rawValue: 0x9E)
    public static let connectionRateExceeded = ReasonCode(rawValue: 0x9F)
    public static let maximumConnectTime = ReasonCode(rawValue: 0xA0)
    public static let subscriptionIdentifiersNotSupported = ReasonCode(rawValue: 0xA1)
    public static let wildcardSubscriptionsNotSupported = ReasonCode(rawValue: 0xA2)
}

extension ReasonCode {
    /// The code a SUBACK gives for a granted subscription.
    public init(granted qos: QoS) {
        self.init(rawValue: qos.rawValue)
    }
}

extension ReasonCode: CustomStringConvertible {
    public var description: String {
        let digits = String(self.rawValue, radix: 16, uppercase: true)
        return digits.utf8.count == 1 ? "0x0" + digits : "0x" + digits
    }
}

// MARK: MQTT 3

extension ReasonCode {
    /// The CONNACK return code of MQTT 3 that comes nearest (MQTT 3.1.1, table 3.1).
    package var connectReturnCode: UInt8 {
        switch self {
        case .success: 0
        case .unsupportedProtocolVersion: 1
        case .clientIdentifierNotValid: 2
        case .badUserNameOrPassword, .badAuthenticationMethod: 4
        case .notAuthorized, .banned: 5
        default: 3
        }
    }

    /// The reason a CONNACK return code of MQTT 3 stands for; `nil` for the reserved ones.
    package init?(connectReturnCode code: UInt8) {
        switch code {
        case 0: self = .success
        case 1: self = .unsupportedProtocolVersion
        case 2: self = .clientIdentifierNotValid
        case 3: self = .serverUnavailable
        case 4: self = .badUserNameOrPassword
        case 5: self = .notAuthorized
        default: return nil
        }
    }
}

// MARK: Where a code may stand

extension ReasonCode {
    /// Whether a packet of this kind from that side may carry the code (the tables of MQTT 5, section 3).
    package func isAllowed(in type: PacketType, from sender: Sender) -> Bool {
        switch type {
        case .connAck: self.isAllowedInConnAck
        case .pubAck, .pubRec: self.isAllowedInPubAck
        case .pubRel, .pubComp: self == .success || self == .packetIdentifierNotFound
        case .subAck: self.isAllowedInSubAck
        case .unsubAck: self.isAllowedInUnsubAck
        case .disconnect: self.isAllowedInDisconnect(from: sender)
        case .auth: self.isAllowedInAuth(from: sender)
        case .connect, .publish, .subscribe, .unsubscribe, .pingReq, .pingResp: false
        }
    }

    private var isAllowedInConnAck: Bool {
        switch self.rawValue {
        case 0x00, 0x80...0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99...0x9D, 0x9F: true
        default: false
        }
    }

    private var isAllowedInPubAck: Bool {
        switch self.rawValue {
        case 0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99: true
        default: false
        }
    }

    private var isAllowedInSubAck: Bool {
        switch self.rawValue {
        case 0x00...0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2: true
        default: false
        }
    }

    private var isAllowedInUnsubAck: Bool {
        switch self.rawValue {
        case 0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91: true
        default: false
        }
    }

    private func isAllowedInDisconnect(from sender: Sender) -> Bool {
        switch self.rawValue {
        case 0x00, 0x80...0x83, 0x90, 0x93...0x99: true
        case 0x04: sender == .client
        case 0x87, 0x89, 0x8B, 0x8D...0x8F, 0x9A...0xA2: sender == .server
        default: false
        }
    }

    private func isAllowedInAuth(from sender: Sender) -> Bool {
        switch self {
        case .success: sender == .server
        case .continueAuthentication: true
        case .reAuthenticate: sender == .client
        default: false
        }
    }
}
