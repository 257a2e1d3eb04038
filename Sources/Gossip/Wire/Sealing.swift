/// The outer layers of what goes over the network: the label of the ring and the encryption (WIRE.md sections 3 and 4).
struct Sealing: Sendable, Equatable {
    /// What the length byte can say.
    static let labelBytesMax = 255
    /// The type byte of an encrypted stream and the length of what follows.
    static let frameHeaderBytes = 5

    /// Stands in front of everything, and is expected there; empty for none. It is no secret: it keeps rings apart.
    let label: [UInt8]
    /// nil for plaintext. What comes in the other form than this node speaks is refused.
    var ring: KeyRing?

    init(label: [UInt8] = [], ring: KeyRing? = nil) {
        precondition(label.count <= Self.labelBytesMax, "a label has at most \(Self.labelBytesMax) bytes")
        self.label = label
        self.ring = ring
    }

    private var prefix: [UInt8] {
        self.label.isEmpty ? [] : [MessageType.hasLabel.rawValue, UInt8(self.label.count)] + self.label
    }

    // MARK: Packets

    /// What the layers add to a packet.
    var packetOverhead: Int { self.prefix.count + (self.ring == nil ? 0 : KeyRing.overhead) }

    func seal(packet: [UInt8], using generator: inout some RandomNumberGenerator) -> [UInt8] {
        guard let ring = self.ring else { return self.label.isEmpty ? packet : self.prefix + packet }
        return self.prefix + ring.seal(packet, additional: self.label, nonce: Self.nonce(using: &generator))
    }

    /// Takes the layers off.
    func open(packet: [UInt8]) throws(WireError) -> [UInt8] {
        var content = packet[...]
        if self.label.isEmpty {
            guard packet.first != MessageType.hasLabel.rawValue else { throw .labelled }
        } else {
            guard packet.starts(with: self.prefix) else { throw .wrongLabel }
            content = content.dropFirst(self.prefix.count)
        }
        guard let ring = self.ring else {
            if Self.looksSealed(content) { throw .encrypted }
            return self.label.isEmpty ? packet : Array(content)
        }
        if let opened = ring.open(content, additional: self.label) { return opened }
        throw Self.looksSealed(content) ? .wrongKey : .notEncrypted
    }

    /// What makes a sealed packet unlike any other; nil where nothing is sealed, or for what is too short to be.
    func nonce(ofPacket packet: [UInt8]) -> ArraySlice<UInt8>? {
        let start = self.prefix.count + 1
        guard self.ring != nil, packet.count >= start + KeyRing.nonceBytes else { return nil }
        return packet[start..<(start + KeyRing.nonceBytes)]
    }

    /// The two versions begin with the bytes of a ping and an indirect ping; what is no map after that is most likely
    /// encrypted. Only the name of the error depends on it: such a packet is dropped anyhow.
    private static func looksSealed(_ packet: ArraySlice<UInt8>) -> Bool {
        guard packet.count >= KeyRing.overhead, packet[packet.startIndex] <= 1 else { return false }
        let second = packet[packet.startIndex + 1]
        return second & 0xf0 != 0x80 && second != 0xde
    }

    // MARK: Streams

    /// All that one side of a stream writes: only the side that opened it writes the label, but the label is
    /// authenticated in both directions.
    func seal(stream: [UInt8], isAnswer: Bool, using generator: inout some RandomNumberGenerator) -> [UInt8] {
        let prefix = isAnswer ? [] : self.prefix
        guard let ring = self.ring else { return prefix.isEmpty ? stream : prefix + stream }
        let length = UInt32(stream.count + KeyRing.overhead)
        let header =
            [MessageType.encrypt.rawValue] + stride(from: 24, through: 0, by: -8).map { UInt8(length >> $0 & 0xff) }
        let nonce = Self.nonce(using: &generator)
        return prefix + header + ring.seal(stream, additional: header + self.label, nonce: nonce)
    }

    /// Opens what follows the header of an encrypted stream.
    func open(frame: ArraySlice<UInt8>, header: [UInt8]) throws(WireError) -> [UInt8] {
        guard let ring = self.ring else { throw .encrypted }
        guard let opened = ring.open(frame, additional: header + self.label) else { throw .wrongKey }
        return opened
    }

    private static func nonce(using generator: inout some RandomNumberGenerator) -> [UInt8] {
        (0..<KeyRing.nonceBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}
