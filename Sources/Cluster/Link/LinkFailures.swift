/// How often links came to nothing or broke, by what was wrong, since the node's start.
package struct LinkFailures: Hashable, Sendable {
    /// The names are those that operators see.
    package enum Kind: String, CaseIterable, Sendable {
        /// One end did not prove to the other that it belongs to the cluster.
        case handshake
        /// Connections that no member has opened, or that must not be.
        case strangers
        /// The two ends have no protocol version in common.
        case version
        /// One end did not know the other, or not in this life, or was about to stop.
        case refused
        /// The peer's link port could not be reached.
        case unreachable
        /// Nothing was heard for too long.
        case silent
        /// What a peer sent broke the protocol.
        case `protocol`
    }

    private var counts = [UInt64](repeating: 0, count: Kind.allCases.count)

    package init() {}

    package var counters: [(name: String, count: UInt64)] {
        zip(Kind.allCases, self.counts).map { ($0.rawValue, $1) }
    }

    package mutating func count(_ kind: Kind) {
        for (index, other) in Kind.allCases.enumerated() where other == kind { self.counts[index] += 1 }
    }

    package mutating func count(_ code: LinkError.Code) {
        if let kind = code.failure { self.count(kind) }
    }
}

extension LinkError.Code {
    /// nil where nothing has failed.
    fileprivate var failure: LinkFailures.Kind? {
        switch self {
        case .goodbye: nil
        case .handshake: .handshake
        case .notALink, .strangerAddress, .tooManyStrangers: .strangers
        case .version: .version
        case .refused: .refused
        case .silence: .silent
        case .malformed, .tooLarge, .unexpectedFrame, .sequence, .compression: .protocol
        }
    }
}
