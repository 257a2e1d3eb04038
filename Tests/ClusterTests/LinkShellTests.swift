import LocalBroker
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Cluster

@Suite("Links over real sockets", .serialized)
struct LinkShellTests {
    /// Two nodes; `a`'s link to `b` goes through a proxy that can cut it.
    func pair(
        configure: @Sendable @escaping (inout LinkConfiguration) -> Void = { _ in }
    ) async throws -> (a: RunningNode, b: RunningNode, proxy: CuttingProxy) {
        let a = try await RunningNode.start("a", configure: configure)
        let b = try await RunningNode.start("b", configure: configure)
        let proxy = CuttingProxy(target: b.address)
        let address = try await proxy.start()
        try await a.meet("b", at: address)
        try await b.meet("a", at: a.address)
        return (a, b, proxy)
    }

    @Test(
        "100,000 records cross a link that is reset again and again: none lost, doubled or out of order",
        arguments: [1 as Int32, nil]
    )
    func resets(level: Int32?) async throws {
        let (a, b, proxy) = try await self.pair { $0.compressionLevel = level }
        let total: UInt64 = 100_000
        let perTick: UInt64 = 100
        var cuts = 0
        for first in stride(from: 0, to: total, by: Int(perTick)) {
            var records = ByteBuffer()
            for number in first..<(first + perTick) {
                TestRecord.append(number: number, qos: UInt8(1 + number % 2), to: &records)
            }
            try await a.publish(records, count: Int(perTick), to: "b")
            if first % 2_000 == 1_000 {
                proxy.cut()
                cuts += 1
                // The next cut is to hit a living connection: wait until something of this one got through.
                let reached = UInt64(Double(first) * 0.9)
                #expect(try await b.wait { seen, _ in UInt64(seen.messages) >= reached })
            }
        }
        #expect(try await b.wait { seen, _ in seen.messages >= Int(total) })
        #expect(try await a.wait { _, statistics in statistics.first?.queuedMessages == 0 })
        let numbers = try await b.seen().numbers.map(\.number)
        #expect(numbers == Array(0..<total))
        let statistics = try #require(try await a.statistics().first)
        #expect(cuts == 50 && statistics.connects > 25)
        #expect(statistics.sender.acknowledged == total)
        #expect(statistics.sender.lost == 0)
        proxy.stop()
        try await a.stop()
        try await b.stop()
    }

