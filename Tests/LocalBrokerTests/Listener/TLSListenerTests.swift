import NIOCore
import NIOPosix
import NIOSSL
import Protocol
import Testing
import X509

@testable import LocalBroker

@Suite("MQTT over TLS")
struct TLSListenerTests {
    @Test(
        "messages of any size pass both ways",
        arguments: [(TLSVersion.tlsv12, false), (.tlsv13, false), (.tlsv13, true)]
    )
    func messages(version: TLSVersion, isWebSocket: Bool) async throws {
        try await TestCertificates.runBroker(.test { if isWebSocket { $0.listeners[0].webSocket = .init() } }) {
            _,
            broker in
            let tls = try TestTransport.tls {
                $0.minimumTLSVersion = version
                $0.maximumTLSVersion = version
            }
            let prepare = isWebSocket ? TestTransport.webSocket(below: tls) : tls
            let client = try await broker.connect("a", prepare: prepare)
            try await client.subscribe("t")
            for size in [0, 1, 1000, 20_000, 100_000, 1_000_000] {
                let payload = String(repeating: "x", count: size)
                try await client.send(.message("t", payload, .atLeastOnce, id: 1))
                try await client.expectMessage("t", payload)
                try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
            }
            try await client.disconnect()
        }
    }

    @Test("TLS 1.2 is refused where 1.3 is the lowest, and older versions always")
    func minimumVersion() async throws {
        try await TestCertificates.runBroker(minimumVersion: .v13) { _, broker in
            let wire = try await TestWire(
                to: broker.address,
                prepare: TestTransport.tls { $0.maximumTLSVersion = .tlsv12 }
            )
            try await wire.expectClosed()
            #expect(wire.negotiated == nil)
            try await broker.connect("a", prepare: TestTransport.tls()).expectNothing()
        }
        try await TestCertificates.runBroker { _, broker in
            let prepare = try TestTransport.tls {
                $0.minimumTLSVersion = .tlsv1
                $0.maximumTLSVersion = .tlsv11
            }
            let wire = try await TestWire(to: broker.address, prepare: prepare)
            try await wire.expectClosed()
            #expect(wire.negotiated == nil)
        }
    }

    @Test(
        "ALPN agrees on what is spoken, and is not insisted on",
        arguments: [
            (["mqtt"], false, "mqtt"), (["h2", "http/1.1"], true, "http/1.1"), (["x"], false, nil), ([], false, nil),
        ]
            as [([String], Bool, String?)]
    )
    func alpn(offered: [String], isWebSocket: Bool, agreed: String?) async throws {
        try await TestCertificates.runBroker(.test { if isWebSocket { $0.listeners[0].webSocket = .init() } }) {
            _,
            broker in
            let wire = try await TestWire(to: broker.address, prepare: TestTransport.tls(protocols: offered))
            #expect(try await eventually { wire.negotiated != nil })
            #expect(wire.negotiated == .some(agreed))
        }
    }

    // MARK: Clients' certificates

    enum Shown: Sendable {
        case nothing
        case valid
        case expired
        case fromStranger
    }

    @Test(
        "a client's certificate is verified as the listener says",
        arguments: [
            (.none, .nothing, true, nil), (.none, .valid, true, nil),
            (.optional, .nothing, true, nil), (.optional, .valid, true, "meter 7"),
            (.optional, .expired, false, nil), (.optional, .fromStranger, false, nil),
            (.required, .nothing, false, nil), (.required, .valid, true, "meter 7"),
            (.required, .expired, false, nil), (.required, .fromStranger, false, nil),
        ] as [(BrokerConfiguration.Listener.TLSOptions.ClientCertificates, Shown, Bool, String?)],
        [TLSVersion.tlsv12, .tlsv13]
    )
    func clientCertificate(
        example: (BrokerConfiguration.Listener.TLSOptions.ClientCertificates, Shown, Bool, String?),
        version: TLSVersion
    ) async throws {
        let (mode, shown, isServed, name) = example
        try await TestCertificates.runBroker(clientCertificates: mode) { certificates, broker in
            let stranger = TestCertificates(
                directory: certificates.directory,
                authority: try TestCertificates.makeAuthority("authority")
            )
            let certificate: TestCertificates.Signed? =
                switch shown {
                case .nothing: nil
                case .valid: try certificates.sign("meter 7")
                case .expired: try certificates.sign("meter 7", daysLeft: -1)
                case .fromStranger: try stranger.sign("meter 7")
                }
            let prepare = try TestTransport.tls(client: certificate) { $0.maximumTLSVersion = version }
            let client = try await TestClient(to: broker.address, version: .v5, prepare: prepare)
            if isServed {
                try await client.send(.connect(.test("a")))
                guard case .connAck = try await client.next() else { throw TestClient.Failure.closed }
                #expect(try await broker.connection(of: "a") { $0.peerCommonName } == .some(name))
            } else {
                // The write fails where the broker has closed before.
                try? await client.send(.connect(.test("a")))
                try await client.expectClosed()
                #expect(broker.sessionCount == 0)
                #expect(await broker.statistics.tlsFailures == 1)
            }
        }
    }

