import Dispatch
import Gossip
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Cluster

@Suite("Links through a third node", .serialized)
struct RelayTests {
    /// Nodes that all know each other; what `a` takes for b's address leads nowhere until the proxy is started there.
    private struct Cut {
        var a: RunningNode
        var b: RunningNode
        var others: [RunningNode]
        var proxy: CuttingProxy
        var address: SocketAddress

        func heal() async throws { try await self.proxy.start(port: self.address.port ?? 0) }

        func cut() { self.proxy.stop() }

        func stop() async throws {
            self.proxy.stop()
            for node in [self.a, self.b] + self.others { try await node.stop() }
        }
    }

    private func cut(
        relays: [String] = ["c"],
        configure: @Sendable @escaping (inout LinkConfiguration) -> Void = { _ in }
    ) async throws -> Cut {
        let a = try await RunningNode.start("a", configure: configure)
        let b = try await RunningNode.start("b", configure: configure)
        var others: [RunningNode] = []
        for name in relays { others.append(try await RunningNode.start(name, configure: configure)) }
        let proxy = CuttingProxy(target: b.address)
        let address = try await proxy.start()
        proxy.stop()
        let all = [("a", a), ("b", b)] + Array(zip(relays, others))
        for (name, node) in all {
            for (other, peer) in all where other != name {
                try await node.meet(other, at: name == "a" && other == "b" ? address : peer.address)
            }
        }
        return Cut(a: a, b: b, others: others, proxy: proxy, address: address)
    }

    /// Waits until a's link to b is open, by this way.
    private func isLinked(_ cut: Cut, via: String?) async throws -> Bool {
        try await cut.a.wait { _, statistics in
            statistics.contains { $0.peer == "b" && $0.isUp && $0.via == via }
        }
    }

    private func publish(_ numbers: Range<UInt64>, at cut: Cut) async throws {
        let batch = TestRecord.batch(numbers.map { ($0, UInt8(1 + $0 % 2)) })
        try await cut.a.publish(batch.records, count: batch.count, to: "b")
    }

    @Test(
        "What is for a node out of reach goes through another one, and straight again once it can",
        arguments: [1, nil]
    )
    func wayAndBack(level: Int32?) async throws {
        let cut = try await self.cut { $0.compressionLevel = level }
        try await cut.a.run { _, hub in hub.ownTableChanged([TableChange(filter: Array("t".utf8), interest: 2)]) }
        #expect(try await self.isLinked(cut, via: "c"))
        try await self.publish(0..<100, at: cut)
        #expect(try await cut.b.wait { seen, _ in seen.messages == 100 && seen.routes["a"] == ["t": 2] })
        #expect(
            try await cut.b.wait { _, statistics in
                statistics.contains { $0.peer == "a" && $0.incomingVia == "c" && $0.isInStep }
            }
        )
        #expect(try await cut.a.statistics().first { $0.peer == "b" }?.directFailure == "connection refused")

