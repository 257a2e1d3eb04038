import ArgumentParser
import LocalBroker
import Testing

@testable import node

@Suite("The broker's configuration from settings")
struct BrokerConfigurationTests {
    private static func configuration(_ arguments: String...) throws -> BrokerConfiguration {
        let options = try NodeOptions.parse(arguments)
        var configuration = BrokerConfiguration()
        options.mqtt.apply(to: &configuration)
        options.limits.apply(to: &configuration)
        options.access.apply(to: &configuration)
        return configuration
    }

    @Test("limits may be numbers, rates, shares and sizes")
    func limits() throws {
        let configuration = try Self.configuration(
            "--max-connections=10",
            "--max-connections-per-address=2",
            "--client-message-rate=100/500",
            "--client-byte-rate=4096",
            "--queue-full=drop-oldest",
            "--max-topic-length=100",
            "--max-sessions=7",
            "--memory-mark=50%",
            "--flap-connects=5",
            "--flap-within=6",
            "--flap-hold-off=8"
        )
        #expect(configuration.maximumConnections == 10)
        #expect(configuration.maximumConnectionsPerAddress == 2)
        #expect(configuration.clientMessageRate == .init(perSecond: 100, burst: 500))
        #expect(configuration.clientByteRate == .init(perSecond: 4096))
        #expect(configuration.queueFullPolicy == .dropOldest)
        #expect(configuration.maximumTopicLength == 100)
        #expect(configuration.maximumSessions == 7)
        #expect(configuration.memoryMark == .share(0.5))
        #expect(configuration.flapLimit == .init(connects: 5, withinSeconds: 6, holdOffSeconds: 8))
        #expect(try Self.configuration("--memory-mark=2G").memoryMark == .bytes(2 << 30))
        #expect(try Self.configuration("--memory-mark=off").memoryMark == .off)
        let rate = BrokerConfiguration.Rate(perSecond: 64 << 10, burst: 1 << 20)
        #expect(try Self.configuration("--client-byte-rate=64K/1m").clientByteRate == rate)
        #expect(try Self.configuration("--max-queued-bytes=1024G").maximumQueuedBytes == 1 << 40)
    }

    @Test("what MQTT lets a broker choose is handed on")
    func mqtt() throws {
        let configuration = try Self.configuration(
            "--max-session-expiry=60",
            "--max-keep-alive=30",
            "--receive-maximum=5",
            "--topic-alias-maximum=0",
            "--outbound-topic-aliases=1",
            "--response-information=r/%c",
            "--share-strategy=round-robin"
        )
        #expect(configuration.maximumSessionExpiry == 60)
        #expect(configuration.maximumKeepAlive == 30)
        #expect(configuration.receiveMaximum == 5)
        #expect(configuration.topicAliasMaximum == 0)
        #expect(configuration.outboundTopicAliasMaximum == 1)
        #expect(configuration.responseInformation == "r/%c")
        #expect(configuration.shareStrategy == .roundRobin)
    }

    @Test("access is handed on")
    func access() throws {
        let configuration = try Self.configuration(
            "--password-file=p",
            "--acl-file=a",
            "--no-scram",
            "--jwt-secret-file=s",
            "--jwt-key-file=k1",
            "--jwt-key-file=k2",
            "--jwt-user-claim=u",
            "--jwt-audience=x",
            "--jwt-issuer=y",
            "--allow-public"
        )
        #expect(configuration.allowsPublicAddresses)
        #expect(configuration.access.passwordFile == "p")
        #expect(configuration.access.aclFile == "a")
        #expect(!configuration.access.allowsSCRAM)
        let tokens = try #require(configuration.access.jwt)
        #expect(tokens.secretFile == "s")
        #expect(tokens.keyFiles == ["k1", "k2"])
        #expect((tokens.userClaim, tokens.audience, tokens.issuer) == ("u", "x", "y"))
    }

    @Test("without keys no tokens are taken, and the defaults are the library's")
    func defaults() throws {
        let configuration = try Self.configuration()
        let standard = BrokerConfiguration()
        #expect(configuration.access.jwt == nil)
        #expect(configuration.access.allowsSCRAM == standard.access.allowsSCRAM)
        #expect(configuration.maximumSessionExpiry == standard.maximumSessionExpiry)
        #expect(configuration.maximumPacketSize == standard.maximumPacketSize)
        #expect(configuration.maximumConnections == standard.maximumConnections)
        #expect(configuration.clientMessageRate == standard.clientMessageRate)
        #expect(configuration.queueFullPolicy == standard.queueFullPolicy)
        #expect(configuration.shareStrategy == standard.shareStrategy)
        #expect(configuration.memoryMark == standard.memoryMark)
        #expect(configuration.flapLimit == standard.flapLimit)
    }
}
