import NIOCore
import Protocol

/// Makes legal packets of any kind, version and sender.
struct PacketGenerator {
    var random: SplitMix64

    init(seed: UInt64) {
        self.random = SplitMix64(seed: seed)
    }

    mutating func packet(_ version: ProtocolVersion, from sender: Sender) -> Packet {
        while true {
            guard let type = PacketType.allCases.randomElement(using: &self.random), type.isAllowed(from: sender),
                version == .v5 || type != .auth, version == .v5 || type != .disconnect || sender == .client
            else { continue }
            return self.packet(type, version, sender)
        }
    }

    private mutating func packet(_ type: PacketType, _ version: ProtocolVersion, _ sender: Sender) -> Packet {
        let packetID = UInt16.random(in: 1...UInt16.max, using: &self.random)
        switch type {
        case .connect: return .connect(self.connect(version))
        case .connAck: return .connAck(self.connAck(version))
        case .publish: return .publish(self.publish(version, sender))
        case .pubAck, .pubRec, .pubRel, .pubComp:
            return .ack(self.ack(AckKind(type) ?? .pubAck, packetID, version, sender))
        case .subscribe:
            return .subscribe(
                Subscribe(
                    packetID: packetID,
                    subscriptions: self.some(1...5) { $0.subscription(version) },
                    properties: self.properties(version) { properties, generator in
                        if generator.flip() { properties.subscriptionIdentifiers = [generator.subscriptionID()] }
                    }
                )
            )
        case .subAck:
            let reasons = self.some(1...5) { $0.reason(version == .v5 ? 0xFF : 0x80, .subAck, sender) }
            return .subAck(SubAck(packetID: packetID, reasons: reasons, properties: self.outcome(version)))
        case .unsubscribe:
            return .unsubscribe(
                Unsubscribe(
                    packetID: packetID,
                    filters: self.some(1...5) { $0.filter() },
                    properties: self.properties(version) { _, _ in }
                )
            )
        case .unsubAck:
            let reasons = version == .v5 ? self.some(1...5) { $0.reason(0xFF, .unsubAck, sender) } : []
            return .unsubAck(UnsubAck(packetID: packetID, reasons: reasons, properties: self.outcome(version)))
        case .pingReq: return .pingReq
        case .pingResp: return .pingResp
        case .disconnect: return .disconnect(self.disconnect(version, sender))
        case .auth: return .auth(self.auth(sender))
        }
    }

    // MARK: Packets

    private mutating func connect(_ version: ProtocolVersion) -> Connect {
        let userName = self.maybe { $0.text(0...20) }
        return Connect(
            version: version,
            cleanStart: version == .v311 ? true : self.flip(),
            keepAlive: self.number(),
            clientIdentifier: self.text(version == .v31 ? 1...23 : 0...40),
            will: self.maybe { generator in
                Will(
                    topic: generator.topic(),
                    payload: generator.binary(0...50),
                    qos: generator.qos(),
                    retain: generator.flip(),
                    properties: generator.properties(version) { properties, generator in
                        generator.setMessage(&properties)
                        properties.willDelayInterval = generator.maybe { $0.number() }
                    }
                )
            },
            userName: userName,
            password: version != .v5 && userName == nil ? nil : self.maybe { $0.binary(0...20) },
            properties: self.properties(version) { properties, generator in
                properties.sessionExpiryInterval = generator.maybe { $0.number() }
                properties.receiveMaximum = generator.maybe { $0.number() | 1 }
                properties.maximumPacketSize = generator.maybe { $0.number() | 1 }
                properties.topicAliasMaximum = generator.maybe { $0.number() }
                properties.requestResponseInformation = generator.maybe { $0.flip() }
                properties.requestProblemInformation = generator.maybe { $0.flip() }
                generator.setAuthentication(&properties)
            }
        )
    }

