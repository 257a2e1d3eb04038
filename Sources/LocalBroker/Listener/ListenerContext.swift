import NIOCore
import NIOSSL
import Synchronization

/// What the connections of one listener share.
final class ListenerContext: Sendable {
    let configuration: BrokerConfiguration.Listener
    /// The certificates in force; nil for a listener without TLS.
    let tls: TLSContext?
    /// Which pages of browsers may open a WebSocket.
    private let origins: WebSocketOrigins
    /// The largest payload of a WebSocket frame, in bytes.
    private let webSocketPayloadMax: Int
    /// Connections that are open, whatever they have said yet.
    let openConnections = Atomic<Int>(0)

    /// - Throws: `TLSFileError` if a certificate or key cannot be used. Reads files, which blocks.
    init(_ configuration: BrokerConfiguration.Listener, of broker: BrokerConfiguration) throws(TLSFileError) {
        self.configuration = configuration
        self.origins = WebSocketOrigins(configuration, of: broker)
        if let options = configuration.tls {
            self.tls = try TLSContext(options, isWebSocket: configuration.webSocket != nil)
        } else {
            self.tls = nil
        }
        // A frame may hold several packets, and a client need not know where one ends.
        self.webSocketPayloadMax = broker.maximumPacketSize + 64 * 1024
    }

    /// Nothing is between the socket and `Connection`: it has the socket's reads to itself.
    var isBare: Bool { self.writesToSocket && !self.configuration.acceptsProxyProtocol }

    /// What `Connection` writes is what the socket sends.
    var writesToSocket: Bool { self.configuration.tls == nil && self.configuration.webSocket == nil }

    /// Puts the handlers of a new connection into its channel, from the socket inwards.
    func addHandlers(to channel: any Channel, shard: Shard) throws {
        let pipeline = channel.pipeline.syncOperations
        let connection = Connection(shard: shard, listener: self)
        if let options = channel.syncOptions {
            try options.setOption(.maxMessagesPerRead, value: 1)
            try options.setOption(.writeBufferWaterMark, value: .init(low: 64 * 1024, high: 256 * 1024))
            try options.setOption(.recvAllocator, value: shard.makeReadAllocator(isEncrypted: self.tls != nil))
        }
        if !self.isBare { try pipeline.addHandler(ReadBufferHandler(shard: shard, isEncrypted: self.tls != nil)) }
        if self.configuration.acceptsProxyProtocol { try pipeline.addHandler(ProxyHeaderHandler(connection)) }
        if let tls { try pipeline.addHandler(tls.makeHandler()) }
        if let options = self.configuration.webSocket {
            let handler = WebSocketHandler(
                path: options.path,
                origins: self.origins,
                shard: shard,
                payloadMax: self.webSocketPayloadMax
            )
            try pipeline.addHandler(handler)
        }
        try pipeline.addHandler(connection)
    }
}
