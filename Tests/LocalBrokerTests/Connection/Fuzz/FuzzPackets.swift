import NIOCore
import Protocol

/// Makes the packets of fuzzing clients: of few names and identifiers, so that they meet.
struct FuzzPackets {
    var random: SeededGenerator
    private var sequence: UInt32 = 0

    init(random: SeededGenerator) {
        self.random = random
    }

    private static let topics = ["a", "b", "a/b", "a/c", "$x", "$x/y", "c/d/e/f", "1/2/3/4/5/6/7/8/9/10"]
    private static let filters = [
        "a", "b", "+", "#", "a/+", "+/b", "a/#", "$x/#", "$x/#", "$x", "$x", "c/d/e/f", "+/+/+/+",
        "1/2/3/4/5/6/7/8/9/10",
        "$share/g/a",
        "$share/g/+", "$share/h/a/#", "$share/g/#",
    ]
    private static let sizes = [0, 1, 20, 20, 20, 300, 3000]

    // MARK: CONNECT

    mutating func connect() -> Connect {
        let version = self.random.pick([ProtocolVersion.v31, .v311, .v311, .v5, .v5, .v5])
        let id = self.random.pick(version == .v5 ? ["x", "y", "z", ""] : ["x", "y", "z"])
        var connect = Connect(version: version, cleanStart: self.random.chance(30), clientIdentifier: id)
        connect.keepAlive = self.random.pick([0, 0, 3, 60, .max])
        if self.random.chance(40) {
            connect.will = Will(
                topic: self.random.pick(Self.topics),
                payload: [UInt8](repeating: 7, count: self.random.pick(Self.sizes)),
                qos: self.qos(),
                retain: self.random.chance(30)
            )
        }
        if self.random.chance(20) { connect.userName = "user" }
        if connect.userName != nil, self.random.chance(50) { connect.password = [1, 2] }
        if version == .v5 { self.addConnectProperties(&connect) }
        return connect
    }

    private mutating func addConnectProperties(_ connect: inout Connect) {
        if self.random.chance(70) { connect.properties.sessionExpiryInterval = self.random.pick([0, 2, 60, .max]) }
        if self.random.chance(50) { connect.properties.receiveMaximum = self.random.pick([1, 2, 5, .max]) }
        if self.random.chance(30) { connect.properties.maximumPacketSize = self.random.pick([20, 100, 1000, .max]) }
        if self.random.chance(50) { connect.properties.topicAliasMaximum = self.random.pick([0, 1, 3, .max]) }
        if self.random.chance(20) { connect.properties.requestProblemInformation = self.random.chance(50) }
        if self.random.chance(20) { connect.properties.requestResponseInformation = self.random.chance(50) }
        if self.random.chance(3) { connect.properties.authenticationMethod = "none" }
        if self.random.chance(10) { connect.properties.userProperties = [UserProperty("k", "v")] }
        guard connect.will != nil else { return }
        if self.random.chance(50) { connect.will?.properties.willDelayInterval = self.random.pick([0, 1, 30, .max]) }
        if self.random.chance(20) { connect.will?.properties.messageExpiryInterval = self.random.pick([0, 1, 60]) }
    }

    // MARK: What a connected client sends

    /// - Parameters:
    ///   - publisher: the client's number, for its messages.
    ///   - owed: identifiers of messages that the client has and has not finished.
    mutating func packet(_ version: ProtocolVersion, of publisher: Int, owed: [UInt16]) -> Packet {
        switch self.random.below(100) {
        case 0..<32: return .publish(self.publish(version, publisher))
        case 32..<44: return .subscribe(self.subscribe(version))
        case 44..<51:
            let filters = (0...self.random.below(2)).map { _ in self.random.pick(Self.filters) }
            return .unsubscribe(Unsubscribe(packetID: self.identifier(), filters: filters))
        case 51..<84: return .ack(self.ack(version, owed: owed))
        case 84..<92: return .pingReq
        case 92..<95: return .disconnect(self.disconnect(version))
        case 95: return .connect(self.connect())
        case 96 where version == .v5:
            var auth = Auth(reason: self.random.pick([.reAuthenticate, .continueAuthentication]))
            auth.properties.authenticationMethod = "none"
            return .auth(auth)
        // What only a server sends.
        case 97: return .pingResp
        case 98: return .subAck(SubAck(packetID: self.identifier(), reasons: [.success]))
        default: return .connAck(ConnAck(sessionPresent: false, reason: .success))
        }
    }

    /// Messages one after another on one topic, whose order a receiver can see.
    mutating func burst(of publisher: Int) -> [Packet] {
        let topic = self.random.pick(["$x", "$x", "$x/y"])
        let qos = self.qos()
        return (0..<(2 + self.random.below(6))).map { _ in
            self.sequence += 1
            let mark = FuzzMark(publisher: UInt32(publisher), sequence: self.sequence, qos: qos)
            return .publish(
                Publish(
                    topic: topic,
                    payload: mark.payload(size: self.random.pick([20, 20, 300])),
                    qos: qos,
                    packetID: qos == .atMostOnce ? 0 : self.identifier()
                )
            )
        }
    }