    private mutating func connAck(_ version: ProtocolVersion) -> ConnAck {
        let old: [ReasonCode] = [
            .success, .unsupportedProtocolVersion, .clientIdentifierNotValid, .serverUnavailable,
            .badUserNameOrPassword, .notAuthorized,
        ]
        let reason =
            version == .v5
            ? self.reason(0xFF, .connAck, .server) : old.randomElement(using: &self.random) ?? .success
        return ConnAck(
            sessionPresent: reason == .success && version != .v31 && self.flip(),
            reason: reason,
            properties: self.properties(version) { properties, generator in
                properties.sessionExpiryInterval = generator.maybe { $0.number() }
                properties.receiveMaximum = generator.maybe { $0.number() | 1 }
                properties.maximumQoS = generator.maybe { $0.flip() ? .atMostOnce : .atLeastOnce }
                properties.retainAvailable = generator.maybe { $0.flip() }
                properties.maximumPacketSize = generator.maybe { $0.number() | 1 }
                properties.assignedClientIdentifier = generator.maybe { $0.text(0...30) }
                properties.topicAliasMaximum = generator.maybe { $0.number() }
                properties.reasonString = generator.maybe { $0.text(0...30) }
                properties.wildcardSubscriptionAvailable = generator.maybe { $0.flip() }
                properties.subscriptionIdentifierAvailable = generator.maybe { $0.flip() }
                properties.sharedSubscriptionAvailable = generator.maybe { $0.flip() }
                properties.serverKeepAlive = generator.maybe { $0.number() }
                properties.responseInformation = generator.maybe { $0.text(0...30) }
                properties.serverReference = generator.maybe { $0.text(0...30) }
                generator.setAuthentication(&properties)
            }
        )
    }

    private mutating func publish(_ version: ProtocolVersion, _ sender: Sender) -> Publish {
        let qos = self.qos()
        let properties = self.properties(version) { properties, generator in
            generator.setMessage(&properties)
            properties.topicAlias = generator.maybe { $0.number() | 1 }
            if sender == .server {
                properties.subscriptionIdentifiers = generator.some(0...3) { $0.subscriptionID() }
            }
        }
        // Now and then a body that needs three bytes of remaining length.
        let length = self.chance(1) ? 0...20_000 : 0...200
        return Publish(
            topic: properties.topicAlias != nil && self.flip() ? "" : self.topic(),
            payload: ByteBuffer(bytes: self.binary(length)),
            qos: qos,
            retain: self.flip(),
            dup: qos != .atMostOnce && self.flip(),
            packetID: qos == .atMostOnce ? 0 : self.number() | 1,
            properties: properties
        )
    }

    private mutating func ack(
        _ kind: AckKind,
        _ packetID: UInt16,
        _ version: ProtocolVersion,
        _ sender: Sender
    ) -> Ack {
        Ack(
            kind,
            packetID: packetID,
            reason: version == .v5 ? self.reason(0xFF, kind.type, sender) : .success,
            properties: self.outcome(version)
        )
    }

    private mutating func subscription(_ version: ProtocolVersion) -> Subscription {
        var subscription = Subscription(filter: self.filter(), maximumQoS: self.qos())
        if version == .v5 {
            if self.flip() { subscription.filter = "$share/" + self.level() + "x/" + subscription.filter }
            subscription.noLocal = !subscription.filter.utf8.starts(with: "$share/".utf8) && self.flip()
            subscription.retainAsPublished = self.flip()
            subscription.retainHandling =
                Subscription.RetainHandling.allCases.randomElement(using: &self.random) ?? .send
        }
        return subscription
    }

    private mutating func disconnect(_ version: ProtocolVersion, _ sender: Sender) -> Disconnect {
        if version != .v5 { return Disconnect() }
        return Disconnect(
            reason: self.reason(0xFF, .disconnect, sender),
            properties: self.properties(version) { properties, generator in
                properties.reasonString = generator.maybe { $0.text(0...30) }
                switch sender {
                case .client: properties.sessionExpiryInterval = generator.maybe { $0.number() }
                case .server: properties.serverReference = generator.maybe { $0.text(0...30) }
                }
            }
        )
    }

