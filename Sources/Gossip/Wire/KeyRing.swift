internal import Crypto

/// The keys of a ring: the first encrypts, all of them decrypt (WIRE.md section 4).
///
/// So a key is changed without a gap: add the new one everywhere, then make it the first everywhere, then remove the old
/// one everywhere. A key never shows in a description.
package struct KeyRing: Sendable, Equatable {
    /// A key of AES-128, AES-192 or AES-256.
    package struct Key: Sendable, Equatable {
        let secret: SymmetricKey

        /// - Returns: nil unless there are 16, 24 or 32 bytes.
        package init?(bytes: [UInt8]) {
            guard [16, 24, 32].contains(bytes.count) else { return nil }
            self.secret = SymmetricKey(data: bytes)
        }

        /// A new one, of 32 bytes from the system's source of randomness.
        package static func random() -> Key {
            Key(secret: SymmetricKey(size: .bits256))
        }

        private init(secret: SymmetricKey) {
            self.secret = secret
        }
    }

    /// The most keys; each costs an attempt on a packet that none of them opens.
    package static let countMax = 16

    /// At least one, the first in front.
    package private(set) var keys: [Key]

    package init(_ primary: Key) {
        self.keys = [primary]
    }

    /// Adds a key that decrypts and does not encrypt; one that is there already stays where it is.
    package mutating func add(_ key: Key) throws(KeyRingError) {
        guard !self.keys.contains(key) else { return }
        guard self.keys.count < Self.countMax else { throw .tooManyKeys }
        self.keys.append(key)
    }

    /// Makes one of the keys the first.
    package mutating func use(_ key: Key) throws(KeyRingError) {
        guard let index = self.keys.firstIndex(of: key) else { throw .unknownKey }
        self.keys.insert(self.keys.remove(at: index), at: 0)
    }

    /// Removes a key; the first is not removed.
    package mutating func remove(_ key: Key) throws(KeyRingError) {
        guard let index = self.keys.firstIndex(of: key) else { throw .unknownKey }
        guard index > 0 else { throw .primaryKey }
        self.keys.remove(at: index)
    }
}

extension KeyRing: CustomStringConvertible, CustomReflectable {
    package var description: String { "\(self.keys.count) keys" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension KeyRing.Key: CustomStringConvertible, CustomReflectable {
    package var description: String { "a key of \(self.secret.bitCount) bits" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// Why a ring of keys was not made or changed. No content of a key is in it.
package enum KeyRingError: Error, Equatable, Sendable, CustomStringConvertible {
    case tooManyKeys
    case unknownKey
    case primaryKey
    case noKeys
    /// What stands at this line of a file, counted from 1.
    case invalidLine(Int)
    /// What stands at this place of a JSON array, counted from 1.
    case invalidElement(Int)
    case invalidJSON

    package var description: String {
        switch self {
        case .tooManyKeys: "more than \(KeyRing.countMax) keys"
        case .unknownKey: "there is no such key"
        case .primaryKey: "the key is the one that encrypts; make another the first before"
        case .noKeys: "there is no key in it"
        case .invalidLine(let line): "line \(line) is not the base64 of 16, 24 or 32 bytes"
        case .invalidElement(let place): "key \(place) is not the base64 of 16, 24 or 32 bytes"
        case .invalidJSON: "it begins like a JSON array and is no array of strings"
        }
    }
}