    @Test("the last of several common names counts, and none is none")
    func commonName() throws {
        let certificates = TestCertificates(directory: "", authority: try TestCertificates.makeAuthority("authority"))
        func name(_ subject: DistinguishedName) throws -> String? {
            let signed = try certificates.sign(subject: subject)
            return PeerCertificate.commonName(
                try NIOSSLCertificate(bytes: Array(signed.certificatePEM.utf8), format: .pem)
            )
        }
        #expect(
            try name(
                DistinguishedName {
                    CommonName("first")
                    OrganizationName("Dunlin")
                    CommonName("zähler/7")
                }
            ) == "zähler/7"
        )
        #expect(try name(DistinguishedName { OrganizationName("Dunlin") }) == nil)
        #expect(try name(DistinguishedName {}) == nil)
    }

    // MARK: Files

    struct WrongFile: Sendable, CustomTestStringConvertible {
        var testDescription: String
        /// Spoils what was right.
        var spoil: @Sendable (TestCertificates, inout BrokerConfiguration.Listener.TLSOptions) throws -> Void
        /// The end of the name that the error must contain, and a part of the reason.
        var name: String
        var reason: String
    }

    static let wrongFiles: [WrongFile] = [
        WrongFile(
            testDescription: "no certificate file",
            spoil: { $1.certificateFile = $0.path("none.pem") },
            name: "/none.pem",
            reason: "No such file"
        ),
        WrongFile(
            testDescription: "a directory",
            spoil: { $1.certificateFile = $0.directory },
            name: "dunlin-tls",
            reason: "Is a directory"
        ),
        WrongFile(
            testDescription: "a certificate file that is no PEM",
            spoil: { certificates, _ in try certificates.write("nonsense", to: "cert.pem") },
            name: "/cert.pem",
            reason: "PEM"
        ),
        WrongFile(
            testDescription: "a damaged certificate",
            spoil: { certificates, _ in
                try certificates.write(
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                    to: "cert.pem"
                )
            },
            name: "/cert.pem",
            reason: "PEM"
        ),
        WrongFile(
            testDescription: "no key file",
            spoil: { $1.privateKeyFile = $0.path("none.key") },
            name: "/none.key",
            reason: "No such file"
        ),
        WrongFile(
            testDescription: "a key file that is no key",
            spoil: { certificates, _ in
                try certificates.write(certificates.authority.certificatePEM, to: "key.pem")
            },
            name: "/key.pem",
            reason: "holds no PEM private key"
        ),
        WrongFile(
            testDescription: "a key of another certificate",
            spoil: { certificates, _ in try certificates.write(certificates.authority.keyPEM, to: "key.pem") },
            name: "/key.pem",
            reason: "does not belong to the certificate in"
        ),
        WrongFile(
            testDescription: "no authority file",
            spoil: {
                $1.clientCertificates = .required
                $1.authorityFile = $0.path("none.ca")
            },
            name: "/none.ca",
            reason: "No such file"
        ),
        WrongFile(
            testDescription: "no authority named",
            spoil: { $1.clientCertificates = .optional },
            name: "",
            reason: "without an authority file"
        ),
    ]

    @Test("a file that cannot be used stops the start, and the error names it and says why", arguments: wrongFiles)
    func wrongFile(wrong: WrongFile) async throws {
        try await TestCertificates.run { certificates in
            var configuration = BrokerConfiguration.test()
            var options = certificates.options()
            try wrong.spoil(certificates, &options)
            configuration.listeners = [.init(name: "mqtts", host: "127.0.0.1", port: 0, tls: options)]
            do {
                let broker = try await Broker.start(configuration: configuration)
                await broker.stop()
                Issue.record("the broker has started")
            } catch let error as BrokerError {
                #expect("\(error)".contains(wrong.name))
                #expect("\(error)".contains(wrong.reason))
                #expect("\(error)".contains("listener mqtts"))
            }
        }
    }

    /// The name in the certificate that the broker shows.
    private func shownName(_ broker: TestBroker) async throws -> String? {
        let wire = try await TestWire(to: broker.address, prepare: TestTransport.tls())
        #expect(try await eventually { wire.negotiated != nil })
        let name = try await wire.channel.pipeline.handler(type: NIOSSLClientHandler.self).flatMapThrowing {
            $0.peerCertificate.flatMap(PeerCertificate.commonName)
        }.get()
        try await wire.close()
        return name
    }

    @Test("new files are for new connections, wrong ones for none, and those that are there go on")
    func reload() async throws {
        try await TestCertificates.runBroker { certificates, broker in
            let established = try await broker.connect("a", prepare: TestTransport.tls())
            #expect(try await self.shownName(broker) == "localhost")
            let before = try #require(broker.broker.certificateExpirySeconds["mqtt"])

            try certificates.install(certificates.sign("second", daysLeft: 5))
            await broker.broker.reload()
            #expect(try await self.shownName(broker) == "second")
            let after = try #require(broker.broker.certificateExpirySeconds["mqtt"])
            #expect((4 * 86_400...6 * 86_400).contains(before - after))

            try certificates.write("nonsense", to: "cert.pem")
            await broker.broker.reload()
            #expect(try await self.shownName(broker) == "second")
            // The key of the one and the certificate of the other: as if read while they are being replaced.
            try certificates.write(certificates.sign("third").certificatePEM, to: "cert.pem")
            await broker.broker.reload()
            #expect(try await self.shownName(broker) == "second")

            try await established.expectNothing()
            try certificates.install(certificates.sign("fourth"))
            for _ in 0..<2 { broker.broker.shared.reloader.check(always: false) }
            #expect(try await self.shownName(broker) == "fourth")
            try await established.expectNothing()
        }
    }

    // MARK: Hostile clients

    @Test(
        "what is no TLS is closed and counted once, and others are served",
        arguments: ["\u{10}\u{0C}\u{0}\u{4}MQTT", "GET / HTTP/1.1\r\n\r\n", String(repeating: "\u{16}", count: 5000)]
    )
    func garbage(text: String) async throws {
        try await TestCertificates.runBroker { _, broker in
            let wire = try await TestWire(to: broker.address)
            try await wire.send(text)
            try await wire.expectClosed()
            #expect(await broker.statistics.tlsFailures == 1)
            try await broker.connect("a", prepare: TestTransport.tls()).expectNothing()
            #expect(broker.sessionCount == 1)
        }
    }

    @Test("who never begins, or never ends, the handshake is closed when its time is over", arguments: [0, 1, 3, 100])
    func slowHandshake(length: Int) async throws {
        try await TestCertificates.runBroker(.test { $0.connectTimeoutSeconds = 1 }) { _, broker in
            let wire = try await TestWire(to: broker.address)
            // The beginning of a record that begins a handshake.
            let beginning: [UInt8] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3] + Array(repeating: 7, count: 100)
            // It fails where a busy machine let the time pass before.
            try? await wire.send(Array(beginning[..<length]))
            try await wire.expectClosed()
            #expect(broker.sessionCount == 0)
        }
    }

    @Test("garbage after the handshake closes the connection, and the will is published")
    func garbageAfterHandshake() async throws {
        try await TestCertificates.runBroker { _, broker in
            let watcher = try await broker.connect("w", prepare: TestTransport.tls())
            try await watcher.subscribe("will")
            let will = Will(topic: "will", payload: Array("gone".utf8))
            let client = try await broker.connect("a", will: will, prepare: TestTransport.tls())
            // Past the client's TLS.
            try await client.channel.pipeline.context(handlerType: NIOSSLClientHandler.self).flatMap { context in
                context.writeAndFlush(NIOAny(ByteBuffer(repeating: 0x55, count: 50)))
            }.get()
            try await watcher.expectMessage("will", "gone", .atMostOnce)
            #expect(await broker.statistics.tlsFailures == 1)
        }
    }

    // MARK: The end

    @Test("the broker says goodbye in TLS too, after the reason in MQTT")
    func goodbye() async throws {
        try await TestCertificates.runBroker { _, broker in
            let wire = try await TestWire(to: broker.address, prepare: TestTransport.tls())
            try await wire.send(TestWebSocket.encode([.connect(.test("a"))]))
            #expect(try await eventually { wire.bytes.first == 0x20 })
            _ = wire.takeBytes()
            _ = try await broker.connect("a", prepare: TestTransport.tls())
            try await wire.expectClosed()
            #expect(wire.bytes == (try TestWebSocket.encode([.disconnect(Disconnect(reason: .sessionTakenOver))])))
            // A close without the goodbye would be an error of the client's TLS.
            #expect(wire.errors == [])
        }
    }

    @Test("the answers to what came before DISCONNECT arrive, and the end is clean")
    func disconnect() async throws {
        try await TestCertificates.runBroker { _, broker in
            let wire = try await TestWire(to: broker.address, prepare: TestTransport.tls())
            let packets: [Packet] = [.connect(.test("a")), .pingReq, .disconnect(Disconnect())]
            try await wire.send(TestWebSocket.encode(packets))
            try await wire.expectClosed()
            #expect(wire.bytes.suffix(2) == [0xD0, 0])
            #expect(wire.errors == [])
            #expect(try await eventually { broker.sessionCount == 0 })
        }
    }

    @Test("a client that vanishes without TLS's goodbye has its last messages taken and its will published")
    func uncleanEnd() async throws {
        try await TestCertificates.runBroker { _, broker in
            let watcher = try await broker.connect("w", prepare: TestTransport.tls())
            try await watcher.subscribe("#")
            let will = Will(topic: "will", payload: Array("gone".utf8))
            let client = try await broker.connect("a", will: will, prepare: TestTransport.tls())
            try await client.send(.message("t", "last"))
            try await client.channel.pipeline.context(handlerType: NIOSSLClientHandler.self).flatMap { $0.close() }
                .get()
            try await watcher.expectMessage("t", "last", .atMostOnce)
            try await watcher.expectMessage("will", "gone", .atMostOnce)
            #expect(await broker.statistics.tlsFailures == 0)
        }
    }

    @Test("a stalled publisher goes on over TLS, and keeps the order")
    func stall() async throws {
        try await TestCertificates.runBroker(.test { $0.maximumQueuedBytes = 64 * 1024 }) { _, broker in
            try await broker.checkStall(prepare: TestTransport.tls())
        }
    }

    @Test("a client that does not read costs no more memory over TLS than its limit")
    func slowReader() async throws {
        try await TestCertificates.runBroker(.test { $0.maximumQueuedBytes = 256 * 1024 }) { _, broker in
            let slow = try await broker.connect("slow", prepare: TestTransport.tls())
            try await slow.subscribe("t", .atMostOnce)
            try await slow.setReading(false)
            let publisher = try await broker.connect("p", prepare: TestTransport.tls())
            let payload = String(repeating: "x", count: 64 * 1024)
            var sent = 0
            while await broker.statistics.droppedSlowConsumer < 20 {
                try #require(sent < 4000)
                try await publisher.publish("t", payload)
                sent += 1
            }
            #expect(try await broker.largestBacklog() <= 256 * 1024)
            try await slow.setReading(true)
            try await slow.expectMessage("t", payload, .atMostOnce)
        }
    }
}