    @Test("What has to be stored is acknowledged when it is, also if the link broke meanwhile, and comes once")
    func storing() async throws {
        let (a, b, proxy) = try await self.pair()
        try await b.run { node, _ in node.storesLater = true }
        try await a.publish(TestRecord.batch([(1, 1), (2, 2)]).records, count: 2, to: "b")
        #expect(try await b.wait { seen, _ in seen.messages == 2 })
        proxy.cut()
        #expect(try await a.wait { _, statistics in statistics.first?.connects == 2 })
        #expect(try await b.wait { _, statistics in statistics.first?.duplicatesDropped == 2 })
        #expect(try await a.seen().finished["b"] == nil)
        try await b.run { node, _ in
            for stored in node.unstored { stored() }
        }
        #expect(
            try await a.wait { seen, statistics in seen.finished["b"] == 2 && statistics.first?.queuedMessages == 0 }
        )
        #expect(try await b.seen().messages == 2)
        proxy.stop()
        try await a.stop()
        try await b.stop()
    }

    @Test("Control messages come once each, at their place among the records, however often the link is reset")
    func controls() async throws {
        let (a, b, proxy) = try await self.pair()
        let rounds = 400
        for round in 0..<rounds {
            try await a.run { node, hub in
                guard let peer = node.peers["b"] else { return }
                for number in 0..<5 { TestRecord.append(number: UInt64(5 * round + number), qos: 1, to: &peer.pending) }
                peer.pendingCount += 5
                hub.send(control: ByteBuffer(string: "\(round)"), to: "b")
            }
            if round % 50 == 25 {
                proxy.cut()
                #expect(try await b.wait { seen, _ in seen.controls.count > round - 20 })
            }
        }
        #expect(try await b.wait { seen, _ in seen.controls.count >= rounds })
        let seen = try await b.seen()
        #expect(seen.controls == (0..<rounds).map { "\($0) after \(5 * $0 + 5)" })
        #expect(seen.numbers.map(\.number) == Array(0..<UInt64(5 * rounds)))
        #expect(try await a.wait { seen, _ in seen.linkChanges.count >= 3 })
        let changes = try await a.seen().linkChanges
        #expect(changes.prefix(3) == ["+b", "-b", "+b"])
        proxy.stop()
        try await a.stop()
        try await b.stop()
    }

    @Test(
        "The next life of a peer gets what the last one had not stored, and nothing that it had",
        arguments: [true, false]
    )
    func nextLife(wasStored: Bool) async throws {
        let a = try await RunningNode.start("a")
        let first = try await RunningNode.start("b")
        try await first.run { node, _ in node.storesLater = true }
        try await a.meet("b", at: first.address)
        try await first.meet("a", at: a.address)
        try await a.publish(TestRecord.batch([(1, 1), (2, 2)]).records, count: 2, to: "b")
        #expect(try await first.wait { seen, _ in seen.messages == 2 })
        let position = try #require(try await first.seen().position)
        #expect(position == PeerPosition(name: "a", epoch: 1, stream: position.stream, sequence: 2))
        try await a.run { _, hub in hub.memberGone(name: "b", epoch: 1) }
        #expect(try await a.seen().detached == ["b"])
        try await first.stop()
        let second = try await RunningNode.start("b", epoch: 2)
        if wasStored { try await second.run { _, hub in hub.restore(position) } }
        try await second.meet("a", at: a.address)
        try await a.meet("b", epoch: 2, at: second.address)
        try await a.publish(TestRecord.batch([(3, 1)]).records, count: 1, to: "b")
        let wanted: [UInt64] = wasStored ? [3] : [1, 2, 3]
        #expect(try await second.wait { seen, _ in seen.numbers.map(\.number) == wanted })
        // What was for the first life is nothing that the second one's publishers wait for.
        #expect(
            try await a.wait { seen, statistics in seen.finished["b"] == 1 && statistics.first?.queuedMessages == 0 }
        )
        try await a.stop()
        try await second.stop()
    }

    @Test("What is published while a peer is gone is kept for its kept sessions until it is back")
    func keptForThePeer() async throws {
        let a = try await RunningNode.start("a")
        let first = try await RunningNode.start("b")
        let kept = 1 | TableChange.keptBit
        try await first.run { _, hub in
            hub.ownTableChanged([
                TableChange(filter: Array("kept".utf8), interest: kept),
                TableChange(filter: Array("passing".utf8), interest: 2),
            ])
        }
        try await a.meet("b", at: first.address)
        try await first.meet("a", at: a.address)
        #expect(try await a.wait { seen, _ in seen.routes["b"] == ["kept": kept, "passing": 2] })
        try await a.run { _, hub in hub.memberGone(name: "b", epoch: 1) }
        #expect(try await a.seen().routes["b"] == ["kept": kept])
        try await first.stop()
        for number in 1...3 {
            try await a.publish(TestRecord.batch([(UInt64(number), 1)]).records, count: 1, to: "b")
        }
        // A life that ends before its table has come leaves things as they were.
        try await a.meet("b", epoch: 2, at: first.address)
        try await a.run { _, hub in hub.memberGone(name: "b", epoch: 2) }
        #expect(try await a.seen().routes["b"] == ["kept": kept])
        let second = try await RunningNode.start("b", epoch: 3)
        try await second.run { _, hub in
            hub.ownTableChanged([TableChange(filter: Array("other".utf8), interest: 0)])
        }
        try await second.meet("a", at: a.address)
        try await a.meet("b", epoch: 3, at: second.address)
        #expect(try await second.wait { seen, _ in seen.numbers.map(\.number) == [1, 2, 3] })
        #expect(try await a.wait { seen, _ in seen.routes["b"] == ["other": 0] })
        #expect(try await a.seen().detached == [])
        try await a.stop()
        try await second.stop()
    }

    @Test("What a peer that is gone has not taken and is for share groups is given back, at once")
    func sharesOfThePeer() async throws {
        let a = try await RunningNode.start("a")
        let b = try await RunningNode.start("b")
        try await a.meet("b", at: b.address)
        try await b.meet("a", at: a.address)
        #expect(try await a.wait { seen, statistics in statistics.first?.isUp == true && seen.linked == ["b": true] })
        try await b.stop()
        #expect(try await a.wait { seen, _ in seen.linked == ["b": false] })
        var records = ByteBuffer()
        TestRecord.append(qos: 2, groups: ["$share/g/t", "$share/h/t"], payload: [1], to: &records)
        let bytes = records.readableBytes
        TestRecord.append(qos: 1, payload: [1], to: &records)
        try await a.publish(records, count: 2, to: "b")
        try await a.run { _, hub in hub.memberGone(name: "b", epoch: 1) }
        #expect(try await a.seen().redispatched == bytes)
        try await a.stop()
    }

    @Test("A link without compression and one with it carry the same, and the counters tell the difference")
    func counters() async throws {
        let (a, b, proxy) = try await self.pair()
        #expect(try await a.wait { _, statistics in statistics.first?.isUp == true })
        var telemetry = Telemetry(publishers: 10)
        for _ in 0..<100 {
            var records = ByteBuffer()
            for _ in 0..<32 { telemetry.append(qos: 0, to: &records) }
            try await a.publish(records, count: 32, to: "b")
        }
        #expect(try await b.wait { seen, _ in seen.messages == 3_200 })
        let sent = try #require(try await a.statistics().first)
        let received = try #require(try await b.statistics().first)
        #expect(sent.sender.sent == 3_200)
        #expect(sent.bytesSent < sent.bytesRaw / 6)
        #expect(received.bytesReceived == sent.bytesSent)
        #expect(received.bytesReceivedRaw == sent.bytesRaw)
        proxy.stop()
        try await a.stop()
        try await b.stop()
    }

    @Test("What a link says of itself: open one way, both ways, and why not where it is not")
    func states() async throws {
        let a = try await RunningNode.start("a")
        let b = try await RunningNode.start("b")
        try await a.meet("b", at: b.address)
        // Refused: b does not know of a.
        #expect(
            try await a.wait { _, links in
                links.first?.state == .connecting(reason: "refused: unknownMember") && links.first?.isInStep == false
            }
        )
        try await b.meet("a", at: a.address)
        #expect(try await a.wait { _, links in links.first?.state == .connected })
        #expect(try await b.wait { _, links in links.first?.state == .connected })
        #expect(try await a.wait { _, links in links.first?.isInStep == true })
        try await a.run { _, hub in hub.ownTableChanged([TableChange(filter: Array("x".utf8), interest: 1)]) }
        let status = try await a.status()
        #expect(status.tableCount == 1 && status.tableSequence == 1 && status.tableDigest != 0)
        let link = try #require(status.links.first)
        #expect(link.age >= .zero && link.age < .seconds(20))
        #if os(Linux)
        let roundTrip = try #require(link.roundTripMicroseconds)
        #expect((1..<1_000_000).contains(roundTrip))
        #endif
        #expect(Set(link.counters.map(\.name)).count == link.counters.count)
        try await b.stop()
        #expect(
            try await a.wait { _, links in
                guard case .connecting(.some) = links.first?.state else { return false }
                return true
            }
        )
        let down = try #require(try await a.status().links.first)
        #expect(down.roundTripMicroseconds == nil && !down.isUp && !down.isInStep)
        try await a.stop()
    }

    @Test("A link to a peer that cannot reach this node is open one way only")
    func halfOpen() async throws {
        let a = try await RunningNode.start("a")
        let b = try await RunningNode.start("b")
        let nowhere = try SocketAddress(ipAddress: "127.0.0.1", port: 1)
        try await b.meet("a", at: nowhere)
        try await a.meet("b", at: b.address)
        let reason = "the peer has not opened its link to this node"
        #expect(try await a.wait { _, links in links.first?.state == .connecting(reason: reason) })
        #expect(try await b.wait { _, links in links.first?.state == .connecting(reason: "connection refused") })
        try await a.stop()
        try await b.stop()
    }

    @Test("A member at a public address is not linked to without a cluster key")
    func publicAddress() async throws {
        let a = try await RunningNode.start("a")
        try await a.meet("b", at: try SocketAddress(ipAddress: "8.8.8.8", port: 7_947))
        guard case .unlinked(let reason) = try await a.status().links.first?.state else {
            Issue.record("a link to a public address is tried")
            return
        }
        #expect(reason.contains("public") && reason.contains("cluster key"))
        try await a.stop()
    }

    @Test("A table reaches the peer as deltas, after a long absence as a snapshot, and is kept over reconnects")
    func tables() async throws {
        let (a, b, proxy) = try await self.pair()
        try await a.run { _, hub in
            hub.ownTableChanged([TableChange(filter: Array("x/#".utf8), interest: 1)])
        }
        #expect(try await b.wait { seen, _ in seen.routes["a"] == ["x/#": 1] })
        #expect(try await a.wait { _, statistics in statistics.first?.tableAcknowledged == 1 })
        try await a.run { _, hub in
            // More changes than the log holds.
            for first in stride(from: 0, to: 50_000, by: 1_000) {
                hub.ownTableChanged(
                    (first..<(first + 1_000)).map { number in
                        TableChange(filter: Array("f\(number % 5_000)".utf8), interest: UInt8(number % 3))
                    }
                )
            }
            hub.ownTableChanged([TableChange(filter: Array("x/#".utf8), interest: nil)])
        }
        proxy.cut()
        #expect(try await b.wait { seen, _ in seen.routes["a"]?.count == 5_000 && seen.routes["a"]?["x/#"] == nil })
        let own = try await a.run { _, hub in hub.ownTable.digest }
        #expect(try await b.statistics().first?.tableDigest == own)
        proxy.stop()
        try await a.stop()
        try await b.stop()
    }

    @Test("Retained messages that one side lacks are found and sent, both ways")
    func retained() async throws {
        let a = try await RunningNode.start("a")
        let b = try await RunningNode.start("b")
        try await a.run { node, _ in node.retained = Set(0..<400) }
        try await b.run { node, _ in node.retained = Set(300..<600) }
        try await a.meet("b", at: b.address)
        try await b.meet("a", at: a.address)
        let all = Array(UInt64(0)..<600)
        #expect(try await a.wait { seen, _ in seen.retained == all })
        #expect(try await b.wait { seen, _ in seen.retained == all })
        // Both had many parts to send, and other work was done between any two.
        for node in [a, b] { #expect(try await node.seen().partsInTurnMax == 1) }
        try await a.stop()
        try await b.stop()
    }

    @Test("A node that dies is known to be dead when its port refuses; reborn it starts with a fresh state")
    func death() async throws {
        let (a, b, proxy) = try await self.pair()
        #expect(try await a.wait { _, statistics in statistics.first?.isUp == true })
        // A node that is stopped says goodbye; one that dies does not.
        proxy.stop()
        #expect(try await a.wait { seen, _ in seen.dead.contains("b@1") })
        try await a.run { _, hub in hub.memberGone(name: "b", epoch: 1) }
        #expect(try await a.seen().detached == ["b"])
        let reborn = try await RunningNode.start("b", epoch: 2)
        try await a.meet("b", epoch: 2, at: reborn.address)
        try await reborn.meet("a", at: a.address)
        try await a.publish(TestRecord.batch([(1, 1)]).records, count: 1, to: "b")
        #expect(try await reborn.wait { seen, _ in seen.numbers.map(\.number) == [1] })
        try await a.stop()
        try await b.stop()
        try await reborn.stop()
    }

    @Test("Another life of the peer at the same address proves the old one dead")
    func rebirth() async throws {
        let a = try await RunningNode.start("a")
        let b = try await RunningNode.start("b", epoch: 2)
        try await b.meet("a", at: a.address)
        try await a.meet("b", epoch: 1, at: b.address)
        #expect(try await a.wait { seen, _ in seen.dead.contains("b@1") })
        try await a.stop()
        try await b.stop()
    }

    @Test("A member only out of sight for a while keeps its table and loses nothing that is published afterwards")
    func outOfSight() async throws {
        let (a, b, proxy) = try await self.pair()
        try await a.run { _, hub in hub.ownTableChanged([TableChange(filter: Array("t".utf8), interest: 2)]) }
        try await a.publish(TestRecord.batch([(1, 1)]).records, count: 1, to: "b")
        #expect(try await b.wait { seen, _ in seen.messages == 1 && seen.routes["a"] == ["t": 2] })
        try await b.run { _, hub in hub.memberGone(name: "a", epoch: 1) }
        #expect(try await b.seen().routes["a"] == nil)
        try await a.publish(TestRecord.batch([(2, 1)]).records, count: 1, to: "b")
        try await b.meet("a", at: a.address)
        #expect(try await b.wait { seen, _ in seen.numbers.map(\.number) == [1, 2] && seen.routes["a"] == ["t": 2] })
        proxy.stop()
        try await a.stop()
        try await b.stop()
    }

    @Test("A slow peer stops the publishers of QoS 1 and frees them when it has caught up")
    func congestion() async throws {
        let a = try await RunningNode.start("a") { $0.sender.messagesMax = 1_000 }
        let b = try await RunningNode.start("b")
        try await a.meet("b", at: b.address)
        // b does not know a yet and refuses it, so everything waits.
        var records = ByteBuffer()
        for number in 0..<600 { TestRecord.append(number: UInt64(number), qos: 1, to: &records) }
        try await a.publish(records, count: 600, to: "b")
        #expect(try await a.wait { seen, _ in seen.congested == [true] })
        try await b.meet("a", at: a.address)
        #expect(try await a.wait { seen, _ in seen.congested == [true, false] })
        #expect(try await b.wait { seen, _ in seen.messages == 600 })
        try await a.stop()
        try await b.stop()
    }

    @Test("A member that cannot be linked to holds publishers back for a bounded time only")
    func unreachable() async throws {
        let a = try await RunningNode.start("a") {
            $0.sender.messagesMax = 1_000
            $0.stallMax = .milliseconds(300)
        }
        // b never hears of a, and refuses its link.
        let b = try await RunningNode.start("b")
        try await a.meet("b", at: b.address)
        var records = ByteBuffer()
        for number in 0..<600 { TestRecord.append(number: UInt64(number), qos: 1, to: &records) }
        try await a.publish(records, count: 600, to: "b")
        #expect(try await a.wait { seen, _ in seen.congested == [true, false] })
        #expect(try await a.statistics().first?.sender.lost == 600)
        // Once it can be linked to, all is well.
        try await a.publish(TestRecord.batch([(601, 1)]).records, count: 1, to: "b")
        try await b.meet("a", at: a.address)
        #expect(try await b.wait { seen, _ in seen.numbers.map(\.number) == [601] })
        try await a.stop()
        try await b.stop()
    }

    @Test("What a stopping node has taken is sent before it goes")
    func stopping() async throws {
        let (a, b, proxy) = try await self.pair()
        #expect(try await a.wait { _, statistics in statistics.first?.isUp == true })
        var records = ByteBuffer()
        for number in 0..<5_000 { TestRecord.append(number: UInt64(number), qos: 1, to: &records) }
        try await a.publish(records, count: 5_000, to: "b")
        try await a.stop()
        #expect(try await b.wait { seen, _ in seen.messages == 5_000 })
        proxy.stop()
        try await b.stop()
    }

    @Test("An opener that only sends what takes no acknowledgement hears of the called node all the same")
    func answersWithoutHeartbeat() async throws {
        let node = try await RunningNode.start("a")
        try await node.meet("b", at: try SocketAddress(ipAddress: "127.0.0.1", port: 1))
        let collector = FrameCollector()
        let client = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(collector) }
            }
            .connect(to: node.address).get()
        let hello = LinkHello(
            compressionOffered: 0,
            origin: "b",
            originEpoch: 1,
            target: "a",
            targetEpoch: 1,
            stream: 1
        )
        var bytes = ByteBuffer()
        LinkFrame.hello(hello).encode(into: &bytes)
        try await client.writeAndFlush(bytes)
        #expect(try await node.wait { _, _ in collector.types.contains(LinkFrameType.helloAnswer.rawValue) })
        bytes.clear()
        LinkFrame.position(nextSequence: 1).encode(into: &bytes)
        LinkFrame.publishOnce(TestRecord.batch([(1, 0)])).encode(into: &bytes)
        try await client.writeAndFlush(bytes)
        #expect(try await node.wait { _, _ in collector.types.contains(LinkFrameType.acknowledgement.rawValue) })
        try await client.close()
        try await node.stop()
    }

    @Test(
        "A stranger's bytes end its connection",
        arguments: ["GET / HTTP/1.1\r\n\r\n", "\u{10}\u{0C}\u{0}\u{4}MQTT\u{4}\u{2}\u{0}\u{3C}\u{0}\u{0}"]
    )
    func stranger(bytes: String) async throws {
        let node = try await RunningNode.start("a")
        let client = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(to: node.address).get()
        try await client.writeAndFlush(ByteBuffer(string: bytes))
        try await client.closeFuture.get()
        try await node.stop()
    }
}

/// Keeps the types of the frames that a called node sends.
private final class FrameCollector: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    private let state = Mutex((decoder: LinkFrameDecoder(frameBytesMax: 8 << 10), types: [UInt8]()))

    var types: [UInt8] { self.state.withLock { $0.types } }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = self.unwrapInboundIn(data)
        self.state.withLock { state in
            state.decoder.buffer.writeBuffer(&bytes)
            // What cannot be read is no answer; the test then runs into its deadline.
            while let frame = try? state.decoder.next() { state.types.append(frame.type) }
        }
    }
}
