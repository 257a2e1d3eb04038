/// A password file as text and as users: one `user:hash` a line, empty lines, and comments that begin with `#`.
///
/// A user name is everything before the first colon; its bytes are compared as they are. Changing a user keeps all other
/// lines as they were.
public struct PasswordFile: Sendable, CustomStringConvertible {
    private enum Line: Sendable {
        case user(String, PasswordHash)
        case other(String)
    }

    private var lines: [Line] = []
    /// Where a user's line is.
    private var places: [UserName: Int] = [:]

    /// An empty file.
    public init() {}

    /// Reads the text of a file.
    ///
    /// - Throws: `AccessFileError` with the number of the first line that is wrong.
    public init(_ text: String) throws(AccessFileError) {
        // In Swift "\r\n" is one character, which is no "\n".
        var rows = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        if rows.last?.isEmpty == true { rows.removeLast() }
        for (index, row) in rows.enumerated() {
            let line = String(row)
            if row.allSatisfy(\.isWhitespace) || row.hasPrefix("#") {
                self.lines.append(.other(line))
                continue
            }
            guard let colon = row.firstIndex(of: ":") else {
                throw AccessFileError(line: index + 1, "no colon between user name and hash")
            }
            let user = String(row[..<colon])
            do throws(AccessFileError) {
                try Self.check(user: user)
                let hash = try PasswordHash(String(row[row.index(after: colon)...]))
                guard self.places.updateValue(self.lines.count, forKey: UserName(user)) == nil else {
                    throw AccessFileError("the user '\(user)' was there before")
                }
                self.lines.append(.user(user, hash))
            } catch {
                throw AccessFileError(line: index + 1, error.reason)
            }
        }
    }

    /// The text of the file.
    public var description: String {
        self.lines.map { line in
            switch line {
            case .user(let user, let hash): "\(user):\(hash)\n"
            case .other(let text): text + "\n"
            }
        }.joined()
    }

    /// The users, in the order of the file.
    public var users: [String] {
        self.lines.compactMap { if case .user(let user, _) = $0 { user } else { nil } }
    }

    /// A user's hash; nil if there is no such user.
    public func hash(of user: String) -> PasswordHash? {
        guard let place = self.places[UserName(user)], case .user(_, let hash) = self.lines[place] else { return nil }
        return hash
    }

    /// The file with a user added behind all others, or with another hash for one that is there.
    ///
    /// - Throws: `AccessFileError` if the name cannot stand in a file: it is empty, has a colon or a control character, or
    ///   begins with `#`.
    public func setting(user: String, hash: PasswordHash) throws(AccessFileError) -> PasswordFile {
        try Self.check(user: user)
        var file = self
        if let place = self.places[UserName(user)] {
            file.lines[place] = .user(user, hash)
        } else {
            file.places[UserName(user)] = file.lines.count
            file.lines.append(.user(user, hash))
        }
        return file
    }

    /// The file without a user; nil if there is no such user.
    public func removing(user: String) -> PasswordFile? {
        guard let place = self.places[UserName(user)] else { return nil }
        var file = self
        file.lines.remove(at: place)
        file.places[UserName(user)] = nil
        for (name, other) in file.places where other > place { file.places[name] = other - 1 }
        return file
    }

    /// Every user's hash.
    var hashes: [UserName: PasswordHash] {
        self.places.mapValues { place in
            guard case .user(_, let hash) = self.lines[place] else {
                preconditionFailure("a user's place is a user's line")
            }
            return hash
        }
    }

    private static func check(user: String) throws(AccessFileError) {
        guard !user.isEmpty else { throw AccessFileError("empty user name") }
        guard !user.hasPrefix("#"), !user.utf8.contains(where: { $0 == UInt8(ascii: ":") || $0 < 0x20 || $0 == 0x7f }),
            !user.contains(where: \.isNewline)
        else { throw AccessFileError("a user name has no colon, no control character, and no '#' at its beginning") }
        guard user.utf8.count <= 65_535 else { throw AccessFileError("a user name has at most 65535 bytes") }
    }
}

/// A user name as a key: two are the same if their bytes are. (Swift takes canonically equivalent text for equal.)
struct UserName: Hashable, Sendable {
    var text: String

    init(_ text: String) { self.text = text }

    static func == (left: UserName, right: UserName) -> Bool { left.text.utf8.elementsEqual(right.text.utf8) }

    func hash(into hasher: inout Hasher) {
        for byte in self.text.utf8 { hasher.combine(byte) }
    }
}
