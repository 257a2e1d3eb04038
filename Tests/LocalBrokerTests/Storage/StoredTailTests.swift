import NIOCore
import Protocol
import Testing

@testable import LocalBroker

/// Messages that wait for a client in the storage only.
@Suite struct StoredTailTests {
    /// About twenty of these tests' messages wait in memory.
    private static let memory = 1024

    private func configuration(
        _ storage: any Storage,
        _ configure: (inout BrokerConfiguration) -> Void = { _ in }
    ) -> BrokerConfiguration {
        .test {
            $0.storage = .custom(storage)
            $0.systemIntervalSeconds = 0
            $0.queueMemoryBytes = Self.memory
            configure(&$0)
        }
    }

    /// A client that is away, and messages for it with rising numbers.
    private func fill(
        _ broker: TestBroker,
        _ numbers: Range<Int>,
        filter: String = "t",
        qos: QoS = .exactlyOnce
    ) async throws {
        let client = try await broker.connect("c", keeps: true)
        try await client.subscribe(filter, qos)
        try await client.disconnect()
        try await self.publish(broker, numbers)
    }

    private func publish(_ broker: TestBroker, _ numbers: Range<Int>) async throws {
        let publisher = try await broker.connect("p")
        try await publisher.publish(numbers)
        try await publisher.disconnect()
    }

    private func texts(_ numbers: Range<Int>) -> [String] { numbers.map { "\($0)" } }

    private func isEmpty(_ storage: any Storage) async throws -> Bool {
        for table in [StorageTable.deliveries, .messages] where try await !storage.all(table).isEmpty { return false }
        return true
    }

    // MARK: The order

