import NIOCore
import Protocol

@testable import LocalBroker

/// An MQTT 5 client that keeps what a client must keep: what it has not had acknowledged, and which QoS 2 messages it has
/// begun to receive.
final class VirtualClient {
    /// A message of this client on its way to the broker.
    struct Outgoing {
        var message: Int
        var publish: Publish
        /// PUBREC has come.
        var isReceived = false
    }

    let index: Int
    let name: String
    let clientID: ClientID
    /// Its session outlives its connections.
    let isKept: Bool
    /// It comes back to the node that has stored its session, however long that is away.
    let isPatient: Bool
    /// It does not connect before.
    var awayUntil: UInt64 = 0
    /// How long its wills wait; nil if it has none.
    var willDelaySeconds: UInt32?
    private unowned let simulation: ClusterSimulation
    private let loop: VirtualLoop
    private var channel: VirtualChannel?
    /// Counts connections: what belongs to an earlier one is not heard.
    private(set) var connection = 0
    private(set) var node: VirtualNode?
    private(set) var isOnline = false
    private var outgoing: [Outgoing] = []
    private var unreleased: Set<UInt16> = []
    private var lastPacketID: UInt16 = 0
    private var subscribing: [UInt16: [Int]] = [:]

    init(index: Int, name: String? = nil, isKept: Bool, simulation: ClusterSimulation) {
        self.index = index
        self.name = name ?? "c\(index)"
        self.clientID = ClientID(text: self.name)
        self.isKept = isKept
        self.isPatient = simulation.chance(80)
        self.simulation = simulation
        self.loop = VirtualLoop(simulation.time)
    }

    var hasUnacknowledged: Bool { !self.outgoing.isEmpty }
    var unacknowledgedCount: Int { self.outgoing.count }

    // MARK: Connecting

    /// Connects to a node, whatever becomes of the connection there was.
    func connect(to node: VirtualNode, closingFirst: Bool) throws {
        let old = self.channel
        if closingFirst { self.closeSocket() }
        self.connection += 1
        self.isOnline = false
        self.channel = nil
        self.subscribing = [:]
        self.node = node
        let connection = self.connection
        self.simulation.onConnecting(self, to: node)
        let opened = self.simulation.network.connect(
            from: .client(self.index),
            address: try SocketAddress(ipAddress: "127.0.1.\(self.index + 1)", port: 1024 + connection),
            loop: self.loop,
            to: try node.clientAddress,
            timeout: .seconds(2)
        ) { channel in
            let handler = Handler(client: self, connection: connection)
            try channel.pipeline.syncOperations.addHandler(handler)
        }
        opened.assumeIsolated().whenComplete { result in
            // The old connection goes when the new one is there, or stays.
            if !closingFirst, connection % 2 == 0 { old?.close0(error: ChannelError.eof, mode: .all, promise: nil) }
            guard connection == self.connection else { return }
            switch result {
            case .success: break
            case .failure(let error):
                self.simulation.tell("\(self.name) cannot connect to \(node.name): \(error)")
                self.simulation.onDisconnected(self)
            }
        }
        // No answer for long: the client gives up.
        self.simulation.time.plan(inMilliseconds: 6_000) {
            guard connection == self.connection, !self.isOnline else { return }
            self.simulation.tell("\(self.name) has no answer from \(node.name)")
            self.drop()
        }
    }

    /// Leaves as one should: the node ends the connection when it has heard.
    func sayGoodbye() {
        guard self.isOnline else { return }
        self.simulation.tell("\(self.name) says goodbye")
        self.simulation.ledger.endWill(of: self.index, at: self.simulation.time.now, .leaving)
        self.isOnline = false
        self.send(.disconnect(Disconnect()))
    }

