package import NIOCore

/// What the node says of its links.
extension LinkHub {
    package var totals: LinkTotals {
        var totals = LinkTotals()
        for peer in self.peers.values { totals.add(peer.statisticsNow) }
        totals.sums.addCounters(of: self.countedBefore)
        totals.failures = self.failureCounts
        return totals
    }

    package var statistics: [LinkStatistics] {
        self.peers.values.map(\.statisticsNow).sorted { $0.peer < $1.peer }
    }

    /// The same with what the system is asked for.
    package func status() -> EventLoopFuture<ClusterStatus> {
        var status = ClusterStatus()
        status.tableSequence = self.ownTable.sequence
        status.tableCount = self.ownTable.count
        status.tableDigest = self.ownTable.digest
        status.totals = self.totals
        let links = self.peers.values.map { peer in
            let statistics = peer.statisticsNow
            return peer.outgoing.roundTripMicroseconds.map { roundTrip in
                var statistics = statistics
                statistics.roundTripMicroseconds = roundTrip
                return statistics
            }
        }
        return EventLoopFuture.whenAllSucceed(links, on: self.loop).map { [status] links in
            var status = status
            status.links = links.sorted { $0.peer < $1.peer }
            return status
        }
    }
}
