import NIOCore
import Protocol
import Testing

@testable import LocalBroker

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
}
