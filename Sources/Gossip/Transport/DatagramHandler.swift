internal import NIOCore

/// Hands datagrams to the shell. Owned by the gossip event loop.
final class DatagramHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private let shell: GossipShell

    init(shell: GossipShell) {
        self.shell = shell
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var envelope = self.unwrapInboundIn(data)
        let bytes = envelope.data.readBytes(length: envelope.data.readableBytes) ?? []
        self.shell.received(bytes, from: envelope.remoteAddress)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.shell.datagramsClosed(context.channel)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.shell.datagramError(error)
    }
}

@available(*, unavailable)
extension DatagramHandler: Sendable {}