    /// Breaks off, and tells nobody.
    func drop() {
        self.simulation.ledger.endWill(of: self.index, at: self.simulation.time.now, .dropped)
        let wasThere = self.channel != nil || self.node != nil
        self.closeSocket()
        self.connection += 1
        self.isOnline = false
        self.node = nil
        if wasThere { self.simulation.onDisconnected(self) }
    }

    private func closeSocket() {
        guard let channel = self.channel else { return }
        self.channel = nil
        channel.close0(error: ChannelError.eof, mode: .all, promise: nil)
    }

    fileprivate func onActive(_ channel: VirtualChannel) {
        self.channel = channel
        var connect = Connect(version: .v5, cleanStart: !self.isKept, clientIdentifier: self.name)
        if self.isKept { connect.properties.sessionExpiryInterval = 3_600 }
        if let delay = self.willDelaySeconds {
            let number = self.simulation.makeWill(of: self, delaySeconds: delay)
            var will = Will(
                topic: self.simulation.ledger.messages[number].topic,
                payload: Array("\(number)".utf8),
                qos: .exactlyOnce,
                retain: false
            )
            will.properties.willDelayInterval = delay
            connect.will = will
        }
        self.send(.connect(connect))
    }

    fileprivate func onInactive() {
        guard self.node != nil else { return }
        // By the node, which ends it when it has heard a goodbye.
        if self.channel != nil { self.simulation.ledger.onGoodbyeHeard(self.index) }
        self.simulation.ledger.endWill(of: self.index, at: self.simulation.time.now, .replaced)
        self.channel = nil
        self.isOnline = false
        self.node = nil
        self.connection += 1
        self.simulation.tell("\(self.name) is disconnected")
        self.simulation.onDisconnected(self)
    }

    // MARK: Sending

    private func send(_ packet: Packet) {
        guard let channel = self.channel else { return }
        var buffer = ByteBuffer()
        do {
            try packet.encode(into: &buffer, version: .v5)
        } catch {
            return self.simulation.breaks("\(self.name) made what is no packet: \(error)")
        }
        channel.write0(NIOAny(buffer), promise: nil)
        channel.flush0()
    }

    private func nextPacketID() -> UInt16 {
        repeat {
            self.lastPacketID = self.lastPacketID == .max ? 1 : self.lastPacketID + 1
        } while self.outgoing
            .contains { $0.publish.packetID == self.lastPacketID } || self.subscribing[self.lastPacketID] != nil
        return self.lastPacketID
    }

    func publish(_ number: Int, topic: String, payload: String, qos: QoS, retain: Bool) {
        let publish = Publish(
            topic: topic,
            payload: ByteBuffer(string: payload),
            qos: qos,
            retain: retain,
            packetID: qos == .atMostOnce ? 0 : self.nextPacketID()
        )
        if qos != .atMostOnce { self.outgoing.append(Outgoing(message: number, publish: publish)) }
        self.send(.publish(publish))
    }

    /// - Parameter numbers: of the simulation's subscriptions, one for each filter.
    func subscribe(_ subscriptions: [(filter: String, qos: QoS)], numbers: [Int]) {
        let packetID = self.nextPacketID()
        self.subscribing[packetID] = numbers
        let wanted = subscriptions.map { Subscription(filter: $0.filter, maximumQoS: $0.qos) }
        self.send(.subscribe(Subscribe(packetID: packetID, subscriptions: wanted)))
    }

    // MARK: Receiving

    fileprivate func onPacket(_ packet: Packet) {
        switch packet {
        case .connAck(let answer): self.onAnswer(answer)
        case .publish(let publish): self.onPublish(publish)
        case .ack(let ack): self.onAck(ack)
        case .subAck(let answer):
            guard let numbers = self.subscribing.removeValue(forKey: answer.packetID) else { return }
            guard answer.reasons.allSatisfy({ !$0.isError }) else {
                return self.simulation.breaks("\(self.name) may not subscribe: \(answer.reasons)")
            }
            self.simulation.onSubscribed(self, numbers)
        case .disconnect(let packet):
            self.simulation.tell("\(self.name) is told goodbye: \(packet.reason)")
            // Both ends close; who says goodbye waits for that.
            self.closeSocket()
            self.onInactive()
        default: break
        }
    }