    private mutating func auth(_ sender: Sender) -> Auth {
        Auth(
            reason: self.reason(0xFF, .auth, sender),
            properties: self.properties(.v5) { properties, generator in
                properties.authenticationMethod = generator.text(0...20)
                properties.authenticationData = generator.maybe { $0.binary(0...50) }
                properties.reasonString = generator.maybe { $0.text(0...30) }
            }
        )
    }

    // MARK: Properties

    private mutating func properties(
        _ version: ProtocolVersion,
        _ set: (inout Properties, inout PacketGenerator) -> Void
    ) -> Properties {
        var properties = Properties()
        if version == .v5 {
            set(&properties, &self)
            if self.flip() {
                properties.userProperties = self.some(0...4) { UserProperty($0.text(0...10), $0.text(0...40)) }
            }
        }
        return properties
    }

    private mutating func outcome(_ version: ProtocolVersion) -> Properties {
        self.properties(version) { properties, generator in
            properties.reasonString = generator.maybe { $0.text(0...30) }
        }
    }

    private mutating func setMessage(_ properties: inout Properties) {
        properties.payloadFormatIndicator = self.maybe { $0.flip() ? 1 : 0 }
        properties.messageExpiryInterval = self.maybe { $0.number() }
        properties.contentType = self.maybe { $0.text(0...20) }
        properties.responseTopic = self.maybe { $0.topic() }
        properties.correlationData = self.maybe { $0.binary(0...20) }
    }

    private mutating func setAuthentication(_ properties: inout Properties) {
        guard self.flip() else { return }
        properties.authenticationMethod = self.text(0...10)
        properties.authenticationData = self.maybe { $0.binary(0...10) }
    }

    // MARK: Values

    mutating func flip() -> Bool { Bool.random(using: &self.random) }

    /// True so many times of 256.
    mutating func chance(_ times: UInt8) -> Bool {
        let byte: UInt8 = self.number()
        return byte < times
    }

    mutating func number<T: FixedWidthInteger>() -> T { T.random(in: T.min...T.max, using: &self.random) }

    private mutating func maybe<T>(_ make: (inout PacketGenerator) -> T) -> T? {
        self.flip() ? make(&self) : nil
    }

    private mutating func some<T>(_ count: ClosedRange<Int>, _ make: (inout PacketGenerator) -> T) -> [T] {
        (0..<Int.random(in: count, using: &self.random)).map { _ in make(&self) }
    }

    private mutating func qos() -> QoS { QoS.allCases.randomElement(using: &self.random) ?? .atMostOnce }

    private mutating func subscriptionID() -> UInt32 { UInt32.random(in: 1...268_435_455, using: &self.random) }

    private mutating func binary(_ count: ClosedRange<Int>) -> [UInt8] { self.some(count) { $0.number() } }

    private mutating func reason(_ max: UInt8, _ type: PacketType, _ sender: Sender) -> ReasonCode {
        let codes = (0...max).map(ReasonCode.init).filter { $0.isAllowed(in: type, from: sender) }
        return codes.randomElement(using: &self.random) ?? .success
    }

    /// So many characters, mostly ASCII, never U+0000.
    private mutating func text(_ count: ClosedRange<Int>) -> String {
        var text = String.UnicodeScalarView()
        for _ in 0..<Int.random(in: count, using: &self.random) {
            let max: UInt32 = self.chance(230) ? 0x7E : 0x10_FFFF
            text.append(Unicode.Scalar(UInt32.random(in: 1...max, using: &self.random)) ?? "\u{FEFF}")
        }
        return String(text)
    }

    private mutating func level() -> String {
        String(self.text(0...8).unicodeScalars.filter { !"+#/".unicodeScalars.contains($0) })
    }

    private mutating func topic() -> String {
        "t" + self.some(1...4) { $0.level() }.joined(separator: "/")
    }

    private mutating func filter() -> String {
        var levels = self.some(1...4) { $0.flip() ? "+" : "l" + $0.level() }
        if self.flip() { levels.append("#") }
        return levels.joined(separator: "/")
    }
}
