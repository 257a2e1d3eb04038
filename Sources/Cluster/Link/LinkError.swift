/// Why a bridge link was refused or given up.
///
/// One type for everything a peer can do wrong, so that every place that ends a link logs and counts it alike.
package struct LinkError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kinds of failure. They decide what the shell does; `detail` is for the log.
    package enum Code: String, Hashable, Sendable {
        /// Bytes that no peer of any version may send.
        case malformed
        /// A length above the limit, found before anything was allocated for it.
        case tooLarge
        /// A frame that is legal, but not at this point of the conversation.
        case unexpectedFrame
        /// The first bytes are not a hello: a stranger at the door.
        case notALink
        /// The peer answered the hello with a refusal.
        case refused
        /// The two ends have no version of the protocol in common.
        case version
        /// The two ends did not prove to each other that they belong to one cluster.
        case handshake
        /// Sequence numbers that contradict what both sides agreed on.
        case sequence
        /// The compressed stream cannot be decoded, or goes beyond its limits.
        case compression
        /// Nothing was heard from the peer for too long.
        case silence
        /// A member without a cluster key was called from outside the private address ranges.
        case strangerAddress
        /// More connections than are borne at a time that have not said who they are.
        case tooManyStrangers
        /// The peer said goodbye.
        case goodbye
    }

    package let code: Code
    package let detail: String

    package init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    package var description: String { "\(self.code.rawValue): \(self.detail)" }
}

extension LinkHelloAnswer.Verdict {
    /// What a refusal is.
    var failure: LinkError.Code { self == .noCommonVersion ? .version : .refused }
}
