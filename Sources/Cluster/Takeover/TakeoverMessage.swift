package import LocalBroker
package import NIOCore

/// Names one claim in the whole cluster: who made it, and the number there.
package struct ClaimKey: Hashable, Sendable {
    package var claimer: String
    package var number: UInt64

    package init(claimer: String, number: UInt64) {
        self.claimer = claimer
        self.number = number
    }
}

/// One life of a node.
package struct NodeLife: Hashable, Comparable, Sendable {
    package var name: String
    package var epoch: UInt64

    package init(name: String, epoch: UInt64) {
        self.name = name
        self.epoch = epoch
    }

    package static func < (left: NodeLife, right: NodeLife) -> Bool {
        (left.name, left.epoch) < (right.name, right.epoch)
    }
}

/// What nodes say to each other about a client that has connected. `docs/bridge-protocol.md` describes every byte.
///
/// Each travels in a control frame, in order with the messages and table changes of its sender, and is taken in once.
package enum TakeoverMessage: Hashable, Sendable {
    /// A client has connected to the sender.
    package struct Claim: Hashable, Sendable {
        package var number: UInt64
        package var epoch: UInt64
        /// The client wants none of its old state.
        package var discards: Bool
        package var clientID: String
        package var userName: String?

        package init(number: UInt64, epoch: UInt64, discards: Bool, clientID: String, userName: String?) {
            self.number = number
            self.epoch = epoch
            self.discards = discards
            self.clientID = clientID
            self.userName = userName
        }
    }

    package enum Verdict: UInt8, Hashable, Sendable {
        /// The sender has no session of the client.
        case none = 0
        /// The client has connected to the sender at the same time, and that connection stays.
        case refused = 1
        /// The session there is another user's.
        case notAuthorized = 2
    }

    case claim(Claim)
    /// The answer to a claim, where nothing moves.
    case answer(claim: UInt64, Verdict, epoch: UInt64)
    /// The answer to a claim where a session moves: its subscriptions, in parts. What the stragglers send is not all there
    /// yet: their marks are wanted later.
    case subscriptions(claim: UInt64, epoch: UInt64, isLast: Bool, stragglers: [NodeLife], ByteBuffer)
    /// The claimer has the session's routes, with the change of this number in its table: whoever has applied it says
    /// where in its messages that is.
    case cut(claim: UInt64, giver: String, tableSequence: UInt64)
    /// What the sender has sent before this is the giver's to take, what follows the claimer's.
    case mark(ClaimKey, giver: String)
    /// The session, in parts. The stragglers are nodes of which the giver has no mark.
    case state(claim: UInt64, isLast: Bool, stragglers: [NodeLife], ByteBuffer)
    /// The claimer has it, stored where it stores. The giver is to pass on what these nodes send before their marks.
    case taken(claim: UInt64, stragglers: [NodeLife])
    /// The claimer does not want it.
    case cancelled(claim: UInt64)
    /// Sessions that the sender has, told when a link is made: a node with a newer one claims what is there.
    case owned([HeldSession])
    /// Sessions without a client that the sender gives away, because it is about to end: to be claimed by who is told.
    case offer([OfferedSession])
    /// The giver hears a node that was out of sight: it may be asked for its mark.
    case ready(claim: UInt64, straggler: NodeLife)
    /// What the giver has had of such a node before its mark, in parts; nothing more is to come of a node without one.
    case rest(claim: UInt64, straggler: NodeLife, isMarked: Bool, isLast: Bool, ByteBuffer)
}

extension TakeoverMessage {
    /// Whether it counts also where its receiver was taken for dead meanwhile.
    package var isLasting: Bool {
        switch self {
        case .mark, .rest: true
        default: false
        }
    }

    /// About how long a part of a session becomes.
    package static let partBytes = 128 << 10

    private enum Kind: UInt8 {
        case claim = 1
        case answer = 2
        case subscriptions = 3
        case cut = 4
        case mark = 5
        case state = 6
        case taken = 7
        case cancelled = 8
        case owned = 9
        case offer = 10
        case ready = 11
        case rest = 12
    }

    // MARK: Writing

