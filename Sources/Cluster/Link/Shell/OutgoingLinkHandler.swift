import NIOCore

/// One connection of an outgoing link: tells the link of its events, reads what the called node says.
///
/// Owned by the link loop.
final class OutgoingLinkHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What the called node may say is short; a part of its report for a check is the longest.
    private static let frameBytesMax = 64 << 10

    private weak let link: OutgoingLink?
    /// The member that carries the connection; nil where it is direct.
    let via: String?
    private var decoder = LinkFrameDecoder(frameBytesMax: OutgoingLinkHandler.frameBytesMax)

    init(link: OutgoingLink, via: String?) {
        self.link = link
        self.via = via
    }

    func channelActive(context: ChannelHandlerContext) {
        if let link = self.link {
            link.onConnected(self, channel: context.channel)
        } else {
            context.close(promise: nil)
        }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.link?.onClosed(self)
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let link = self.link, link.isPresent(self) else { return context.close(promise: nil) }
        var bytes = self.unwrapInboundIn(data)
        link.onHeard()
        self.decoder.buffer.writeBuffer(&bytes)
        do throws(LinkError) {
            while let frame = try self.decoder.next() { try link.onFrame(frame) }
            self.decoder.reclaim()
        } catch {
            link.fail(error)
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable, let link = self.link, link.isPresent(self) { link.drain() }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.link?.onError(self, error)
        // A reset shows as an error, an orderly end does not; both end in channelInactive.
        context.close(promise: nil)
    }
}

@available(*, unavailable)
extension OutgoingLinkHandler: Sendable {}
