internal import Crypto

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

extension KeyRing.Key {
    /// A secret of 32 bytes for another use of the key than gossip: HKDF with SHA-256 and no salt (RFC 5869).
    ///
    /// It tells nothing of the key, nor of what is derived for other uses.
    package func derived(for use: String) -> [UInt8] {
        let derived = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: self.secret,
            info: Data(use.utf8),
            outputByteCount: 32
        )
        return derived.withUnsafeBytes { Array($0) }
    }
}
