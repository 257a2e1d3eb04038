import NIOCore
import Protocol

/// What has to hold for any input whatever, beside not crashing.
enum Invariants {
    /// The first rule that is broken by how the decoder treats the input, `nil` if none is.
    static func broken(by input: [UInt8], _ version: ProtocolVersion, from sender: Sender) -> String? {
        let alone = outcome { () throws(ProtocolError) in try decode(input, version, from: sender) }
        guard let frame = outcome({ () throws(ProtocolError) in try scan(input) }).value ?? nil else { return nil }
        if frame.end > input.count || frame.bodyStart > frame.end { return "frame leaves the input" }

        // What stands before and behind a packet must not change what is read.
        let padded = [0xFF, 0x23, 0x2B] + input[frame.start..<frame.end] + [0xFF, 0x00, 0x7F, 0x2F, 0xFF]
        let amid = outcome { () throws(ProtocolError) in
            try scan(padded, from: 3).map { frame throws(ProtocolError) in
                try PacketDecoder.decode(frame, in: padded.span.bytes, version: version, from: sender)
            }
        }
        if amid.value != alone.value { return "neighbours change the packet" }
        if amid.error?.offset != alone.error.map({ $0.offset + 3 }) || amid.error?.reason != alone.error?.reason {
            return "neighbours change the error"
        }
        if let error = alone.error {
            if error.offset < 0 || error.offset > frame.end { return "error offset \(error.offset) is outside" }
            return error.requirement.isEmpty || !error.reason.isError ? "error does not say why" : nil
        }
        guard let packet = alone.value ?? nil else { return "complete frame read as incomplete" }
        return Self.broken(by: packet, version, sender, as: input, frame)
    }

    /// A packet that was read can be written, and reads the same again.
    private static func broken(
        by packet: Packet,
        _ version: ProtocolVersion,
        _ sender: Sender,
        as input: [UInt8],
        _ frame: Frame
    ) -> String? {
        guard let output = outcome({ () throws(ProtocolError) in try encode(packet, version) }).value else {
            return "packet cannot be written: \(packet)"
        }
        let again = outcome { () throws(ProtocolError) in try decode(output, version, from: sender) }
        if again.value != packet { return "packet reads differently after writing: \(packet)" }
        guard case .publish(let publish) = packet else { return nil }

        guard let view = outcome({ () throws(ProtocolError) in try publishView(input, version, from: sender) }).value,
            let view
        else { return "PUBLISH without a view" }
        if view.payloadEnd != frame.end || view.payloadStart < view.propertiesEnd || view.topicEnd > view.payloadStart {
            return "offsets of the view are out of order"
        }
        var forwarded = ByteBuffer()
        view.appendForwardedProperties(from: input.span.bytes, into: &forwarded)
        if forwarded.readableBytes != view.forwardedPropertiesLength { return "forwarded length is wrong" }
        var expected = publish.properties
        expected.topicAlias = nil
        expected.messageExpiryInterval = nil
        expected.subscriptionIdentifiers = []
        let content = Array(buffer: forwarded)
        let actual = outcome { () throws(ProtocolError) in
            try Properties(validated: 0..<content.count, in: content.span.bytes)
        }
        return actual.value == expected ? nil : "forwarded properties are others"
    }
}
