/// Every counter under the name that operators see, in two groups; the health score is none.
extension GossipStatistics {
    /// What the node does when all is well.
    package var activity: [(name: String, count: Int)] {
        [
            ("packets-sent", self.packetsSent),
            ("packets-received", self.packetsReceived),
            ("bytes-sent", self.bytesSent),
            ("bytes-received", self.bytesReceived),
            ("probes", self.probes),
            ("probes-failed", self.probesFailed),
            ("refutations", self.refutations),
            ("exchanges", self.exchanges),
            ("exchanges-failed", self.exchangesFailed),
            ("streams-accepted", self.streamsAccepted),
            ("starvations", self.starvations),
        ]
    }

    /// What came and was dropped, or was not answered.
    package var dropped: [(name: String, count: Int)] {
        [
            ("malformed", self.malformed),
            ("strangers-dropped", self.strangersDropped),
            ("plaintext-dropped", self.plaintextDropped),
            ("undecryptable", self.undecryptable),
            ("wrongly-labelled", self.wronglyLabelled),
            ("oversized", self.oversized),
            ("replayed", self.replayed),
            ("unanswered", self.unanswered),
            ("unsolicited", self.unsolicited),
            ("ignored", self.ignored),
            ("streams-refused", self.streamsRefused),
        ]
    }
}
