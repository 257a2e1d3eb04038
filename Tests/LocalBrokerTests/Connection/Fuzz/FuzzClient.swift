import NIOCore
import NIOEmbedded
import Protocol

@testable import LocalBroker

/// One connection of the fuzzer, and what it knows of it from the bytes that went each way.
final class FuzzClient {
    /// What the broker owes an answer for.
    enum Request: Hashable {
        case ping
        case ack(AckKind, UInt16)
        case subscribe(UInt16, count: Int)
        case unsubscribe(UInt16, count: Int)
    }

    /// Where a QoS 1 or 2 message of the broker stands.
    enum Owed {
        case ack
        case received
        case complete
    }

    let number: Int
    let name: String
    let channel: EmbeddedChannel
    let transport = FuzzTransport()
    let connection: Connection
    var tally = FuzzTally()
    /// What the broker has said, a line each, where it is asked for.
    var heard: [String] = []
    var isTelling = false
    /// The first rule that was broken.
    private(set) var brokenRule: String?

    private(set) var version = ProtocolVersion.v311
    private var connect: Connect?
    private(set) var isAccepted = false
    /// The broker has refused the client or said goodbye: nothing may follow.
    private var isOver = false
    /// What was sent leaves the broker no choice but to end the connection.
    private(set) var mustEnd = false
    private var wasEnded = false
    private var isResumed = false
    private(set) var owed: [UInt16: Owed] = [:]
    private var expected: [Request: Int] = [:]
    /// Acknowledged in this step before the client has seen the message: whether the broker had sent it is not known.
    private var guessed: Set<UInt16> = []
    /// The topic of each alias that the broker has given.
    private var aliases: [UInt16: String] = [:]
    private var order = FuzzOrder()
    /// Sent, and not yet a whole packet.
    private var incomplete: [UInt8] = []
    /// Held back while the broker does not read.
    private var pending: [UInt8] = []
    private let packetSizeMax: Int

