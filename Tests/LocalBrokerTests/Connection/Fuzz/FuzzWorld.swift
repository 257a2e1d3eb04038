import Logging
import NIOCore
import NIOEmbedded
import Protocol

@testable import LocalBroker

/// Two shards, a few clients that share fewer client identifiers, and time that moves when told to: one episode.
final class FuzzWorld {
    private let broker: VirtualBroker
    private var packets: FuzzPackets
    private var clients: [FuzzClient] = []
    private var clientCount = 0
    /// What happened, a line each, where it is asked for: the words cost more than the deeds.
    private(set) var story: [String] = []
    private let isTelling: Bool
    private(set) var tally = FuzzTally()
    private(set) var brokenRule: String?

    private static let clientsMax = 6
    private static let configuration: BrokerConfiguration = {
        var configuration = BrokerConfiguration()
        configuration.maximumPacketSize = 4096
        configuration.maximumTopicLevels = 8
        configuration.maximumSubscriptions = 6
        configuration.maximumInflight = 8
        configuration.receiveMaximum = 8
        configuration.maximumQueuedMessages = 20
        configuration.maximumQueuedBytes = 16 * 1024
        configuration.maximumRetainedMessages = 5
        configuration.connectTimeoutSeconds = 10
        configuration.maximumSessionExpiry = 100
        configuration.topicAliasMaximum = 10
        configuration.outboundTopicAliasMaximum = 2
        configuration.responseInformation = "answers/%c"
        configuration.logger.logLevel = .critical
        return configuration
    }()

    init(seed: UInt64, isTelling: Bool = false) throws {
        self.isTelling = isTelling
        self.broker = try VirtualBroker(Self.configuration, shardCount: 2)
        self.packets = FuzzPackets(random: SeededGenerator(seed: seed))
    }

    func run(steps: Int) {
        for _ in 0..<steps where self.brokenRule == nil {
            self.step()
            self.settle()
            self.check()
        }
        if self.brokenRule == nil { self.end() }
    }

    // MARK: Steps

    private func step() {
        if self.clients.count < Self.clientsMax, self.clients.isEmpty || self.packets.random.chance(15) {
            self.open()
            return
        }
        let index = self.packets.random.below(self.clients.count)
        let client = self.clients[index]
        // A connection that is over is told a little more and goes.
        if !client.isOpen, self.packets.random.chance(50) { return self.remove(index) }
        switch self.packets.random.below(100) {
        case 0..<84: self.send(client)
        case 84..<89: self.advance()
        case 89..<94:
            let isWritable = !client.channel.isWritable || self.packets.random.chance(50)
            self.tell("\(client.name) \(isWritable ? "reads" : "does not read")")
            client.setWritable(isWritable)
        case 94..<97:
            self.tell("\(client.name) breaks off")
            self.tally.brokenOff += 1
            client.breakOff()
            self.remove(index)
        default:
            let noise = (0..<self.packets.random.below(40)).map { _ in UInt8(self.packets.random.below(256)) }
            self.tell("\(client.name) sends noise \(noise)")
            self.tally.inputs += 1
            client.send(noise)
        }
    }

    private func open() {
        let index = self.packets.random.below(self.broker.shards.count)
        self.clientCount += 1
        do {
            let client = try FuzzClient(
                number: self.clientCount,
                name: "client \(self.clientCount) on shard \(index)",
                loop: self.broker.loops[index],
                connection: self.broker.makeConnection(onShard: index),
                packetSizeMax: Self.configuration.maximumPacketSize
            )
            client.isTelling = self.isTelling
            self.clients.append(client)
            self.tell("\(client.name) opens")
            if self.packets.random.chance(95) {
                let connect = self.packets.connect()
                self.send([.connect(connect)], client, as: connect.version)
            }
        } catch {
            self.brokenRule = "a client could not be made: \(error)"
        }
    }

    private func send(_ client: FuzzClient) {
        if client.isOnline, self.packets.random.chance(15) {
            return self.send(self.packets.burst(of: client.number), client, as: client.version)
        }
        let count = 1 + self.packets.random.below(4)
        let packets = (0..<count).map { _ in
            client.isOnline || self.packets.random.chance(30)
                ? self.packets.packet(client.version, of: client.number, owed: client.owed.keys.sorted())
                : .connect(self.packets.connect())
        }
        self.send(packets, client, as: client.version)
    }

