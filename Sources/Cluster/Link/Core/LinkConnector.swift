package import NIOCore

/// When to connect to a peer, and what a failure proves.
///
/// A link that breaks is opened again at once; if that fails, after 50 ms, then twice as long each time up to half a second,
/// with jitter, for as long as the member is alive. Time and randomness are handed in.
package struct LinkConnector: Hashable, Sendable {
    /// How an attempt or a connection ended.
    package enum Ending: Hashable, Sendable {
        /// Nobody listens at the address: the host is there, the process is not.
        case connectionRefused
        /// The peer's address answered as another life of the same name.
        case reborn
        /// The peer said that it stops. What becomes of it is for Gossip to tell: it leaves, it does not die.
        case goodbye
        /// Anything else: timeout, reset, silence, a refusal to talk.
        case other
    }

    /// What the shell has to do now.
    package struct Instruction: Hashable, Sendable {
        /// How long to wait before connecting.
        package var retryAfter: TimeAmount
        /// The peer's process is known to be dead, not merely silent.
        package var isProofOfDeath: Bool
    }

    package static let backoffMin = TimeAmount.milliseconds(50)
    package static let backoffMax = TimeAmount.milliseconds(500)

    private var failures = 0
    /// Whether this boot epoch of the peer has been spoken to and has not said goodbye: only then does a refused connection prove a death,
    /// and not a listener that is not open yet.
    private var wasUp = false

    package init() {}

    /// The hello was accepted.
    ///
    /// - Parameter isDirect: without another member between; what is refused later on the direct way proves something only then.
    package mutating func onUp(isDirect: Bool) {
        self.failures = 0
        if isDirect { self.wasUp = true }
    }

    /// How long to wait before the direct connection is tried again while another member carries the link.
    package static func relayedRetry(using generator: inout some RandomNumberGenerator) -> TimeAmount {
        let most = Self.backoffMax.nanoseconds
        return .nanoseconds(.random(in: most / 2...most, using: &generator))
    }

    /// The attempt or the connection has ended.
    package mutating func onDown(
        _ ending: Ending,
        wasConnected: Bool,
        using generator: inout some RandomNumberGenerator
    ) -> Instruction {
        if ending == .goodbye { self.wasUp = false }
        let isProof = ending == .reborn || (ending == .connectionRefused && self.wasUp)
        if wasConnected, self.failures == 0 {
            self.failures = 1
            return Instruction(retryAfter: .zero, isProofOfDeath: isProof)
        }
        self.failures += 1
        let steps = min(max(0, self.failures - 2), 5)
        let backoff = min(Self.backoffMin.nanoseconds << Int64(steps), Self.backoffMax.nanoseconds)
        // Half of it is certain, half is left to chance: peers that lost a node together do not come back in step.
        let jittered = backoff / 2 + Int64.random(in: 0...(backoff / 2), using: &generator)
        return Instruction(retryAfter: .nanoseconds(jittered), isProofOfDeath: isProof)
    }
}