    package func encode() -> ByteBuffer {
        var body = ByteBuffer()
        switch self {
        case .claim(let claim):
            body.write(Kind.claim.rawValue, claim.number)
            body.writeInteger(claim.epoch)
            body.writeInteger((claim.discards ? 1 : 0) | (claim.userName == nil ? 0 : 2) as UInt8)
            body.writeText(claim.clientID)
            if let userName = claim.userName { body.writeText(userName) }
        case .answer(let claim, let verdict, let epoch):
            body.write(Kind.answer.rawValue, claim)
            body.writeInteger(verdict.rawValue)
            body.writeInteger(epoch)
        case .subscriptions(let claim, let epoch, let isLast, let stragglers, let part):
            body.write(Kind.subscriptions.rawValue, claim)
            body.writeInteger(epoch)
            body.writeInteger(isLast ? 1 : 0 as UInt8)
            body.writeLives(stragglers)
            body.writeImmutableBuffer(part)
        case .cut(let claim, let giver, let tableSequence):
            body.write(Kind.cut.rawValue, claim)
            body.writeLinkInteger(tableSequence)
            body.writeText(giver)
        case .mark(let key, let giver):
            body.write(Kind.mark.rawValue, key.number)
            body.writeText(key.claimer)
            body.writeText(giver)
        case .state(let claim, let isLast, let stragglers, let part):
            body.write(Kind.state.rawValue, claim)
            body.writeInteger(isLast ? 1 : 0 as UInt8)
            body.writeLives(stragglers)
            body.writeImmutableBuffer(part)
        case .taken(let claim, let stragglers):
            body.write(Kind.taken.rawValue, claim)
            body.writeLives(stragglers)
        case .cancelled(let claim):
            body.write(Kind.cancelled.rawValue, claim)
        case .ready(let claim, let straggler):
            body.write(Kind.ready.rawValue, claim)
            body.writeLife(straggler)
        case .rest(let claim, let straggler, let isMarked, let isLast, let part):
            body.write(Kind.rest.rawValue, claim)
            body.writeLife(straggler)
            body.writeInteger((isLast ? 1 : 0) | (isMarked ? 2 : 0) as UInt8)
            body.writeImmutableBuffer(part)
        case .owned(let sessions):
            body.write(Kind.owned.rawValue, UInt64(sessions.count))
            for session in sessions {
                body.writeInteger(session.epoch)
                body.writeText(session.clientID)
            }
        case .offer(let sessions):
            body.write(Kind.offer.rawValue, UInt64(sessions.count))
            for session in sessions {
                body.writeInteger(session.epoch)
                body.writeInteger(session.userName == nil ? 0 : 1 as UInt8)
                body.writeText(session.clientID)
                if let userName = session.userName { body.writeText(userName) }
            }
        }
        return body
    }

    /// Cuts what is too long for one message.
    package static func parts(of bytes: ByteBuffer) -> [ByteBuffer] {
        var rest = bytes
        var parts: [ByteBuffer] = []
        while let part = rest.readSlice(length: min(rest.readableBytes, Self.partBytes)), part.readableBytes > 0 {
            parts.append(part)
        }
        return parts.isEmpty ? [bytes] : parts
    }

    /// Lists of some sessions each.
    package static func owned(all sessions: [HeldSession]) -> [TakeoverMessage] {
        stride(from: 0, to: sessions.count, by: 1_000).map {
            .owned(Array(sessions[$0..<min($0 + 1_000, sessions.count)]))
        }
    }

    // MARK: Reading

    package static func decode(_ body: ByteBuffer) throws(LinkError) -> TakeoverMessage {
        var reader = BodyReader(body)
        guard let kind = Kind(rawValue: try reader.integer()) else {
            throw LinkError(.malformed, "a control message of an unknown kind")
        }
        let claim = try reader.linkInteger()
        let message = try Self.decode(kind, claim, &reader)
        try reader.end()
        return message
    }