    @Test func whatWaitsBeyondTheMemoryIsInTheStorageOnlyAndComesInOrder() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<200)
            let log = try await broker.log(of: "c")
            #expect(log.waitingCount == 200)
            #expect(log.heldWaitingCount < 40)
            #expect(try await storage.all(.deliveries).count == 200)
            let client = try await broker.reconnect("c")
            // What is published now comes behind.
            try await self.publish(broker, 200..<210)
            #expect(try await client.take(210) == self.texts(0..<210))
            try await client.expectNothing()
            #expect(try await eventually { try await self.isEmpty(storage) })
            #expect(try await broker.log(of: "c").byteCount == 0)
        }
    }

    @Test func aLaterBrokerHasThemAndDoesNotTakeAllIntoMemory() async throws {
        try await withDirectory { directory in
            let configuration = BrokerConfiguration.test {
                $0.storage = .directory(directory)
                $0.queueMemoryBytes = Self.memory
            }
            var log = OutboundLog()
            try await TestBroker.run(configuration) { broker async throws in
                try await self.fill(broker, 0..<200)
                log = try await broker.log(of: "c")
            }
            try await TestBroker.run(configuration) { broker async throws in
                let restored = try await broker.log(of: "c")
                #expect(restored.heldWaitingCount == log.heldWaitingCount)
                #expect(restored.waitingCount == log.waitingCount)
                #expect(restored.byteCount == log.byteCount)
                let client = try await broker.reconnect("c")
                #expect(try await client.take(200) == self.texts(0..<200))
            }
        }
    }

    @Test func whatAClientHadReceivedBeyondTheMemoryIsNotSentToItAgain() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<0)
            let client = try await broker.reconnect("c")
            let publisher = try await broker.connect("p")
            for number in 0..<100 { try await publisher.publish("t", "\(number)", .exactlyOnce) }
            for _ in 0..<60 { _ = try await client.nextMessage() }
            // The last one of them only: all before it has been sent too.
            let last = try await client.nextMessage()
            try await client.send(.ack(Ack(.pubRec, packetID: last.packetID)))
            while try await client.next() != .ack(Ack(.pubRel, packetID: last.packetID)) {}
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(try await broker.log(of: "c").inFlight == 61)
            let client = try await broker.reconnect("c")
            let payloads = try await client.take(99, finishing: 100)
            #expect(payloads == self.texts(0..<60) + self.texts(61..<100))
            #expect(try await eventually { try await self.isEmpty(storage) })
        }
    }

    @Test func moreWaitsInMemoryForAClientThatIsConnectedUntilItGoes() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage) { $0.queueMemoryBytes = 64 }) { broker async throws in
            try await self.fill(broker, 0..<0)
            let client = try await broker.reconnect("c") { $0.receiveMaximum = 1 }
            try await self.publish(broker, 0..<100)
            #expect(try await broker.log(of: "c").heldWaitingCount == 99)
            try await self.publish(broker, 100..<1000)
            let held = try await broker.log(of: "c").heldWaitingCount
            #expect(200..<500 ~= held)
            try await client.abort()
            #expect(try await eventually { try await broker.log(of: "c").heldWaitingCount < 40 })
            #expect(try await broker.log(of: "c").waitingCount == 999)
            let again = try await broker.reconnect("c")
            #expect(try await again.take(1000) == self.texts(0..<1000))
            try await again.expectNothing()
            #expect(try await eventually { try await self.isEmpty(storage) })
            #expect(try await broker.log(of: "c").byteCount == 0)
        }
    }

    @Test func aPageThatIsReadWhileTheClientGoesIsNotPutBehindWhatLeftTheMemory() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<200)
            let log = try await broker.log(of: "c")
            storage.hold()
            // Half of the memory is in flight, so the next page is asked for; then the rest of it goes too.
            let client = try await broker.reconnect("c") { $0.receiveMaximum = 12 }
            #expect(try await eventually { try await broker.log(of: "c").inFlight == 12 })
            #expect(try await broker.log(of: "c").entries.count == log.entries.count)
            try await self.shrinkQueue(broker)
            storage.letGo()
            #expect(try await client.take(200) == self.texts(0..<200))
        }
    }

    /// As if the client went away, whatever waits in memory goes to the storage.
    private func shrinkQueue(_ broker: TestBroker) async throws {
        for shard in broker.broker.shards {
            try await shard.eventLoop.submit {
                shard.value.sessions[ClientID(text: "c")]?.state.log.moveToTail(memory: 0)
            }.get()
        }
    }

    @Test func aClientThatMovesWhileItsMessagesAreReadGetsThemInOrder() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<200)
            storage.hold()
            var clients: [TestClient] = []
            for _ in 0..<4 { clients.append(try await broker.reconnect("c") { $0.receiveMaximum = 5 }) }
            storage.letGo()
            let client = try #require(clients.last)
            #expect(try await client.take(200) == self.texts(0..<200))
            try await client.expectNothing()
            #expect(try await eventually { try await self.isEmpty(storage) })
        }
    }

    /// A client comes, takes some, goes or is taken over, messages come meanwhile, and the broker is started again.
    @Test(arguments: 1...6)
    func nothingIsLostOrDoubledWhateverHappens(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let storage = MemoryStorage()
        let isReceivedLimited = Bool.random(using: &random)
        var published = 0
        var finished = 0
        try await TestBroker.run(self.configuration(storage)) { try await self.fill($0, 0..<0) }
        for _ in 0..<3 {
            try await TestBroker.run(self.configuration(storage)) { broker async throws in
                for _ in 0..<6 {
                    let publisher = try await broker.connect("p")
                    let numbers = published..<(published + Int.random(in: 0...80, using: &random))
                    published = numbers.upperBound
                    async let isPublished: Void = publisher.publish(numbers)
                    if Bool.random(using: &random) { try await isPublished }
                    let client = try await broker.reconnect("c") { properties in
                        if isReceivedLimited { properties.receiveMaximum = 7 }
                    }
                    let count = Int.random(in: 0...(published - finished), using: &random)
                    #expect(try await client.take(count) == self.texts(finished..<(finished + count)))
                    finished += count
                    if Bool.random(using: &random) { try await client.abort() }
                    try await isPublished
                }
            }
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.reconnect("c")
            #expect(try await client.take(published - finished) == self.texts(finished..<published))
            try await client.expectNothing()
            #expect(try await eventually { try await self.isEmpty(storage) })
        }
    }

    // MARK: The end

    enum End: CaseIterable { case cleanStart, expiryZero, anotherLife }

    @Test(arguments: End.allCases)
    func nothingOfAnEndedSessionIsLeft(end: End) async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<200)
            // A message that another session has too stays.
            let other = try await broker.connect("d", keeps: true)
            try await other.subscribe("t")
            try await other.disconnect()
            try await self.publish(broker, 200..<210)
            if end == .cleanStart { _ = try await broker.connect("c") }
            if end == .expiryZero {
                let client = try await broker.reconnect("c")
                var disconnect = Disconnect()
                disconnect.properties.sessionExpiryInterval = 0
                try await client.send(.disconnect(disconnect))
                while try await client.next() != nil {}
            }
            guard end != .anotherLife else { return }
            #expect(try await eventually { try await storage.all(.deliveries).count == 10 })
            #expect(try await eventually { try await storage.all(.sessions).count == 1 })
            #expect(try await eventually { try await storage.all(.messages).count == 10 })
        }
        if end == .anotherLife {
            // As if the process had ended before all was found.
            let key = try #require(try await storage.all(.sessions).first?.key)
            try await storage.write([.delete(key)], isDurable: true)
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(broker.sessionCount == 1)
            let client = try await broker.reconnect("d")
            #expect(try await client.take(10) == self.texts(200..<210))
            #expect(try await eventually { try await self.isEmpty(storage) })
            #expect(try await storage.all(.subscriptions).count == 1)
        }
    }

    @Test func aClientWhoseSessionEndsWithItsConnectionIsSentAllFirst() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<200)
            let client = try await broker.reconnect("c") { $0.sessionExpiryInterval = 0 }
            #expect(try await client.take(200) == self.texts(0..<200))
            try await client.disconnect()
            #expect(try await eventually { try await storage.all(.sessions).isEmpty })
            #expect(try await eventually { try await self.isEmpty(storage) })
        }
    }

    @Test func aSessionWithSharedSubscriptionsKeepsAllInMemory() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<100, filter: "$share/g/t")
            #expect(try await broker.log(of: "c").heldWaitingCount == 100)
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(try await broker.log(of: "c").heldWaitingCount == 100)
            let other = try await broker.connect("d")
            try await other.subscribe("$share/g/t", .exactlyOnce)
            _ = try await broker.connect("c")
            #expect(try await other.take(100) == self.texts(0..<100))
        }
    }

    @Test func whatExpiresInTheStorageIsNotSent() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<0)
            let publisher = try await broker.connect("p")
            var properties = Properties()
            properties.messageExpiryInterval = 1
            for number in 0..<60 { try await publisher.publish("t", "\(number)", properties: properties) }
            try await publisher.publish("t", "60")
            let end = BrokerShared.wallClock() + 1000
            #expect(try await eventually { BrokerShared.wallClock() > end })
            let client = try await broker.reconnect("c")
            #expect(try await client.take(1) == ["60"])
            #expect(await broker.statistics.droppedExpired == 60)
            #expect(try await eventually { try await self.isEmpty(storage) })
        }
    }

    // MARK: Limits

    @Test(arguments: [false, true])
    func whatWaitsInTheStorageCountsForTheLimits(dropsOldest: Bool) async throws {
        let storage = MemoryStorage()
        let configuration = self.configuration(storage) {
            $0.maximumQueuedMessages = 100
            $0.queueFullPolicy = dropsOldest ? .dropOldest : .dropNewest
        }
        try await TestBroker.run(configuration) { broker async throws in
            try await self.fill(broker, 0..<300)
            #expect(try await eventually { try await broker.log(of: "c").waitingCount == 100 })
            #expect(await broker.statistics.droppedQueueFull == 200)
            #expect(try await eventually { try await storage.all(.deliveries).count == 100 })
            let client = try await broker.reconnect("c")
            #expect(try await client.take(100) == self.texts(dropsOldest ? 200..<300 : 0..<100))
            try await client.expectNothing()
        }
    }

    @Test func bytesInTheStorageCountForTheLimits() async throws {
        let configuration = self.configuration(MemoryStorage()) { $0.maximumQueuedBytes = 10_000 }
        try await TestBroker.run(configuration) { broker async throws in
            try await self.fill(broker, 0..<0)
            let publisher = try await broker.connect("p")
            for _ in 0..<30 { try await publisher.publish("t", String(repeating: "x", count: 500)) }
            let log = try await broker.log(of: "c")
            #expect(log.byteCount < 10_000)
            #expect(log.waitingCount == 19)
            #expect(log.heldWaitingCount <= 2)
        }
    }

    // MARK: Faults

    @Test func whatCannotBeReadIsTriedAgain() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<200)
            storage.readError = .failed(reason: "test")
            let client = try await broker.reconnect("c")
            let held = try await broker.log(of: "c").entries.count
            #expect(try await client.take(held) == self.texts(0..<held))
            #expect(try await eventually { storage.failedReads > 1 })
            // All else goes on.
            try await self.publish(broker, 200..<210)
            try await client.expectNothing()
            storage.readError = nil
            #expect(try await client.take(210 - held) == self.texts(held..<210))
            #expect(try await eventually { try await self.isEmpty(storage) })
        }
    }

    @Test func whatIsStoredCanBeReadWhileNothingCanBeWritten() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage) { $0.queueMemoryBytes = 2048 }) { broker async throws in
            try await self.fill(broker, 0..<60, qos: .atLeastOnce)
            storage.error = .full(reason: "test")
            let client = try await broker.reconnect("c")
            #expect(try await client.take(60) == self.texts(0..<60))
            storage.error = nil
            #expect(try await eventually { try await self.isEmpty(storage) })
        }
    }

    @Test func messagesThatAreGoneFromTheStorageDoNotKeepOthersWaiting() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.fill(broker, 0..<200)
            let deliveries = try await storage.all(.deliveries)
            let messages = try await storage.all(.messages)
            try await storage.write(
                deliveries[100..<120].map { .delete($0.key) } + messages[150..<160].map { .delete($0.key) },
                isDurable: true
            )
            let client = try await broker.reconnect("c")
            #expect(
                try await client.take(170) == self.texts(0..<100) + self.texts(120..<150) + self.texts(160..<200)
            )
            try await self.publish(broker, 200..<201)
            #expect(try await client.take(1) == ["200"])
            #expect(try await eventually { try await broker.log(of: "c").waitingCount == 0 })
        }
    }
}