    init(
        number: Int,
        name: String,
        loop: EmbeddedEventLoop,
        connection: Connection,
        packetSizeMax: Int
    ) throws {
        self.number = number
        self.name = name
        self.channel = EmbeddedChannel(loop: loop)
        self.connection = connection
        self.packetSizeMax = packetSizeMax
        self.channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1883), promise: nil)
        try self.channel.pipeline.syncOperations.addHandlers([self.transport, connection])
    }

    /// Whether the broker still listens to it.
    var isOpen: Bool { self.connection.isOpen }
    var isOnline: Bool { self.isAccepted && self.isOpen && !self.mustEnd }

    private func breaks(_ rule: String) {
        if self.brokenRule == nil { self.brokenRule = "\(self.name): \(rule)" }
    }

    // MARK: Sending

    func send(_ bytes: [UInt8]) {
        self.pending += bytes
        self.deliver()
    }

    /// Gives the broker what it is ready to read.
    func deliver() {
        guard !self.pending.isEmpty, self.channel.isActive, self.isRead else { return }
        let bytes = self.pending
        self.pending = []
        if self.isOpen { self.observe(sent: bytes) }
        self.channel.pipeline.syncOperations.fireChannelRead(NIOAny(ByteBuffer(bytes: bytes)))
        self.channel.pipeline.syncOperations.fireChannelReadComplete()
    }

    private var isRead: Bool {
        let option = self.channel.options.last { $0.option is ChannelOptions.Types.AutoReadOption }
        return option?.value as? Bool ?? true
    }

    func setWritable(_ isWritable: Bool) {
        guard self.channel.isActive else { return }
        self.channel.isWritable = isWritable
        self.channel.pipeline.syncOperations.fireChannelWritabilityChanged()
    }

    /// The network is gone.
    func breakOff() {
        self.channel.close(promise: nil)
    }

    /// Follows what a broker must make of the bytes, packet by packet, up to the one that ends the connection.
    private func observe(sent bytes: [UInt8]) {
        self.incomplete += bytes
        var at = 0
        self.incomplete.withUnsafeBytes { bytes in
            let span = bytes.bytes
            do throws(ProtocolError) {
                while !self.mustEnd,
                    let frame = try FrameScanner.next(in: span, from: at, maximumPacketSize: self.packetSizeMax)
                {
                    if self.connect == nil { self.version = Connect.version(frame, in: span) ?? .v311 }
                    self.observe(sent: try PacketDecoder.decode(frame, in: span, version: self.version))
                    at = frame.end
                }
            } catch {
                self.mustEnd = true
            }
        }
        self.incomplete.removeFirst(at)
    }

    private func observe(sent packet: Packet) {
        if case .connect(let connect) = packet, self.connect == nil {
            self.connect = connect
            return
        }
        guard self.connect != nil else {
            self.mustEnd = true
            return
        }
        switch packet {
        case .publish(let publish) where publish.qos == .atLeastOnce: self.expect(.ack(.pubAck, publish.packetID))
        case .publish(let publish) where publish.qos == .exactlyOnce: self.expect(.ack(.pubRec, publish.packetID))
        case .publish: break
        case .ack(let ack): self.observe(sent: ack)
        case .subscribe(let packet): self.expect(.subscribe(packet.packetID, count: packet.subscriptions.count))
        case .unsubscribe(let packet): self.expect(.unsubscribe(packet.packetID, count: packet.filters.count))
        case .pingReq: self.expect(.ping)
        // No method was agreed on, so there is nothing to authenticate.
        case .connect, .auth, .disconnect: self.mustEnd = true
        case .connAck, .subAck, .unsubAck, .pingResp: preconditionFailure("the decoder takes no packets of servers")
        }
    }

    private func observe(sent ack: Ack) {
        if self.owed[ack.packetID] == nil { self.guessed.insert(ack.packetID) }
        switch (ack.kind, self.owed[ack.packetID]) {
        case (.pubRel, _): self.expect(.ack(.pubComp, ack.packetID))
        case (.pubAck, .ack), (.pubComp, .complete): self.owed[ack.packetID] = nil
        case (.pubRec, .received) where ack.reason.isError: self.owed[ack.packetID] = nil
        case (.pubRec, .received):
            self.owed[ack.packetID] = .complete
            self.expect(.ack(.pubRel, ack.packetID))
        case (.pubRec, _) where !ack.reason.isError: self.expect(.ack(.pubRel, ack.packetID))
        case (.pubAck, _), (.pubRec, _), (.pubComp, _): break
        }
    }

    private func expect(_ request: Request) {
        self.expected[request, default: 0] += 1
    }

    // MARK: Receiving

    /// Reads what the broker has written since the last time.
    func receive() {
        let bytes = self.transport.written
        guard !bytes.isEmpty else { return }
        self.transport.written = []
        if self.wasEnded { self.breaks("bytes after the end of the connection: \(bytes)") }
        bytes.withUnsafeBytes { raw in
            let span = raw.bytes
            var at = 0
            do throws(ProtocolError) {
                while let frame = try FrameScanner.next(in: span, from: at, maximumPacketSize: .max) {
                    let packet = try PacketDecoder.decode(frame, in: span, version: self.decodes(frame), from: .server)
                    self.observe(received: packet, size: frame.end - frame.start)
                    at = frame.end
                }
                if at < raw.count { self.breaks("a packet that is not whole, after \(at) of \(bytes)") }
            } catch {
                self.breaks("what it sent is no packet: \(error), in \(bytes)")
            }
        }
    }

    /// A client whose version is not known or not served is answered in the form of MQTT 3.1.1. [MQTT3-3.1.2-2]
    private func decodes(_ frame: Frame) -> ProtocolVersion {
        !self.isAccepted && frame.end - frame.bodyStart == 2 && self.version == .v5 ? .v311 : self.version
    }

    private func observe(received packet: Packet, size: Int) {
        if self.isTelling { self.heard.append("    \(self.name) gets \(Self.brief(packet))") }
        if self.isOver { self.breaks("\(packet.type) after the last packet [MQTT-3.14.4-1]") }
        if let limit = self.connect?.properties.maximumPacketSize, size > limit {
            self.breaks("\(packet.type) of \(size) bytes for a client that takes \(limit) [MQTT-3.1.2-24]")
        }
        if case .connAck(let answer) = packet {
            self.observe(received: answer)
            return
        }
        if !self.isAccepted { self.breaks("\(packet.type) before CONNACK [MQTT-3.2.0-1]") }
        self.tally.answers += 1
        switch packet {
        case .publish(let publish): self.observe(received: publish)
        case .ack(let ack): self.observe(received: ack)
        case .subAck(let packet): self.settle(.subscribe(packet.packetID, count: packet.reasons.count))
        case .unsubAck(let packet) where self.version == .v5:
            self.settle(.unsubscribe(packet.packetID, count: packet.reasons.count))
        case .unsubAck(let packet):
            let found = self.expected.keys.first {
                if case .unsubscribe(packet.packetID, _) = $0 { true } else { false }
            }
            self.settle(found ?? .unsubscribe(packet.packetID, count: 0))
        case .pingResp: self.settle(.ping)
        case .disconnect(let disconnect):
            if !disconnect.reason.isError { self.breaks("DISCONNECT of a server with \(disconnect.reason)") }
            self.isOver = true
        case .connAck, .connect, .subscribe, .unsubscribe, .pingReq, .auth:
            self.breaks("\(packet.type) was not to be sent")
        }
    }

    private static func brief(_ packet: Packet) -> String {
        switch packet {
        case .connAck(let answer): "connAck \(answer.reason), session \(answer.sessionPresent)"
        case .publish(let it): "publish \(it.topic) QoS \(it.qos) id \(it.packetID)\(it.dup ? " again" : "")"
        case .ack(let ack): "\(ack.kind) \(ack.packetID) \(ack.reason)"
        case .disconnect(let disconnect): "disconnect \(disconnect.reason)"
        default: "\(packet.type)"
        }
    }

    private func observe(received answer: ConnAck) {
        if self.isAccepted { self.breaks("a second CONNACK [MQTT-3.2.0-2]") }
        guard answer.reason == .success else {
            self.isOver = true
            self.expected = [:]
            return
        }
        guard let connect else {
            self.breaks("CONNACK of success without CONNECT")
            return
        }
        if connect.cleanStart, answer.sessionPresent { self.breaks("a session after a clean start [MQTT-3.2.2-2]") }
        if connect.version == .v5, connect.clientIdentifier.isEmpty, answer.properties.assignedClientIdentifier == nil {
            self.breaks("no assigned client identifier [MQTT-3.2.2-16]")
        }
        self.isAccepted = true
        // MQTT 3.1 cannot say it.
        self.isResumed = answer.sessionPresent || (connect.version == .v31 && !connect.cleanStart)
        self.tally.connectionsAccepted += 1
        if answer.sessionPresent { self.tally.sessionsResumed += 1 }
    }

    private func observe(received publish: Publish) {
        self.tally.messagesReceived += 1
        let topic = self.topic(of: publish)
        let compared = self.order.compared
        if !self.order.isRight(publish, topic) { self.breaks("a message on \(topic) is out of order [MQTT-4.6.0-5]") }
        self.tally.ordered += self.order.compared - compared
        guard publish.qos != .atMostOnce else { return }
        if publish.dup {
            self.tally.messagesResent += 1
            if !self.isResumed { self.breaks("DUP in a new session [MQTT-3.3.1-1]") }
        }
        if self.owed[publish.packetID] != nil {
            self.breaks("packet identifier \(publish.packetID) is in use [MQTT-2.2.1-4]")
        }
        if self.guessed.contains(publish.packetID) { return }
        self.owed[publish.packetID] = publish.qos == .atLeastOnce ? .ack : .received
        let window = Int(self.connect?.properties.receiveMaximum ?? 65_535)
        if self.owed.count > window { self.breaks("\(self.owed.count) messages in flight of \(window) [MQTT-3.3.4-9]") }
    }

    private func topic(of publish: Publish) -> String {
        guard let alias = publish.properties.topicAlias else { return publish.topic }
        let limit = self.connect?.properties.topicAliasMaximum ?? 0
        if alias > limit { self.breaks("topic alias \(alias) beyond \(limit) [MQTT-3.1.2-26]") }
        if !publish.topic.isEmpty { self.aliases[alias] = publish.topic }
        guard let topic = self.aliases[alias] else {
            self.breaks("topic alias \(alias) has no topic [MQTT-3.3.2-7]")
            return ""
        }
        return topic
    }

    private func observe(received ack: Ack) {
        if ack.kind == .pubRel, self.expected[.ack(.pubRel, ack.packetID)] == nil, self.isResumed {
            // The release of a message that an earlier connection received. [MQTT-4.4.0-1]
            if self.owed[ack.packetID] != nil { self.breaks("PUBREL \(ack.packetID) again on one connection") }
            self.owed[ack.packetID] = .complete
            return
        }
        self.settle(.ack(ack.kind, ack.packetID))
    }

    private func settle(_ request: Request) {
        guard let count = self.expected[request] else {
            self.breaks("an answer to what was not asked: \(request)")
            return
        }
        self.expected[request] = count == 1 ? nil : count - 1
    }

    // MARK: After each step

    func check(backlogMax: Int) {
        self.receive()
        self.guessed = []
        if self.connection.backlog > backlogMax { self.breaks("\(self.connection.backlog) bytes wait for it") }
        guard self.isOpen else {
            if self.connection.session != nil { self.breaks("a session at a connection that is closed") }
            if self.channel.isActive, !self.transport.isHalfClosed { self.breaks("closed, and its channel is open") }
            if !self.wasEnded, self.mustEnd || self.isOver { self.tally.refused += 1 }
            self.wasEnded = true
            return
        }
        if self.connection.isStalled { return }
        if self.mustEnd { self.breaks("it goes on after what must end it [MQTT-4.13.1-1]") }
        if self.isAccepted, self.channel.isWritable, !self.expected.isEmpty {
            self.breaks("no answer to \(self.expected)")
        }
    }
}
