import NIOCore

#if os(Linux)
import Glibc
#endif

/// What the link says of itself.
extension OutgoingLink {
    func report(into statistics: inout LinkStatistics) {
        statistics.isUp = self.phase == .up
        statistics.state = self.state
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
        if self.phase == .up, let provider = self.channel as? any SocketOptionProvider {
            return provider.getTCPInfo().map { Int($0.tcpi_rtt) }.recover { _ in nil }
        }
        #endif
        return self.hub.loop.makeSucceededFuture(nil)
    }
}