        try await cut.heal()
        #expect(try await self.isLinked(cut, via: nil))
        try await self.publish(100..<200, at: cut)
        #expect(try await cut.b.wait { seen, _ in seen.messages == 200 })
        #expect(try await cut.b.seen().numbers.map(\.number) == Array(0..<200))
        // Nothing of it is left at the relay.
        #expect(try await cut.others[0].wait { _, _ in true })
        #expect(try await cut.others[0].run { _, hub in hub.tunnels.count } == 0)
        try await cut.stop()
    }

    @Test("A network that is cut and healed again and again loses, doubles and reorders nothing of QoS 1 and 2")
    func changes() async throws {
        let cut = try await self.cut()
        var sent: UInt64 = 0
        for round in 0..<10 {
            for via in ["c", nil] {
                try await self.publish(sent..<(sent + 50), at: cut)
                #expect(try await self.isLinked(cut, via: via))
                try await self.publish((sent + 50)..<(sent + 500), at: cut)
                sent += 500
                // The next change comes while some is on its way.
                let reached = Int(sent) - 400
                #expect(try await cut.b.wait { seen, _ in seen.messages >= reached }, "round \(round)")
                if via == nil { cut.cut() } else { try await cut.heal() }
            }
        }
        let total = Int(sent)
        #expect(try await cut.b.wait { seen, _ in seen.messages >= total })
        #expect(try await cut.b.seen().numbers.map(\.number) == Array(0..<sent))
        let link = try #require(try await cut.a.statistics().first { $0.peer == "b" })
        #expect(link.sender.lost == 0)
        // Each cut looked like a death: the connection was reset, and then refused.
        #expect(try await cut.a.seen().dead == [])
        try await cut.stop()
    }

    @Test("A node that nobody reaches any more is called dead, and not before")
    func death() async throws {
        let cut = try await self.cut(relays: [])
        let relay = try await RunningNode.start("c")
        let way = CuttingProxy(target: cut.b.address)
        try await relay.meet("b", at: try await way.start())
        try await relay.meet("a", at: cut.a.address)
        for node in [cut.a, cut.b] { try await node.meet("c", at: relay.address) }
        try await cut.heal()
        #expect(try await self.isLinked(cut, via: nil))
        #expect(try await relay.wait { _, statistics in statistics.count == 2 && statistics.allSatisfy(\.isInStep) })
        cut.cut()
        #expect(try await self.isLinked(cut, via: "c"))
        #expect(try await cut.a.seen().dead == [])
        try await cut.heal()
        #expect(try await self.isLinked(cut, via: nil))
        way.stop()
        cut.cut()
        #expect(try await cut.a.wait { seen, _ in seen.dead.first == "b@1" })
        #expect(try await relay.wait { seen, _ in seen.dead.first == "b@1" })
        try await cut.stop()
        try await relay.stop()
    }

    @Test("When the direct way is back nothing is lost on it, not even what nobody acknowledges")
    func changeOver() async throws {
        let cut = try await self.cut {
            $0.compressionLevel = nil
            $0.changeOverMax = .seconds(20)
            // A busy machine is not to end the relayed connection while b is held up.
            $0.silenceMax = .seconds(30)
        }
        #expect(try await self.isLinked(cut, via: "c"))
        // While b is held up much of it is on its way, when the direct connection is made.
        let gate = DispatchSemaphore(value: 0)
        async let held: Void = cut.b.run { _, _ in gate.wait() }
        let total: UInt64 = 50_000
        let batch = TestRecord.batch((0..<total).map { ($0, 0) })
        try await cut.a.publish(batch.records, count: batch.count, to: "b")
        try await cut.heal()
        #expect(try await cut.a.wait { _, _ in cut.proxy.isConnected })
        #expect(try await cut.a.wait { _, statistics in statistics.contains { $0.peer == "b" } })
        gate.signal()
        try await held
        #expect(try await self.isLinked(cut, via: nil))
        try await self.publish(total..<(total + 100), at: cut)
        #expect(try await cut.b.wait { seen, _ in seen.numbers.last?.number == total + 99 })
        let numbers = try await cut.b.seen().numbers.map(\.number)
        let isWhole = numbers == Array(0..<(total + 100))
        let gap = zip(numbers, numbers.dropFirst()).first { $1 != $0 + 1 }
        #expect(isWhole, "\(numbers.count) came; first gap \(String(describing: gap))")
        try await cut.stop()
    }

    @Test("A relay takes no more from one side than the other one takes")
    func backPressure() async throws {
        let cut = try await self.cut { $0.compressionLevel = nil }
        #expect(try await self.isLinked(cut, via: "c"))
        let gate = DispatchSemaphore(value: 0)
        async let held: Void = cut.b.run { _, _ in gate.wait() }
        // More than what the system itself holds of two connections.
        var records = ByteBuffer()
        let count = 400
        for _ in 0..<count { TestRecord.append(qos: 1, payload: [UInt8](repeating: 7, count: 100_000), to: &records) }
        try await cut.a.publish(records, count: count, to: "b")
        // The opener cannot send, and that stays so.
        let deadline = NIODeadline.now() + .seconds(10)
        var blocked = 0
        while blocked < 100, NIODeadline.now() < deadline {
            try await cut.a.loop.scheduleTask(in: .milliseconds(1)) {}.futureResult.get()
            let isWritable = try await cut.a.run { _, hub in hub.peers["b"]?.outgoing.channel?.isWritable != false }
            blocked = isWritable ? 0 : blocked + 1
        }
        #expect(blocked == 100)
        gate.signal()
        try await held
        #expect(try await cut.b.wait { seen, _ in seen.messages == count })
        try await cut.stop()
    }

    @Test("When the relay goes another one takes its place, and none asks a third for what it was asked")
    func nextRelay() async throws {
        var cut = try await self.cut(relays: ["c", "d"])
        // Whichever had its links first.
        #expect(try await cut.a.wait { _, statistics in statistics.contains { $0.via != nil } })
        let isFirst = try await cut.a.statistics().first { $0.peer == "b" }?.via == "c"
        try await self.publish(0..<10, at: cut)
        #expect(try await cut.a.wait { _, statistics in statistics.filter { $0.isUp }.count == 3 })
        try await cut.others.remove(at: isFirst ? 0 : 1).stop()
        let other = isFirst ? "d" : "c"
        #expect(try await self.isLinked(cut, via: other))
        try await self.publish(10..<20, at: cut)
        #expect(try await cut.b.wait { seen, _ in seen.messages == 20 })
        #expect(try await cut.b.seen().numbers.map(\.number) == Array(0..<20))
        // a itself reaches b through the other one only, and says so to whom would go through it.
        let call = RelayCall(origin: other, originEpoch: 1, target: "b", targetEpoch: 1)
        #expect(try await Self.answer(of: cut.a, to: call) == [.relayAnswer(.noLink)])
        try await cut.stop()
    }

    @Test("The two ends of a carried link prove themselves to each other, and the relay has them prove who asks")
    func protected() async throws {
        let key = try #require(KeyRing.Key(bytes: Array(1...32)))
        let credentials = try LinkCredentials(keys: KeyRing(key))
        let cut = try await self.cut { $0.credentials = credentials }
        #expect(try await self.isLinked(cut, via: "c"))
        try await self.publish(0..<100, at: cut)
        #expect(try await cut.b.wait { seen, _ in seen.messages == 100 })
        try await cut.heal()
        #expect(try await self.isLinked(cut, via: nil))
        try await self.publish(100..<200, at: cut)
        #expect(try await cut.b.wait { seen, _ in seen.messages == 200 })
        // Without the key nobody is listened to, whatever the name.
        let call = RelayCall(origin: "a", originEpoch: 1, target: "b", targetEpoch: 1)
        #expect(try await Self.answer(of: cut.others[0], to: call) == [])
        try await cut.stop()
    }

    @Test("A relay refuses strangers, other lives, members it does not reach, and more than it may carry")
    func refusals() async throws {
        let cut = try await self.cut { $0.tunnelsMax = 1 }
        #expect(try await self.isLinked(cut, via: "c"))
        let relay = cut.others[0]
        func answer(
            _ origin: String,
            _ originEpoch: UInt64,
            _ target: String,
            _ epoch: UInt64
        ) async throws -> [LinkFrame] {
            let call = RelayCall(origin: origin, originEpoch: originEpoch, target: target, targetEpoch: epoch)
            return try await Self.answer(of: relay, to: call)
        }
        #expect(try await answer("x", 1, "b", 1) == [.relayAnswer(.unknownMember)])
        #expect(try await answer("a", 2, "b", 1) == [.relayAnswer(.unknownMember)])
        #expect(try await answer("a", 1, "x", 1) == [.relayAnswer(.noLink)])
        #expect(try await answer("a", 1, "b", 2) == [.relayAnswer(.noLink)])
        #expect(try await answer("a", 1, "c", 1) == [.relayAnswer(.noLink)])
        #expect(try await answer("b", 1, "a", 1) == [.relayAnswer(.tooMany)])
        try await cut.stop()
    }

    /// What a node says to a call before it closes the connection.
    private static func answer(of node: RunningNode, to call: RelayCall) async throws -> [LinkFrame] {
        let collector = AnswerCollector()
        let client = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(collector) }
            }
            .connect(to: node.address).get()
        var bytes = ByteBuffer()
        LinkFrame.relay(call).encode(into: &bytes)
        try await client.writeAndFlush(bytes)
        try await client.closeFuture.get()
        return collector.frames
    }
}

