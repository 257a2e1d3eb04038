internal import Crypto

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// AES-GCM in memberlist's form: version, nonce, ciphertext, tag (WIRE.md section 4).
extension KeyRing {
    static let nonceBytes = 12
    private static let tagBytes = 16
    private static let blockBytes = 16
    /// What sealing adds.
    static let overhead = 1 + Self.nonceBytes + Self.tagBytes

    /// The two forms: the older one has its content padded to whole blocks, and is only read here.
    enum Version: UInt8 {
        case padded = 0
        case plain = 1
    }

    /// Encrypts with the first key.
    ///
    /// - Parameters:
    ///   - additional: What is authenticated with the content and does not travel in here.
    ///   - nonce: 12 bytes that were never used with this key. Random ones are good for 2³² packets.
    func seal(_ content: [UInt8], additional: [UInt8], nonce: [UInt8]) -> [UInt8] {
        guard let key = self.keys.first, nonce.count == Self.nonceBytes,
            let box = try? AES.GCM.seal(
                content,
                using: key.secret,
                nonce: AES.GCM.Nonce(data: nonce),
                authenticating: additional
            )
        else { preconditionFailure("a ring has a key of 16, 24 or 32 bytes, and the nonce has \(nonce.count) of 12") }
        var sealed: [UInt8] = []
        sealed.reserveCapacity(Self.overhead + content.count)
        sealed.append(Version.plain.rawValue)
        sealed += nonce
        sealed += box.ciphertext
        sealed += box.tag
        return sealed
    }

    /// Decrypts with whichever key fits.
    ///
    /// - Returns: nil if none does, or if anything has been changed on the way. Only which of the two versions it is the
    ///   format leaves unprotected: a padded content may be passed off as a plain one, with the padding at its end.
    func open(_ sealed: ArraySlice<UInt8>, additional: [UInt8]) -> [UInt8]? {
        guard sealed.count >= Self.overhead, let version = sealed.first.flatMap(Version.init) else { return nil }
        let nonceEnd = sealed.startIndex + 1 + Self.nonceBytes
        let tagStart = sealed.endIndex - Self.tagBytes
        guard let nonce = try? AES.GCM.Nonce(data: sealed[(sealed.startIndex + 1)..<nonceEnd]),
            let box = try? AES.GCM.SealedBox(
                nonce: nonce,
                ciphertext: sealed[nonceEnd..<tagStart],
                tag: sealed[tagStart...]
            )
        else { return nil }
        for key in self.keys {
            guard let content = try? AES.GCM.open(box, using: key.secret, authenticating: additional) else { continue }
            return version == .plain ? Array(content) : Self.unpadded(Array(content))
        }
        return nil
    }

    /// Takes off the padding of PKCS#7: as many bytes as each of them says.
    private static func unpadded(_ content: [UInt8]) -> [UInt8]? {
        guard content.count.isMultiple(of: Self.blockBytes), let last = content.last,
            (1...Self.blockBytes).contains(Int(last)), content.suffix(Int(last)).allSatisfy({ $0 == last })
        else { return nil }
        return content.dropLast(Int(last))
    }
}
