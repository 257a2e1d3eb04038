package import NIOCore

/// How the links of a node behave. The defaults are for nodes on one LAN.
package struct LinkConfiguration: Sendable {
    /// This node's name, at most 255 bytes, and the number of its life: larger at every start.
    package var name: String
    package var epoch: UInt64
    /// zstd level of outgoing links; `nil` sends uncompressed. Incoming links follow their opener.
    package var compressionLevel: Int32? = 1
    /// The longest frame accepted from a peer, and so the longest message that can cross a link.
    package var frameBytesMax = 16 << 20
    package var sender = LinkSender.Limits()
    package var flushMessages = 16
    package var flushDelay = TimeAmount.milliseconds(1)
    package var heartbeatInterval = TimeAmount.seconds(1)
    /// A link over which nothing was heard for so long is opened anew. Whether the member lives is for Gossip to say.
    package var silenceMax = TimeAmount.milliseconds(2_500)
    /// How long a member that is alive but cannot be linked to may hold publishers of QoS 1 and 2 back once its queue is
    /// full. After that the queue is dropped and counted.
    package var stallMax = TimeAmount.seconds(30)
    /// How long a stranger may take to prove itself and say hello, and a peer to answer it.
    package var helloTimeout = TimeAmount.seconds(5)
    /// An attempt that is given up is soon followed by another one: the network may be back a moment later.
    package var connectTimeout = TimeAmount.milliseconds(1_500)
    /// How long a connection may be on its way before other members are asked to carry the link, and how long they may take to
    /// say whether a peer that seems dead is.
    package var relayDelay = TimeAmount.milliseconds(500)
    package var doubtMax = TimeAmount.milliseconds(150)
    /// How long what is on its way through a relay is waited for when there is a direct connection again.
    package var changeOverMax = TimeAmount.seconds(1)
    /// How many links of others this node carries at most, where they cannot reach each other.
    package var tunnelsMax = 128
    /// How long a SUBACK waits at most for the peers to know of the subscription.
    package var tableAppliedTimeout = TimeAmount.milliseconds(100)
    /// How long a gone member's table is kept, in case it was only out of sight, and what it has not acknowledged.
    package var goneGrace = TimeAmount.minutes(10)
    /// How long a stopping node waits for its peers to acknowledge what it has sent.
    package var stopTimeout = TimeAmount.seconds(1)
    /// What protects the links at first. With `.none` no peer at a public address is talked to.
    package var credentials = LinkCredentials.none
    /// How many connections may be open at a time of which it is not known yet that a member has opened them, in all and
    /// from one address.
    package var strangersMax = 64
    package var strangersOfAddressMax = 16

    package init(name: String, epoch: UInt64) {
        self.name = name
        self.epoch = epoch
    }
}
