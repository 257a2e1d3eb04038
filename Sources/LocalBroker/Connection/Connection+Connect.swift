import Logging
import NIOCore
import Protocol

/// CONNECT and its answer.
extension Connection {
    func onConnect(_ connect: Connect) throws(ProtocolError) {
        self.version = connect.version
        self.shard.statistics.connectsReceived &+= 1
        self.core.onConnectTaken()
        self.inboundPacketSizeMax = self.shard.shared.configuration.maximumPacketSize
        let configuration = self.shard.shared.configuration
        if let limit = self.limitReached(by: connect) {
            self.refuse(limit)
            return
        }
        let requested = self.requestedExpiry(connect)
        let expiry = min(requested, configuration.maximumSessionExpiry)
        let isAnonymous = connect.clientIdentifier.isEmpty
        let clientID = isAnonymous ? self.shard.shared.makeClientID() : connect.clientIdentifier
        let receiveMaximum = connect.properties.receiveMaximum.map(Int.init) ?? 65_535
        let keepAlive = self.grantedKeepAlive(connect)
        self.connect = AcceptedConnect(
            keepAlive: keepAlive,
            isKeepAliveOurs: keepAlive != connect.keepAlive,
            window: min(receiveMaximum, configuration.maximumInflight),
            assignedClientID: isAnonymous ? clientID : nil,
            requestedSessionExpiry: requested,
            grantedSessionExpiry: expiry,
            wantsProblemInformation: connect.properties.requestProblemInformation ?? true,
            wantsResponseInformation: connect.properties.requestResponseInformation ?? false
        )
        let aliases = min(connect.properties.topicAliasMaximum ?? 0, configuration.outboundTopicAliasMaximum)
        if aliases > 0 {
            self.outboundAliases = OutboundAliases(count: Int(aliases))
            self.usesAliases = true
        }
        self.maximumPacketSize = connect.properties.maximumPacketSize.map(Int.init) ?? .max
        self.maximumPacketSize = min(self.maximumPacketSize, FrameScanner.packetSizeMax)
        if let topic = connect.will?.topic, topic == "$SYS" || topic.hasPrefix("$SYS/") {
            self.refuse(.notAuthorized, "a client was refused: the topic of its will belongs to the broker")
            return
        }
        if let will = connect.will { self.will = try StoredWill(will) }
        let login = Login(
            request: AuthenticationRequest(
                clientID: clientID,
                userName: connect.userName,
                password: connect.password,
                version: connect.version,
                remoteAddress: self.remoteAddress,
                isBehindPublicProxy: self.isBehindPublicProxy,
                listener: self.listener.configuration.name,
                certificateName: self.peerCommonName,
                authenticationMethod: connect.properties.authenticationMethod,
                isUserNameFromCertificate: self.listener.configuration.tls?.userNameFromCertificate ?? false
            ),
            session: Shard.SessionRequest(
                clientID: ClientID(text: clientID),
                isCleanStart: connect.cleanStart,
                expirySeconds: expiry
            ),
            will: connect.will
        )
        self.authenticate(
            login,
            method: connect.properties.authenticationMethod,
            data: connect.properties.authenticationData
        )
    }

    /// How long the client wants its session kept. Before MQTT 5 a session is kept for ever or not at all.
    private func requestedExpiry(_ connect: Connect) -> UInt32 {
        if connect.version == .v5 { return connect.properties.sessionExpiryInterval ?? 0 }
        return connect.cleanStart ? 0 : .max
    }

    /// A client that asks for more than is granted, or to be kept without any sign of life, is told what holds.
    /// [MQTT-3.1.2-21], [MQTT-3.2.2-21]
    private func grantedKeepAlive(_ connect: Connect) -> UInt16 {
        guard connect.version == .v5, let most = self.shard.shared.configuration.maximumKeepAlive else {
            return connect.keepAlive
        }
        return connect.keepAlive == 0 ? most : min(connect.keepAlive, most)
    }

    /// Refuses a client whose CONNECT was right, and says why in the log.
    func refuse(_ reason: ReasonCode, _ explanation: String) {
        self.shard.statistics.connectionsRefused += 1
        self.log(.warning, explanation)
        self.append { ShortPackets.writeConnAck(reason, sessionPresent: false, version: self.version, into: &$0) }
        self.closeAfterFlush()
    }

    /// The CONNECT itself was wrong. The client is told where its version can be known. [MQTT-3.1.4-1]
    func refuseConnect(_ error: ProtocolError) {
        self.shard.statistics.connectionsRefused += 1
        // A client that speaks another version cannot know our codes; MQTT 3.1.1's one for that is understood by all.
        // [MQTT3-3.1.2-2]
        let version: ProtocolVersion = error.reason == .unsupportedProtocolVersion ? .v311 : self.version
        if error.reason == .unsupportedProtocolVersion || error.reason == .clientIdentifierNotValid
            || version == .v5
        {
            self.append {
                ShortPackets.writeConnAck(error.reason, sessionPresent: false, version: version, into: &$0)
            }
        }
        self.closeAfterFlush()
    }

    func sendConnAck(isPresent: Bool) {
        guard self.version == .v5 else {
            self.append {
                ShortPackets.writeConnAck(.success, sessionPresent: isPresent, version: self.version, into: &$0)
            }
            return
        }
        let configuration = self.shard.shared.configuration
        var answer = ConnAck(sessionPresent: isPresent, reason: .success)
        answer.properties.receiveMaximum = configuration.receiveMaximum
        answer.properties.maximumPacketSize = UInt32(clamping: configuration.maximumPacketSize)
        answer.properties.topicAliasMaximum = configuration.topicAliasMaximum
        if self.connect.isKeepAliveOurs { answer.properties.serverKeepAlive = self.connect.keepAlive }
        if self.connect.wantsResponseInformation, let information = configuration.responseInformation {
            let information = information.replacing("%c", with: self.clientID)
            // With a long client identifier it may be more than a property can hold.
            if information.utf8.count <= UInt16.max { answer.properties.responseInformation = information }
        }
        answer.properties.assignedClientIdentifier = self.connect.assignedClientID
        answer.properties.authenticationMethod = self.clientAccess?.method
        answer.properties.authenticationData = self.login?.finalData
        if self.connect.grantedSessionExpiry != self.connect.requestedSessionExpiry {
            answer.properties.sessionExpiryInterval = self.connect.grantedSessionExpiry
        }
        guard self.appendIfTaken({ self.encode(.connAck(answer), into: &$0) }) else {
            // It must hear before all else that it was not accepted, so this is no DISCONNECT.
            self.shard.statistics.connectionsRefused += 1
            self.log(.info, "client takes no packets as large as CONNACK")
            self.will = nil
            _ = self.appendIfTaken {
                ShortPackets.writeConnAck(.packetTooLarge, sessionPresent: false, version: .v5, into: &$0)
            }
            self.closeAfterFlush()
            return
        }
        self.shard.logger.debug("client connected", metadata: self.metadata)
    }
}

/// What remains of a CONNECT once it was accepted.
struct AcceptedConnect {
    var keepAlive: UInt16 = 0
    /// The keep alive is not what the client asked for.
    var isKeepAliveOurs = false
    /// QoS 1 and 2 messages sent to the client at a time.
    var window = 0
    var assignedClientID: String?
    var requestedSessionExpiry: UInt32 = 0
    var grantedSessionExpiry: UInt32 = 0
    /// [MQTT-3.1.2-29]
    var wantsProblemInformation = true
    var wantsResponseInformation = false
}
