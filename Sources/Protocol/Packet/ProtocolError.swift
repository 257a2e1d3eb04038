/// A mistake of the peer: what rule it broke, where, and what to answer.
///
/// The requirement is the identifier in the MQTT 5 document ("MQTT-3.3.1-4"), with the prefix "MQTT3-" where only
/// MQTT 3.1.1 has the rule, or the number of a section ("MQTT 2.2.2.2") where a rule has no identifier.
/// A packet that is to be written and cannot be (a string of more than 65,535 bytes) throws the same error.
package struct ProtocolError: Error, Hashable, Sendable {
    /// What an MQTT 5 peer is told in DISCONNECT or CONNACK.
    package let reason: ReasonCode
    /// The rule that was broken.
    package let requirement: String
    /// Offset in the bytes handed to the decoder (or, on encoding, in the buffer) at which the mistake was found.
    package let offset: Int
    /// What was wrong, for a log line.
    package let message: String

    package init(reason: ReasonCode, requirement: String, offset: Int, message: String) {
        self.reason = reason
        self.requirement = requirement
        self.offset = offset
        self.message = message
    }
}

extension ProtocolError: CustomStringConvertible {
    package var description: String {
        "\(self.message) [\(self.requirement)] at byte \(self.offset), \(self.reason)"
    }
}

extension ProtocolError {
    // Out of line, so that the throwing branches of the hot path stay small.

    @inline(never)
    static func malformed(_ requirement: String, at offset: Int, _ message: String) -> ProtocolError {
        ProtocolError(reason: .malformedPacket, requirement: requirement, offset: offset, message: message)
    }

    @inline(never)
    static func violation(_ requirement: String, at offset: Int, _ message: String) -> ProtocolError {
        ProtocolError(reason: .protocolError, requirement: requirement, offset: offset, message: message)
    }

    @inline(never)
    static func refused(
        _ reason: ReasonCode,
        _ requirement: String,
        at offset: Int,
        _ message: String
    ) -> ProtocolError {
        ProtocolError(reason: reason, requirement: requirement, offset: offset, message: message)
    }
}
