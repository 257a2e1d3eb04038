package import NIOCore

/// A session on its way from this node to another.
///
/// Owned by the link loop, which holds the session until the other node has it.
package final class DepartingSession {
    private let shard: Shard
    private let session: Session
    private let crossing: Crossing
    /// What it is subscribed to.
    package let subscriptions: ByteBuffer
    package var epoch: UInt64 { self.session.state.epoch }

    init(_ session: Session, _ crossing: Crossing, shard: Shard) {
        self.shard = shard
        self.session = session
        self.crossing = crossing
        self.subscriptions = SessionImage.encode(session.state.subscriptions)
    }

    /// The move that has brought it here, if that is not over.
    package var earlierMove: UInt64? { self.shard.shared.stragglers.move(at: self.session.subscriberID) }

    /// The mark of a peer has come, or of this node: what comes from it from now on is the other node's to take.
    package func mark(_ origin: PeerSlot?) {
        self.crossing.mark(origin ?? Crossing.ownOrigin, lastFanOut: self.shard.lastFanOut)
    }

    /// Hands out all that the session is, when what came before the marks has been delivered to it.
    package func capture(_ done: @escaping (ByteBuffer) -> Void) {
        self.shard.afterFanOuts {
            self.crossing.isCaptured = true
            self.shard.readWholeTail(of: self.session) {
                done(SessionImage.encode(self.session.state, nowMilliseconds: self.shard.nowMilliseconds))
            }
        }
    }

    /// The other node has it.
    ///
    /// - Parameter keepsRoutes: nodes that were out of sight may still send something for it here: `takeRest` and `forget`
    ///   follow. Else nothing is kept of it.
    package func leave(keepsRoutes: Bool) {
        self.shard.leaveDeparted(self.session, self.crossing, keepsRoutes: keepsRoutes)
    }

    /// Hands out the messages that have come since the session was captured, of nodes without a mark at that time.
    package func takeRest(_ done: @escaping (ByteBuffer) -> Void) {
        self.shard.afterFanOuts {
            let rest = self.crossing.rest
            self.crossing.rest = OutboundLog()
            done(SessionImage.encode(messages: rest))
        }
    }

    /// Nothing more is to come for it.
    package func forget() {
        self.shard.forgetLeft(self.session)
    }

    /// The other node is lost, or does not want it: it stays here, with all that has come for it meanwhile.
    package func takeBack() {
        self.shard.takeBack(self.session, self.crossing)
    }
}

@available(*, unavailable)
extension DepartingSession: Sendable {}

/// A session on its way from another node to this one: it has its routes and queues what is its to take.
///
/// Owned by the link loop.
package final class ArrivingSession {
    private let shard: Shard
    let session: Session
    private let crossing: Crossing
    private var image = ByteBuffer()
    /// All that the other node had of it is here.
    package private(set) var isWhole = false

    init(_ session: Session, _ crossing: Crossing, shard: Shard) {
        self.shard = shard
        self.session = session
        self.crossing = crossing
    }

    /// The mark of a peer has come, or of this node: what comes from it from now on is the session's.
    package func mark(_ origin: PeerSlot?) {
        self.crossing.mark(origin ?? Crossing.ownOrigin, lastFanOut: self.shard.lastFanOut)
    }

    /// A part of what the session is.
    ///
    /// - Returns: false if it is more than a session can be.
    package func add(_ part: ByteBuffer) -> Bool {
        self.image.writeImmutableBuffer(part)
        return self.image.readableBytes <= SessionImage.bytesMax(self.shard.shared.configuration)
    }

    /// All parts are there.
    ///
    /// - Returns: false if they cannot be read.
    package func complete() -> Bool {
        let early = self.session.state
        guard
            let state = SessionImage.decode(
                self.image,
                subscribed: early,
                nowMilliseconds: self.shard.nowMilliseconds
            )
        else { return false }
        self.image = ByteBuffer()
        self.isWhole = true
        self.session.state = state
        self.session.state.log.appendWaiting(of: early.log)
        return true
    }

    /// Nothing comes of it.
    package func abandon() {
        self.shard.abandon(self.session)
    }
}

@available(*, unavailable)
extension ArrivingSession: Sendable {}
