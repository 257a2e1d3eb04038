internal import Crypto

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// Keys in files: base64, one a line, or a JSON array of them as in the keyring file of a Serf agent.
extension KeyRing {
    /// Reads the content of a file; the first key in it is the first of the ring.
    ///
    /// Empty lines and those that begin with `#` are passed over. A key that is there twice counts once.
    package init(text: String) throws(KeyRingError) {
        let keys = try Self.isArray(text) ? Self.elements(text) : Self.lines(text)
        guard let first = keys.first else { throw .noKeys }
        self.init(first)
        for key in keys.dropFirst() { try self.add(key) }
    }

    /// The content of a file with these keys, in the form of an earlier one: a JSON array stays one, and of lines those
    /// that are no keys stay where they are.
    package func text(inTheFormOf old: String) -> String {
        var rest = self.keys[...]
        guard !Self.isArray(old) else {
            return "[\n" + rest.map { "  \"\($0.base64)\"" }.joined(separator: ",\n") + "\n]\n"
        }
        var lines = old.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).compactMap { line in
            Self.isKey(line) ? rest.popFirst()?.base64 : String(line)
        }
        // What follows the last line end is the beginning of a line.
        if lines.last == "" { lines.removeLast() }
        return (lines + rest.map(\.base64)).map { $0 + "\n" }.joined()
    }

    private static func isArray(_ text: String) -> Bool { text.first { !$0.isWhitespace } == "[" }

    private static func isKey(_ line: Substring) -> Bool {
        line.first { !$0.isWhitespace }.map { $0 != "#" } ?? false
    }

    private static func lines(_ text: String) throws(KeyRingError) -> [Key] {
        var keys: [Key] = []
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated()
        where Self.isKey(line) {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard let word = words.first, words.count == 1, let key = Key(base64: String(word)) else {
                throw .invalidLine(index + 1)
            }
            keys.append(key)
        }
        return keys
    }

    private static func elements(_ text: String) throws(KeyRingError) -> [Key] {
        guard let texts = try? JSONDecoder().decode([String].self, from: Data(text.utf8)) else { throw .invalidJSON }
        var keys: [Key] = []
        for (index, text) in texts.enumerated() {
            guard let key = Key(base64: text) else { throw .invalidElement(index + 1) }
            keys.append(key)
        }
        return keys
    }
}

extension KeyRing.Key {
    /// - Returns: nil unless the text is the base64 of 16, 24 or 32 bytes.
    package init?(base64: String) {
        guard let data = Data(base64Encoded: base64) else { return nil }
        self.init(bytes: Array(data))
    }

    /// The form of key files, and of Serf's `-encrypt`.
    package var base64: String { Data(self.bytes).base64EncodedString() }

    var bytes: [UInt8] { self.secret.withUnsafeBytes { Array($0) } }

    /// What a key may be called by in public: eight digits that say nothing about it.
    package var fingerprint: String {
        SHA256.hash(data: self.bytes).prefix(4).map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
    }
}