extension TestBroker {
    /// What is on its way to a client.
    fileprivate func log(of id: String) async throws -> OutboundLog {
        for shard in self.broker.shards {
            let log = try await shard.eventLoop.submit { shard.value.sessions[ClientID(text: id)]?.state.log }.get()
            if let log { return log }
        }
        throw TestClient.Failure.closed
    }
}

extension TestClient {
    /// Publishes numbers to `t`, at QoS 1 and 2 in turn, and waits until the broker has taken them in.
    fileprivate func publish(_ numbers: Range<Int>) async throws {
        var packets: [Packet] = []
        for number in numbers {
            let qos = number % 2 == 0 ? QoS.atLeastOnce : .exactlyOnce
            packets.append(.message("t", "\(number)", qos, id: self.nextPacketID()))
        }
        try await self.send(bytes: self.encode(packets))
        var missing = numbers.count
        while missing > 0 {
            guard case .ack(let ack)? = try await self.next() else { throw Failure.closed }
            if ack.kind == .pubRec {
                try await self.send(.ack(Ack(.pubRel, packetID: ack.packetID)))
            } else {
                missing -= 1
            }
        }
    }

    /// Takes messages and finishes their exchanges; what comes besides is not acknowledged.
    ///
    /// - Parameter finishing: exchanges, if some began earlier.
    fileprivate func take(_ count: Int, finishing: Int? = nil) async throws -> [String] {
        var payloads: [String] = []
        var unfinished = finishing ?? count
        while payloads.count < count || unfinished > 0 {
            switch try await self.next() {
            case .publish(let message)? where payloads.count < count:
                payloads.append(message.text)
                if message.qos == .atLeastOnce { unfinished -= 1 }
                let kind: AckKind = message.qos == .exactlyOnce ? .pubRec : .pubAck
                try await self.send(.ack(Ack(kind, packetID: message.packetID)))
            case .publish?: continue
            case .ack(let ack)? where ack.kind == .pubRel:
                unfinished -= 1
                try await self.send(.ack(Ack(.pubComp, packetID: ack.packetID)))
            case let packet?: throw Failure.unexpected(packet)
            case nil: throw Failure.closed
            }
        }
        // The broker has taken in what was sent last when it answers.
        try await self.send(.pingReq)
        while try await self.next() != .pingResp {}
        return payloads
    }
}