    private func send(_ packets: [Packet], _ client: FuzzClient, as version: ProtocolVersion) {
        var bytes: [UInt8] = []
        for packet in packets {
            var buffer = ByteBuffer()
            do {
                try packet.encode(into: &buffer, version: version)
            } catch {
                self.brokenRule = "the fuzzer made what is no packet: \(error) in \(packet)"
            }
            var encoded = Array(buffer.readableBytesView)
            let isDamaged = self.packets.random.chance(4)
            if isDamaged { self.packets.damage(&encoded) }
            self.tell(
                "\(client.name) sends \(isDamaged ? "a damaged " : "")\(packet.type) \(version): \(Self.hex(encoded))"
            )
            bytes += encoded
            self.tally.inputs += 1
        }
        // In one read, or in several with whatever else happens between them.
        while !bytes.isEmpty, self.packets.random.chance(20) {
            let size = 1 + self.packets.random.below(bytes.count)
            client.send(Array(bytes.prefix(size)))
            bytes.removeFirst(size)
            if self.packets.random.chance(50) { self.settle() }
        }
        client.send(bytes)
    }

    private func remove(_ index: Int) {
        let client = self.clients.remove(at: index)
        client.receive()
        client.breakOff()
        self.note(client)
    }

    private func advance() {
        let time = self.packets.random.pick([
            TimeAmount.milliseconds(500), .seconds(1), .seconds(4), .seconds(11), .seconds(61),
        ])
        self.tell("\(time.nanoseconds / 1_000_000) ms pass")
        self.advance(by: time)
    }

    private func advance(by time: TimeAmount) {
        var rest = time
        while rest > .zero {
            let part = min(rest, .seconds(1))
            self.broker.advance(part)
            rest = rest - part
            self.settle()
        }
    }

    /// Lets everything happen that has been set off, and reads from the clients whatever the broker is ready to read.
    private func settle() {
        for _ in 0..<2 {
            self.broker.settle()
            for client in self.clients { client.deliver() }
        }
        self.broker.settle()
    }

    private func tell(_ line: @autoclosure () -> String) {
        if self.isTelling { self.story.append(line()) }
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.prefix(80).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
    }

    // MARK: Rules

    private func check() {
        let configuration = Self.configuration
        let backlogMax = configuration.maximumQueuedBytes + Connection.maximumAnswerBytes + Connection.flushThreshold
        for client in self.clients {
            client.check(backlogMax: backlogMax)
            self.note(client)
        }
        for shard in self.broker.shards {
            for session in shard.sessions.values { self.check(session, shard, configuration) }
        }
    }

    private func check(_ session: Session, _ shard: Shard, _ configuration: BrokerConfiguration) {
        let state = session.state
        if state.log.waitingCount > configuration.maximumQueuedMessages {
            self.breaks("\(state.log.waitingCount) messages wait in a session")
        }
        if state.log.byteCount > configuration.maximumQueuedBytes + 2 * configuration.maximumPacketSize {
            self.breaks("\(state.log.byteCount) bytes wait in a session")
        }
        if state.subscriptions.count > configuration.maximumSubscriptions {
            self.breaks("\(state.subscriptions.count) subscriptions in a session")
        }
        if let connection = session.connection, !connection.isOpen || connection.session !== session {
            self.breaks("a session holds a connection that is not its own")
        }
    }

    private func note(_ client: FuzzClient) {
        if let rule = client.brokenRule { self.breaks(rule) }
        self.story += client.heard
        client.heard = []
        self.tally += client.tally
        client.tally = FuzzTally()
    }

    private func breaks(_ rule: String) {
        if self.brokenRule == nil { self.brokenRule = rule }
    }

    /// All clients go, and the time passes that their sessions are kept: nothing may be left.
    private func end() {
        while !self.clients.isEmpty { self.remove(0) }
        self.settle()
        self.advance(by: .seconds(Int64(Self.configuration.maximumSessionExpiry) + 70))
        self.settle()
        for shard in self.broker.shards {
            if !shard.connections.isEmpty { self.breaks("\(shard.connections.count) connections are left") }
            if !shard.sessions.isEmpty { self.breaks("sessions are left: \(shard.sessions.keys.map(\.text))") }
        }
        if self.broker.shared.directory.count != 0 {
            self.breaks("\(self.broker.shared.directory.count) sessions are in the directory")
        }
        if !self.broker.shared.routes.ownRoutes().isEmpty { self.breaks("routes are left") }
    }
}
