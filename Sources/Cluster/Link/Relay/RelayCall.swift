import NIOCore

/// What a node asks of one that it has a link to: to carry another link of its own, to a member that it cannot reach.
///
/// The relay calls that member itself and never asks a third node, so a link goes through one relay at most.
package struct RelayCall: Hashable, Sendable {
    package var origin: String
    package var originEpoch: UInt64
    package var target: String
    package var targetEpoch: UInt64

    package init(origin: String, originEpoch: UInt64, target: String, targetEpoch: UInt64) {
        self.origin = origin
        self.originEpoch = originEpoch
        self.target = target
        self.targetEpoch = targetEpoch
    }
}

/// What the relay makes of it.
package enum RelayVerdict: UInt8, Hashable, Sendable {
    /// It has reached the target: from here on every byte is the target's, or from it.
    case accepted = 0
    /// It does not know the opener, or not in this life.
    case unknownMember = 1
    /// It has no direct link to the target.
    case noLink = 2
    /// It carries as many links as it may.
    case tooMany = 3
    /// It is going away.
    case stopping = 4
}

extension LinkFrame {
    static func encode(_ call: RelayCall, into body: inout ByteBuffer) {
        body.writeInteger(LinkProtocol.magic)
        body.writeInteger(call.originEpoch)
        body.writeInteger(call.targetEpoch)
        self.encode(name: call.origin, into: &body)
        self.encode(name: call.target, into: &body)
    }
}

extension LinkFrameDecoder {
    static func relay(_ reader: inout BodyReader) throws(LinkError) -> RelayCall {
        guard try reader.integer(as: UInt32.self) == LinkProtocol.magic else {
            throw LinkError(.notALink, "the magic number is wrong")
        }
        let originEpoch = try reader.integer(as: UInt64.self)
        let targetEpoch = try reader.integer(as: UInt64.self)
        let call = RelayCall(
            origin: try reader.name(),
            originEpoch: originEpoch,
            target: try reader.name(),
            targetEpoch: targetEpoch
        )
        // As with a hello, a later version may say more.
        _ = reader.rest()
        return call
    }

    static func relayAnswer(_ reader: inout BodyReader) throws(LinkError) -> RelayVerdict {
        guard let verdict = RelayVerdict(rawValue: try reader.integer()) else {
            throw LinkError(.refused, "for a reason this release does not know")
        }
        _ = reader.rest()
        return verdict
    }
}
