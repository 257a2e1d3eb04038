internal import Logging
internal import NIOCore

/// Label and encryption around everything that is sent, and off everything that comes.
extension GossipShell {
    func setKeyRing(_ ring: KeyRing) {
        guard self.sealing.ring != ring else { return }
        self.sealing.ring = ring
        self.logger.notice("gossip: keys were changed", metadata: ["keys": "\(ring.keys.count)"])
    }

    func seal(packet: [UInt8]) -> [UInt8] {
        let sealed = self.sealing.seal(packet: packet, using: &self.generator)
        self.counted.bytesSent += sealed.count - packet.count
        return sealed
    }

    func seal(stream: [UInt8], isAnswer: Bool) -> [UInt8] {
        let content = self.configuration.compresses ? PacketCodec.compressed(stream) : stream
        return self.sealing.seal(stream: content, isAnswer: isAnswer, using: &self.generator)
    }

    /// - Returns: nil for what is dropped; it has been counted.
    func open(packet: [UInt8], from source: NodeAddress) -> [UInt8]? {
        do throws(WireError) {
            let nonce = self.sealing.nonce(ofPacket: packet)
            if let nonce, self.nonces.contains(nonce) { throw WireError.replayed }
            let opened = try self.sealing.open(packet: packet)
            // Of those that the key opens alone, so that nobody else fills the window.
            if let nonce { self.nonces.insert(nonce) }
            self.counted.bytesReceived += packet.count - opened.count
            return opened
        } catch {
            self.counted.packetsReceived += 1
            self.counted.bytesReceived += packet.count
            self.count(error, from: "\(source)")
            return nil
        }
    }

    func malformedStream(_ error: WireError, from remote: SocketAddress?) {
        self.count(error, from: remote.map { "\($0)" } ?? "")
    }

    private func count(_ error: WireError, from source: String) {
        switch error {
        case .notEncrypted: self.counted.plaintextDropped += 1
        case .encrypted, .wrongKey: self.counted.undecryptable += 1
        case .labelled, .wrongLabel: self.counted.wronglyLabelled += 1
        case .replayed:
            // Also the network makes copies, so there is nothing to say.
            self.counted.replayed += 1
            return
        case .limitExceeded: self.counted.oversized += 1
        default:
            self.counted.malformed += 1
            self.logger.debug("gossip: not understood", metadata: ["error": "\(error)", "source": "\(source)"])
            return
        }
        self.logDropped(error, from: source)
    }
}

extension WireError {
    /// In words, for whoever sets up the nodes.
    var reason: String {
        switch self {
        case .encrypted: "it is encrypted, and this node has no key"
        case .notEncrypted: "it is not encrypted, and this node has a key"
        case .wrongKey: "it is encrypted with a key that this node does not have, or was changed on the way"
        case .labelled: "it has a label, and this node has none"
        case .wrongLabel: "it does not have the label of this node"
        case .limitExceeded: "it is larger than is taken: \(self)"
        default: "it was not understood: \(self)"
        }
    }

    /// What the side that opened a stream is told, in the words of the reference implementation, which its operators
    /// know; nil for nothing.
    var answer: Message? {
        switch self {
        case .encrypted: .error("Remote state is encrypted and encryption is not configured")
        case .notEncrypted: .error("Encryption is configured but remote state is not encrypted")
        case .wrongKey: .error("No installed keys could decrypt the message")
        default: nil
        }
    }
}
