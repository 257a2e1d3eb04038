import Logging
import NIOCore

#if os(Linux)
import Glibc
#endif

/// What the link says of itself.
extension OutgoingLink {
    func report(into statistics: inout LinkStatistics) {
        statistics.isUp = self.phase == .up
        statistics.state = self.state
        statistics.via = self.via
        statistics.directFailure = self.via == nil ? nil : self.directFailure
        statistics.age = self.hub.loop.now - self.changedAt
        statistics.bytesRaw = self.bytesRaw + (self.feed?.bytesRaw ?? 0)
        statistics.bytesSent = self.bytesSent + (self.feed?.bytesSent ?? 0)
        statistics.connects = self.connects
        statistics.snapshotsSent = self.snapshotsSent + (self.feed?.snapshotsSent ?? 0)
        statistics.retainedSent = self.retainedSent + (self.feed?.retainedSent ?? 0)
        statistics.sender = self.sender.counters
        statistics.queuedBytes = self.sender.bytes
        statistics.queuedMessages = self.sender.messages
        statistics.isCongested = self.sender.isCongested
        statistics.tableAcknowledged = self.tableAcknowledged
    }

    private var state: LinkState {
        switch self.phase {
        case .up: .connected
        case .waiting, .connecting, .awaitingAnswer: .connecting(reason: self.failure)
        case .stopped: .unlinked(reason: self.failure ?? "this node stops")
        }
    }

    /// The smoothed round trip of the connection in microseconds, which the kernel measures anyway; nil where there is no
    /// connection, or the kernel does not tell.
    var roundTripMicroseconds: EventLoopFuture<Int?> {
        #if os(Linux)
        // With a relay between it would be the round trip to that.
        if self.phase == .up, self.via == nil, let provider = self.channel as? any SocketOptionProvider {
            return provider.getTCPInfo().map { Int($0.tcpi_rtt) }.recover { _ in nil }
        }
        #endif
        return self.hub.loop.makeSucceededFuture(nil)
    }

    /// Logs the end of a connection with what has been sent to the peer so far.
    func log(_ event: Logger.Message) {
        self.hub.logger.info(
            event,
            metadata: [
                "peer": "\(self.name)",
                "messages": "\(self.sender.counters.sent)",
                "bytes": "\(self.bytesRaw)",
                "bytesOnTheLink": "\(self.bytesSent)",
            ]
        )
    }

    func report(lost: Int) {
        Self.report(lost: lost, for: self.name, self.hub.logger)
    }

    static func report(lost: Int, for name: String, _ logger: Logger) {
        guard lost > 0 else { return }
        logger.warning(
            "messages for a peer that is gone or out of reach are dropped",
            metadata: ["peer": "\(name)", "messages": "\(lost)"]
        )
    }
}
