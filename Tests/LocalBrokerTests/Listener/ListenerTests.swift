import NIOCore
import Protocol
import Testing

@testable import LocalBroker

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite("Listeners")
struct ListenerTests {
    @Test("clients of all transports meet in one broker, and each listener is found by its name")
    func all() async throws {
        try await TestCertificates.run { certificates in
            let tls = certificates.options()
            let configuration = BrokerConfiguration.test {
                $0.listeners = [
                    .init(name: "mqtt", host: "127.0.0.1", port: 0),
                    .init(name: "mqtts", host: "127.0.0.1", port: 0, tls: tls),
                    .init(name: "ws", host: "127.0.0.1", port: 0, webSocket: .init()),
                    .init(name: "wss", host: "127.0.0.1", port: 0, tls: tls, webSocket: .init()),
                ]
            }
            try await TestBroker.run(configuration) { broker in
                let prepares: [(String, @Sendable (any Channel) throws -> Void)] = try [
                    ("mqtt", { _ in }), ("mqtts", TestTransport.tls()), ("ws", TestTransport.webSocket()),
                    ("wss", TestTransport.webSocket(below: TestTransport.tls())),
                ]
                #expect(broker.broker.addresses.count == 4)
                #expect(broker.broker.addresses.first == broker.broker.address(ofListener: "mqtt"))
                #expect(broker.broker.address(ofListener: "other") == nil)
                var clients: [TestClient] = []
                for (name, prepare) in prepares {
                    let address = try #require(broker.broker.address(ofListener: name))
                    let client = try await TestClient(to: address, version: .v5, prepare: prepare)
                    try await client.send(.connect(.test(name)))
                    guard case .connAck = try await client.next() else { throw TestClient.Failure.closed }
                    try await client.subscribe("t", .atMostOnce)
                    clients.append(client)
                }
                try await clients[0].send(.message("t", "to all"))
                for client in clients { try await client.expectMessage("t", "to all", .atMostOnce) }
            }
        }
    }

    @Test("the log names the flags by which an anonymous client was refused")
    func refusal() throws {
        let access = try AccessControl(.test())
        let request = AuthenticationRequest(clientID: "a", version: .v5, remoteAddress: nil, listener: "wss")
        for policy in [BrokerConfiguration.AnonymousPolicy.nobody, .privateAddresses] {
            guard case .refused(_, let text)? = access.immediateVerdict(request, policy: policy) else {
                Issue.record("the client was accepted")
                continue
            }
            #expect(text.contains("--anonymous") && text.contains("--wss-anonymous"))
        }
    }

    @Test("a host that does not exist is told in plain words, without the call that failed")
    func noSuchHost() async throws {
        let configuration = BrokerConfiguration.test { $0.listeners[0].host = "no-such-host.invalid" }
        await #expect {
            try await Broker.start(configuration: configuration)
        } throws: { error in
            "\(error)".hasSuffix("there is no host named no-such-host.invalid")
        }
        #expect(ListenFailure.reason(IOError(errnoCode: ENOBUFS, reason: "bind")) == String(cString: strerror(ENOBUFS)))
    }

    @Test("the largest number of bytes that a program can ask for is no overflow")
    func hugeQueue() async throws {
        try await TestBroker.run(.test { $0.maximumQueuedBytes = .max }) { broker in
            let client = try await broker.connect("a")
            try await client.send(.pingReq)
            try await client.expect(.pingResp)
        }
    }

    @Test("a client's socket sends at once, and takes a bounded number of bytes beyond what is on its way")
    func socketOptions() async throws {
        try await TestBroker.run { broker in
            _ = try await broker.connect("a")
            var options: [[CInt]] = []
            for shard in broker.broker.shards {
                options += try await shard.eventLoop.submit {
                    shard.value.connections.values.map { connection in
                        [CInt(TCP_NODELAY), CInt(DirectSocket.unsentLimit.rawValue)].map { option in
                            var value: CInt = -1
                            var size = socklen_t(MemoryLayout<CInt>.size)
                            getsockopt(connection.descriptor, CInt(IPPROTO_TCP), option, &value, &size)
                            return value
                        }
                    }
                }.get()
            }
            #expect(options == [[1, CInt(DirectSocket.unsentBytesMax)]])
        }
    }

    @Test("a check says what a start would, and listens nowhere")
    func check() async throws {
        try await TestFiles.run { files in
            let wrong = try files.write("wrong", "user\n")
            await #expect {
                try await Broker.check(.access(rules: wrong))
            } throws: { error in
                "\(error)".contains(wrong) && "\(error)".contains("line 1")
            }
            let absent = files.directory + "absent"
            await #expect {
                try await Broker.check(.access(passwords: absent))
            } throws: { error in
                // Once, and not once more for the reason.
                "\(error)".ranges(of: absent).count == 1
            }
            let secure = BrokerConfiguration.test {
                $0.listeners[0].tls = .init(certificateFile: wrong, privateKeyFile: wrong)
            }
            await #expect(throws: BrokerError.self) { try await Broker.check(secure) }
            try await Broker.check(.test { $0.listeners[0].host = "192.0.2.1" })
        }
    }
}
