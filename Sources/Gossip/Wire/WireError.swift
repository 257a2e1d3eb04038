/// Why bytes from a peer were not understood.
///
/// A packet or stream that raises one of these is dropped and counted; nothing of it has been acted upon, except the
/// parts of a compound that came before the bad one.
package enum WireError: Error, Equatable, Sendable {
    /// The bytes end before the value does; `needed` is the least number of bytes that would let the parser go on.
    /// A stream waits for them, a packet is dropped.
    case truncated(needed: Int)
    /// A msgpack format byte that cannot stand here.
    case unexpectedFormat(UInt8, offset: Int)
    /// A number does not fit the field it is for.
    case outOfRange(offset: Int)
    /// A size or count is above what this implementation takes.
    case limitExceeded(Limit)
    /// A message type that does not exist or does not belong on this transport.
    case unknownMessageType(UInt8)
    /// The CRC in front of a packet is not that of its content.
    case checksumMismatch
    /// The compressed content is not a well-formed LZW stream, or of an algorithm other than LZW.
    case badCompression
    /// The peer encrypts and this node has no key.
    case encrypted
    /// The peer does not encrypt and this node has keys.
    case notEncrypted
    /// The peer encrypts with a key that this node does not have, or what it sent was changed on the way.
    case wrongKey
    /// The peer uses a label and this node has none.
    case labelled
    /// The peer uses another label than this node, or none.
    case wrongLabel
    /// A sealed packet that was taken in before.
    case replayed

    /// The limits that `limitExceeded` names.
    package enum Limit: Sendable {
        case nestingDepth
        case mapEntries
        case arrayElements
        case decompressedBytes
        case messagesInPacket
        case nodesInStream
        case streamBytes
    }
}

/// The limits within which bytes from outside are parsed; every one is checked before anything is allocated.
struct WireLimits: Sendable {
    /// How deep compounds, compressions and msgpack values may be nested.
    var nestingDepth = 8
    /// Entries of one msgpack map that is a message body; the largest of the protocol has eleven.
    var mapEntries = 64
    /// Elements of one array that is read, such as the keys of a member.
    var arrayElements = 64
    /// Bytes that all the compressed parts of one packet or stream may grow to together.
    var decompressedBytes: Int
    /// Messages that one packet may hold; a full packet of the shortest messages has fewer.
    var messages = 16_384
    /// Members in one push/pull.
    var nodes = 65_536
    /// Bytes of one stream.
    var streamBytes = 20 << 20

    static let packet = WireLimits(decompressedBytes: 1 << 20)
    static let stream = WireLimits(decompressedBytes: 20 << 20)
}
