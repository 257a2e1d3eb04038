import Logging
import NIOCore
import NIOSSL
import NIOTLS

/// What is below MQTT: the client's address and certificate, and what goes wrong there.
extension Connection {
    /// A proxy has said where the client is; nil if it has not, and the socket's address stands.
    func onProxied(source: SocketAddress?) {
        if let source { self.remoteAddress = source }
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
        guard let reason = self.count(error) else {
            // A reset, a failed write, an end without goodbye: the connection is of no use any more.
            context.close(promise: nil)
            return
        }
        guard self.isOpen else { return }
        self.shard.beginTick()
        self.shard.logger.info("closing a client: \(reason)", metadata: self.metadata)
        self.close()
    }

    /// Counts what the peer did wrong below MQTT.
    ///
    /// - Returns: it in words; nil for what is nobody's mistake.
    private func count(_ error: any Error) -> String? {
        switch error {
        case let error as WebSocketError:
            self.shard.statistics.webSocketFailures += 1
            return "\(error)"
        case let error as ProxyHeaderError:
            self.shard.statistics.proxyHeaderFailures += 1
            return "\(error)"
        default:
            guard let reason = TLSFailure.reason(error) else { return nil }
            if self.isOpen { self.shard.statistics.tlsFailures += 1 }
            return reason
        }
    }
}
