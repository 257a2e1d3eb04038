import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("The order of packets")
struct ConnectionCoreTests {
    private static let serverOnly: Set<PacketType> = [.connAck, .subAck, .unsubAck, .pingResp]

    private func core(_ phase: ConnectionCore.Phase) -> ConnectionCore {
        var core = ConnectionCore()
        if phase != .awaitingConnect { core.onConnectTaken() }
        if phase == .connected { core.onConnected(keepAliveSeconds: 10) }
        if phase == .closed { core.onClosed() }
        return core
    }

    @Test("what only a server sends is refused in every phase", arguments: serverOnly)
    func serverPackets(type: PacketType) {
        for phase in [ConnectionCore.Phase.awaitingConnect, .connecting, .connected, .closed] {
            #expect(self.core(phase).onPacket(type) == .refuse(.protocolError, requirement: "MQTT 2.1.2"))
        }
    }

    @Test(
        "each packet of a client has its verdict in each phase",
        arguments: PacketType.allCases.filter { !serverOnly.contains($0) }
    )
    func clientPackets(type: PacketType) {
        let first = self.core(.awaitingConnect).onPacket(type)
        #expect(first == (type == .connect ? .handle : .refuse(.protocolError, requirement: "MQTT-3.1.0-1")))
        #expect(self.core(.connecting).onPacket(type) == .hold)
        #expect(self.core(.closed).onPacket(type) == .hold)
        let connected: ConnectionCore.PacketVerdict =
            switch type {
            case .connect: .refuse(.protocolError, requirement: "MQTT-3.1.0-2")
            case .auth: .refuse(.protocolError, requirement: "MQTT-4.12.0-7")
            default: .handle
            }
        #expect(self.core(.connected).onPacket(type) == connected)
    }

    @Test(
        "between AUTH to the client and its answer only AUTH and DISCONNECT are taken",
        arguments: PacketType.allCases
    )
    func authenticating(type: PacketType) {
        var core = self.core(.connecting)
        core.onChallenge()
        let isAllowed = type == .auth || type == .disconnect
        let requirement = Self.serverOnly.contains(type) ? "MQTT 2.1.2" : "MQTT-3.1.2-30"
        #expect(core.onPacket(type) == (isAllowed ? .handle : .refuse(.protocolError, requirement: requirement)))
        core.onAnswer()
        #expect(core.phase == .connecting)
    }

    @Test("a client that named a method may authenticate again")
    func again() {
        var core = self.core(.connecting)
        core.onConnected(keepAliveSeconds: 0, mayAuthenticateAgain: true)
        #expect(core.onPacket(.auth) == .handle)
    }

    @Test("one and a half keep-alives are allowed in silence, rounded up, and 0 means for ever")
    func silence() {
        for (keepAlive, limit) in [(0, 0), (1, 2), (10, 15), (11, 17), (65_535, 98_303)] as [(UInt16, Int)] {
            var core = ConnectionCore()
            core.onConnectTaken()
            core.onConnected(keepAliveSeconds: keepAlive)
            #expect(core.silenceLimitSeconds == limit)
        }
    }
}

@Suite("How long publishers are slowed for a receiver")
struct CongestionTests {
    private let start = NIODeadline.uptimeNanoseconds(0)

    private func slows(_ congestion: inout Congestion, taken: UInt64, after milliseconds: Int64) -> Bool {
        congestion.slowsPublishers(taken: taken, limit: 640, now: self.start + .milliseconds(milliseconds))
    }

    @Test("for the grace, then no more until the receiver has caught up once")
    func grace() {
        var congestion = Congestion()
        #expect(self.slows(&congestion, taken: 0, after: 0) == true)
        #expect(self.slows(&congestion, taken: 9, after: 499) == true)
        #expect(self.slows(&congestion, taken: 9, after: 500) == false)
        #expect(self.slows(&congestion, taken: 1000, after: 100_000) == false)
        congestion.end()
        #expect(self.slows(&congestion, taken: 1000, after: 101_000) == true)
    }

    @Test("for as long as it takes a good part of its limit in every grace")
    func progress() {
        var congestion = Congestion()
        for step in 0..<10 as Range<Int64> {
            #expect(self.slows(&congestion, taken: UInt64(step) * 10, after: step * 500) == true)
        }
        #expect(self.slows(&congestion, taken: 99, after: 5000) == false)
    }
}