    private static func decode(
        _ kind: Kind,
        _ claim: UInt64,
        _ reader: inout BodyReader
    ) throws(LinkError) -> TakeoverMessage {
        switch kind {
        case .claim:
            let epoch = try reader.integer(as: UInt64.self)
            let flags = try reader.integer(as: UInt8.self)
            guard flags <= 3 else { throw LinkError(.malformed, "reserved flags of a claim are set") }
            return .claim(
                Claim(
                    number: claim,
                    epoch: epoch,
                    discards: flags & 1 == 1,
                    clientID: try reader.text(),
                    userName: flags & 2 == 2 ? try reader.text() : nil
                )
            )
        case .answer:
            guard let verdict = Verdict(rawValue: try reader.integer()) else {
                throw LinkError(.malformed, "an unknown answer to a claim")
            }
            return .answer(claim: claim, verdict, epoch: try reader.integer())
        case .subscriptions:
            return .subscriptions(
                claim: claim,
                epoch: try reader.integer(),
                isLast: try reader.flag(),
                stragglers: try reader.lives(),
                reader.rest()
            )
        case .cut:
            let tableSequence = try reader.linkInteger()
            return .cut(claim: claim, giver: try reader.text(), tableSequence: tableSequence)
        case .mark:
            return .mark(ClaimKey(claimer: try reader.text(), number: claim), giver: try reader.text())
        case .state:
            let isLast = try reader.flag()
            return .state(claim: claim, isLast: isLast, stragglers: try reader.lives(), reader.rest())
        case .taken:
            return .taken(claim: claim, stragglers: try reader.lives())
        case .cancelled:
            return .cancelled(claim: claim)
        case .ready:
            return .ready(claim: claim, straggler: try reader.life())
        case .rest:
            let straggler = try reader.life()
            let flags = try reader.integer(as: UInt8.self)
            guard flags <= 3 else { throw LinkError(.malformed, "reserved flags of a session's rest are set") }
            let (isMarked, isLast) = (flags & 2 == 2, flags & 1 == 1)
            return .rest(claim: claim, straggler: straggler, isMarked: isMarked, isLast: isLast, reader.rest())
        case .owned:
            guard claim <= UInt64(reader.remaining / 9) else {
                throw LinkError(.malformed, "more sessions than there are bytes for")
            }
            var sessions: [HeldSession] = []
            for _ in 0..<claim {
                let epoch = try reader.integer(as: UInt64.self)
                sessions.append(HeldSession(clientID: try reader.text(), epoch: epoch))
            }
            return .owned(sessions)
        case .offer:
            guard claim <= UInt64(reader.remaining / 10) else {
                throw LinkError(.malformed, "more sessions than there are bytes for")
            }
            var sessions: [OfferedSession] = []
            for _ in 0..<claim {
                let epoch = try reader.integer(as: UInt64.self)
                let hasUser = try reader.flag()
                let clientID = try reader.text()
                let userName = hasUser ? try reader.text() : nil
                sessions.append(OfferedSession(clientID: clientID, userName: userName, epoch: epoch))
            }
            return .offer(sessions)
        }
    }
}

extension ByteBuffer {
    fileprivate mutating func write(_ kind: UInt8, _ claim: UInt64) {
        self.writeInteger(kind)
        self.writeLinkInteger(claim)
    }

    fileprivate mutating func writeLives(_ lives: [NodeLife]) {
        self.writeLinkInteger(UInt64(lives.count))
        for life in lives { self.writeLife(life) }
    }

    fileprivate mutating func writeLife(_ life: NodeLife) {
        self.writeInteger(life.epoch)
        self.writeText(life.name)
    }

    fileprivate mutating func writeText(_ text: String) {
        self.writeLinkInteger(UInt64(text.utf8.count))
        self.writeString(text)
    }
}

extension BodyReader {
    fileprivate mutating func lives() throws(LinkError) -> [NodeLife] {
        let count = try self.count(bytesEach: 9)
        var lives: [NodeLife] = []
        for _ in 0..<count { lives.append(try self.life()) }
        return lives
    }

    fileprivate mutating func life() throws(LinkError) -> NodeLife {
        let epoch = try self.integer(as: UInt64.self)
        return NodeLife(name: try self.text(), epoch: epoch)
    }

    fileprivate mutating func text() throws(LinkError) -> String {
        let length = try self.count(bytesEach: 1)
        guard let text = String(validating: try self.bytes(length), as: UTF8.self) else {
            throw LinkError(.malformed, "a name that is not UTF-8")
        }
        return text
    }

    fileprivate mutating func flag() throws(LinkError) -> Bool {
        let value = try self.integer(as: UInt8.self)
        guard value <= 1 else { throw LinkError(.malformed, "a flag is neither set nor clear") }
        return value == 1
    }
}