    private mutating func publish(_ version: ProtocolVersion, _ publisher: Int) -> Publish {
        let qos = self.qos()
        self.sequence += 1
        let mark = FuzzMark(publisher: UInt32(publisher), sequence: self.sequence, qos: qos)
        var publish = Publish(
            topic: self.random.pick(Self.topics),
            payload: mark.payload(size: self.random.pick(Self.sizes)),
            qos: qos,
            retain: self.random.chance(20),
            dup: qos != .atMostOnce && self.random.chance(20),
            packetID: qos == .atMostOnce ? 0 : self.identifier()
        )
        guard version == .v5 else { return publish }
        if self.random.chance(15) { publish.properties.topicAlias = self.random.pick([1, 2, 3, 5, 10, 11, .max]) }
        if publish.properties.topicAlias != nil, self.random.chance(50) { publish.topic = "" }
        if self.random.chance(20) { publish.properties.messageExpiryInterval = self.random.pick([0, 1, 60, .max]) }
        if self.random.chance(10) { publish.properties.payloadFormatIndicator = 1 }
        if self.random.chance(10) { publish.properties.responseTopic = self.random.pick(Self.topics) }
        if self.random.chance(10) {
            publish.properties.userProperties = [UserProperty("k", "v"), UserProperty("k", "w")]
        }
        return publish
    }

    private mutating func subscribe(_ version: ProtocolVersion) -> Subscribe {
        var subscribe = Subscribe(packetID: self.identifier(), subscriptions: [])
        for _ in 0...self.random.below(3) {
            let filter = self.random.pick(Self.filters)
            var subscription = Subscription(filter: filter, maximumQoS: self.qos())
            if version == .v5 {
                subscription.noLocal = !filter.hasPrefix("$share/") && self.random.chance(20)
                subscription.retainAsPublished = self.random.chance(30)
                subscription.retainHandling = self.random.pick([.send, .sendIfNew, .doNotSend])
            }
            subscribe.subscriptions.append(subscription)
        }
        if version == .v5, self.random.chance(20) {
            subscribe.properties.subscriptionIdentifiers = [self.random.pick([1, 2, 128, 268_435_455])]
        }
        return subscribe
    }

    private mutating func ack(_ version: ProtocolVersion, owed: [UInt16]) -> Ack {
        let kind = self.random.pick([AckKind.pubAck, .pubAck, .pubRec, .pubRec, .pubComp, .pubComp, .pubRel])
        let isOwed = kind != .pubRel && !owed.isEmpty && self.random.chance(85)
        let id = isOwed ? self.random.pick(owed) : self.identifier()
        var reason = ReasonCode.success
        if version == .v5, self.random.chance(10) {
            switch kind {
            case .pubAck, .pubRec:
                reason = self.random.pick([.unspecifiedError, .quotaExceeded, .noMatchingSubscribers])
            case .pubRel, .pubComp: reason = .packetIdentifierNotFound
            }
        }
        return Ack(kind, packetID: id, reason: reason)
    }

    private mutating func disconnect(_ version: ProtocolVersion) -> Disconnect {
        guard version == .v5 else { return Disconnect() }
        var disconnect = Disconnect(reason: self.random.pick([.success, .success, .disconnectWithWillMessage]))
        if self.random.chance(40) { disconnect.properties.sessionExpiryInterval = self.random.pick([0, 1, 60, .max]) }
        return disconnect
    }

    // MARK: Damage

    /// Changes some bytes; half the time the length is made true again, so that the damage reaches the inner fields.
    mutating func damage(_ bytes: inout [UInt8]) {
        for _ in 0...self.random.below(3) {
            guard !bytes.isEmpty else { break }
            let index = self.random.below(bytes.count)
            switch self.random.below(6) {
            case 0: bytes[index] ^= 1 << UInt8(self.random.below(8))
            case 1: bytes[index] = UInt8(self.random.below(256))
            case 2: bytes[index] = self.random.pick([0, 1, 0x7F, 0x80, 0xFF, 0x23, 0x2B, 0x2F])
            case 3: bytes.remove(at: index)
            case 4: bytes.insert(UInt8(self.random.below(256)), at: index)
            default: bytes.removeSubrange(index...)
            }
        }
        if bytes.count >= 2, bytes.count < 130, self.random.chance(50) { bytes[1] = UInt8(bytes.count - 2) }
    }

    // MARK: Values

    private mutating func qos() -> QoS { self.random.pick([.atMostOnce, .atLeastOnce, .exactlyOnce]) }

    private mutating func identifier() -> UInt16 {
        self.random.chance(95) ? UInt16(1 + self.random.below(12)) : self.random.pick([255, 256, .max])
    }
}
