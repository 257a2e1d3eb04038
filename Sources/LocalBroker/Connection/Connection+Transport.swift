import Logging
import NIOCore
import NIOSSL
import NIOTLS

/// What is below MQTT: the client's address and certificate, and what goes wrong there.
extension Connection {
    /// A proxy has said where the client is; nil if it has not, and the socket's address stands.
    func onProxied(source: SocketAddress?) {
        guard let source else { return }
        self.isBehindPublicProxy = !AddressRule.isPrivate(self.remoteAddress)
        self.remoteAddress = source
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent { self.onHandshake(context) }
    }

    /// TLS is established: takes the name out of the client's certificate, which has been verified.
    private func onHandshake(_ context: ChannelHandlerContext) {
        guard let tls = self.listener.tls, tls.options.clientCertificates != .none,
            // It throws only where there is no such handler, and then there is no certificate.
            let handler = try? context.pipeline.syncOperations.handler(type: NIOSSLServerHandler.self),
            let certificate = handler.peerCertificate
        else { return }
        self.peerCommonName = PeerCertificate.commonName(certificate)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let reason = Self.mistake(error) else {
            // A reset, a failed write, an end without goodbye: the connection is of no use any more.
            context.close(promise: nil)
            return
        }
        guard self.isOpen else { return }
        self.shard.beginTick()
        self.shard.statistics[keyPath: reason.counter] += 1
        self.log(.info, "closing a client: \(reason.text)")
        self.close()
    }

    /// What the peer did wrong below MQTT, and where it is counted; nil for what is nobody's mistake.
    private static func mistake(
        _ error: any Error
    ) -> (text: String, counter: WritableKeyPath<ShardStatistics, UInt64>)? {
        switch error {
        case let error as WebSocketError: ("\(error)", \.webSocketFailures)
        case let error as ProxyHeaderError: ("\(error)", \.proxyHeaderFailures)
        default: TLSFailure.reason(error).map { ($0, \.tlsFailures) }
        }
    }

    /// The socket, where nothing that changes bytes is between it and this handler; -1 elsewhere.
    func socket(_ context: ChannelHandlerContext) -> CInt {
        guard self.listener.writesToSocket else { return -1 }
        // It throws only for a channel that is closed, which channelInactive tells.
        let socket = try? context.pipeline.syncOperations.withUnsafeTransportIfAvailable { (it: CInt) in it }
        return socket ?? -1
    }
}
