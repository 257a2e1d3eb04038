internal import NIOCore

/// What the core wants done; the shell carries it out and decides nothing.
enum Directive: Equatable, Sendable {
    case send([UInt8], to: NodeAddress)
    /// Open a stream, write the bytes, read one message, close; the outcome goes to `Instance.onStream` under the same
    /// number.
    case open(StreamID, to: NodeAddress, [UInt8], timeout: TimeAmount)
    /// Look a seed up; the outcome goes to `Instance.onResolved`.
    case resolve(seed: Int)
    case event(MembershipEvent)
    case notice(Notice)
    case serf(SerfDirective)
    /// The leave has been told, as far as it can be.
    case leaveFinished
}

/// Names a stream that the core asked for.
struct StreamID: Hashable, Sendable {
    let number: UInt64
}

/// Something an operator may want to read about; the core has no logger.
enum Notice: Equatable, Sendable {
    case seedSilent(seed: Int, attempts: Int, reason: String)
    case seedAnswered(seed: Int)
    case answersOnlyStreams(name: String, address: String)
    case incompatible(from: String)
    case addressRefused(name: String, address: String)
    case memberLimit(Int)
    case selfAccused(by: String, incarnation: UInt32)
    case starved(milliseconds: Int64)
}

/// Why a stream brought no message.
enum StreamFailure: Error, Equatable, Sendable {
    case unreachable(String)
    case refused(String)
}

/// What happened, for the log line, the metric and the test.
package struct GossipStatistics: Sendable, Equatable {
    package var packetsSent = 0
    package var packetsReceived = 0
    package var bytesSent = 0
    package var bytesReceived = 0
    /// Packets and streams, or parts of packets, that were not understood.
    package var malformed = 0
    /// Packets and streams from or for addresses that only a key would open.
    package var strangersDropped = 0
    /// Packets and streams that came unencrypted, where this node has keys.
    package var plaintextDropped = 0
    /// Packets and streams that none of this node's keys opens; all encrypted ones where it has none.
    package var undecryptable = 0
    /// Packets and streams with another label than this node's, one where it has none, or none where it has one.
    package var wronglyLabelled = 0
    /// Packets and streams that hold more than is taken in.
    package var oversized = 0
    /// Encrypted packets that had been taken in before.
    package var replayed = 0
    /// Pings that are not answered: the answer would be larger, or the second one to one packet; and requests to ping
    /// who is no member.
    package var unanswered = 0
    /// Answers to nothing that was asked, or too late.
    package var unsolicited = 0
    /// Messages that were understood and make no sense: for another node, of a wild incarnation, over a limit.
    package var ignored = 0
    package var probes = 0
    package var probesFailed = 0
    package var refutations = 0
    package var exchanges = 0
    package var exchangesFailed = 0
    package var streamsAccepted = 0
    /// Streams beyond what is taken at a time, of one address or in all.
    package var streamsRefused = 0
    /// Times this process was held up for so long that its own judgement was put off.
    package var starvations = 0
    /// Lifeguard's local health; 0 is healthy.
    package var healthScore = 0

    package init() {}
}