/// Keeps the frames that a node sends.
private final class AnswerCollector: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    private let state = Mutex((decoder: LinkFrameDecoder(frameBytesMax: 64), frames: [LinkFrame]()))

    var frames: [LinkFrame] { self.state.withLock { $0.frames } }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = self.unwrapInboundIn(data)
        self.state.withLock { state in
            state.decoder.buffer.writeBuffer(&bytes)
            // What cannot be read is no answer.
            while let frame = try? state.decoder.next() { state.frames.append(frame) }
        }
    }
}

@Suite("Which relay is asked")
struct RelayChoiceTests {
    @Test("The first by name is asked first, then the next ones, three at a time and round again")
    func order() {
        var choice = RelayChoice()
        let names = ["b", "c", "d", "e"]
        func ask(_ names: [String]) -> [String] {
            choice.onUnreached()
            var asked: [String] = []
            while let name = choice.next(of: names) { asked.append(name) }
            return asked
        }
        #expect(ask(names) == ["b", "c", "d"])
        #expect(ask(names) == ["e", "b", "c"])
        #expect(ask(["c"]) == ["c"])
        #expect(ask([]) == [])
        choice.onUp()
        #expect(ask(names) == ["b", "c", "d"])
    }

    @Test("After one was found a lost one is replaced without the member being called first")
    func lost() {
        var choice = RelayChoice()
        #expect(choice.next(of: ["c"]) == "c")
        #expect(choice.next(of: ["c"]) == nil)
        choice.onUp()
        #expect(choice.next(of: ["c", "d"]) == "c")
        // By now it is known that this one is gone as well.
        #expect(choice.next(of: ["d"]) == "d")
        #expect(choice.next(of: ["d"]) == nil)
    }
}
