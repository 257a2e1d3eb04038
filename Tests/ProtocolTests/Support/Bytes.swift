import NIOCore
import Protocol

/// Bytes from hexadecimal digits; blanks are for the reader.
func bytes(_ hex: String) -> [UInt8] {
    let digits = hex.utf8.filter { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\n") }
    return stride(from: 0, to: digits.count, by: 2).map { index in
        UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) ?? 0
    }
}

/// Runs a typed throwing body and gives what it returned or threw.
func outcome<T>(_ body: () throws(ProtocolError) -> T) -> Result<T, ProtocolError> {
    do throws(ProtocolError) {
        return .success(try body())
    } catch {
        return .failure(error)
    }
}

extension Result {
    var error: Failure? {
        if case .failure(let error) = self { return error }
        return nil
    }

    var value: Success? {
        if case .success(let value) = self { return value }
        return nil
    }
}

/// The frame at an offset.
func scan(_ input: [UInt8], from offset: Int = 0, limit: Int = .max) throws(ProtocolError) -> Frame? {
    try FrameScanner.next(in: input.span.bytes, from: offset, maximumPacketSize: limit)
}

/// The one packet the input holds; `nil` if the input is not complete.
func decode(
    _ input: [UInt8],
    _ version: ProtocolVersion,
    from sender: Sender = .client
) throws(ProtocolError) -> Packet? {
    guard let frame = try scan(input) else { return nil }
    return try PacketDecoder.decode(frame, in: input.span.bytes, version: version, from: sender)
}

/// What a mistake in the packet makes the decoder throw.
func mistake(_ hex: String, _ version: ProtocolVersion, from sender: Sender = .client) -> ProtocolError? {
    outcome { () throws(ProtocolError) in try decode(bytes(hex), version, from: sender) }.error
}

/// The bytes of a packet.
func encode(_ packet: Packet, _ version: ProtocolVersion) throws(ProtocolError) -> [UInt8] {
    var buffer = ByteBuffer()
    try packet.encode(into: &buffer, version: version)
    return Array(buffer: buffer)
}

/// The view of the PUBLISH the input holds.
func publishView(
    _ input: [UInt8],
    _ version: ProtocolVersion,
    from sender: Sender = .client
) throws(ProtocolError) -> PublishView? {
    guard let frame = try scan(input) else { return nil }
    return try PublishView(frame: frame, in: input.span.bytes, version: version, from: sender)
}