    private func onAnswer(_ answer: ConnAck) {
        guard answer.reason == .success else {
            self.simulation.tell("\(self.name) is refused: \(answer.reason)")
            return self.drop()
        }
        self.isOnline = true
        let lost = answer.sessionPresent ? [] : self.outgoing.map(\.message)
        if !answer.sessionPresent {
            self.unreleased = []
            self.outgoing = []
        }
        self.simulation.onConnected(self, isPresent: answer.sessionPresent, forgotten: lost)
        for item in self.outgoing {
            if item.isReceived {
                self.send(.ack(Ack(.pubRel, packetID: item.publish.packetID)))
            } else {
                var publish = item.publish
                publish.dup = true
                self.simulation.ledger.messages[item.message].isResent = true
                self.send(.publish(publish))
            }
        }
    }

    private func onPublish(_ publish: Publish) {
        var isNew = true
        if publish.qos == .exactlyOnce { isNew = self.unreleased.insert(publish.packetID).inserted }
        if isNew { self.simulation.onReceived(self, publish) }
        switch publish.qos {
        case .atMostOnce: break
        case .atLeastOnce: self.send(.ack(Ack(.pubAck, packetID: publish.packetID)))
        case .exactlyOnce: self.send(.ack(Ack(.pubRec, packetID: publish.packetID)))
        }
    }

    private func onAck(_ ack: Ack) {
        switch ack.kind {
        case .pubRel:
            self.unreleased.remove(ack.packetID)
            self.send(.ack(Ack(.pubComp, packetID: ack.packetID)))
        case .pubAck, .pubRec:
            guard let index = self.outgoing.firstIndex(where: { $0.publish.packetID == ack.packetID }) else { return }
            guard !ack.reason.isError else {
                return self.simulation.breaks("\(self.name) may not publish: \(ack.reason)")
            }
            if !self.outgoing[index].isReceived { self.simulation.onAcknowledged(self.outgoing[index].message) }
            if ack.kind == .pubAck {
                self.outgoing.remove(at: index)
            } else {
                self.outgoing[index].isReceived = true
                self.send(.ack(Ack(.pubRel, packetID: ack.packetID)))
            }
        case .pubComp:
            self.outgoing.removeAll { $0.publish.packetID == ack.packetID }
        }
    }

    /// Reads packets off one connection.
    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let client: VirtualClient
        private let connection: Int
        private var bytes: [UInt8] = []

        init(client: VirtualClient, connection: Int) {
            self.client = client
            self.connection = connection
        }

        private var isPresent: Bool { self.client.connection == self.connection }

        func channelActive(context: ChannelHandlerContext) {
            guard self.isPresent, let channel = context.channel as? VirtualChannel else {
                return context.close(promise: nil)
            }
            self.client.onActive(channel)
        }

        func channelInactive(context: ChannelHandlerContext) {
            if self.isPresent { self.client.onInactive() }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {}

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard self.isPresent else { return }
            self.bytes += self.unwrapInboundIn(data).readableBytesView
            var packets: [Packet] = []
            var at = 0
            self.bytes.withUnsafeBytes { raw in
                let span = raw.bytes
                do throws(ProtocolError) {
                    while let frame = try FrameScanner.next(in: span, from: at, maximumPacketSize: .max) {
                        packets.append(try PacketDecoder.decode(frame, in: span, version: .v5, from: .server))
                        at = frame.end
                    }
                } catch {
                    self.client.simulation.breaks("\(self.client.name) hears what is no packet: \(error)")
                }
            }
            self.bytes.removeFirst(at)
            for packet in packets where self.isPresent { self.client.onPacket(packet) }
        }
    }
}
