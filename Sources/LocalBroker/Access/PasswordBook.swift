import Crypto

/// The users of a password file, and the passwords that were right before.
///
/// A value without IO. Judging a password by its hash is dear on purpose; a client that comes again with a password that was
/// right for the same hash is known by a digest with this process's own key, also when the file was read again meanwhile.
/// The digests are bounded in number; beyond it an arbitrary one makes room.
struct PasswordBook: Sendable {
    static let knownMax = 50_000

    private(set) var hashes: [UserName: PasswordHash] = [:]
    /// What every wrong password costs, whoever is said to have it: as much as the dearest hash of the file.
    private(set) var effort = PasswordEffort()
    private var known: [[UInt8]: PasswordHash] = [:]
    private let key: [UInt8]
    /// What SCRAM tells about users who do not exist is made with it. It comes from the file and not from this process: what
    /// changed with each start would tell who does not exist.
    private let scramKey: [UInt8]
    /// The numbers of rounds of all users who can use SCRAM, in order.
    private let scramIterations: [Int]

    /// - Parameters:
    ///   - key: random, and secret.
    ///   - earlier: the file as it was read before.
    init(_ file: PasswordFile, key: [UInt8], earlier: PasswordBook? = nil) {
        self.key = key
        self.hashes = file.hashes
        self.scramKey = Self.scramKey(file)
        self.scramIterations = self.hashes.values.compactMap { $0.scram?.iterations }.sorted()
        self.effort = self.hashes.values.reduce(PasswordEffort()) { $0.joined(with: $1.effort) }
        if self.hashes.isEmpty { self.effort.sha256Rounds = PasswordHash.defaultIterations }
        guard let earlier else { return }
        let hashes = Set(self.hashes.values)
        self.known = earlier.known.filter { hashes.contains($0.value) }
    }

    /// It comes from the hashes of the first two users: of two no single user knows it, and a change of the file seldom
    /// touches them, as new users come behind the others.
    private static func scramKey(_ file: PasswordFile) -> [UInt8] {
        let hashes = file.users.prefix(2).compactMap { file.hash(of: $0)?.description }
        return Array(SHA256.hash(data: Array("dunlin: users who do not exist\n\(hashes.joined(separator: "\n"))".utf8)))
    }

    /// The hash that a password was right for; nil if that is not known.
    func known(user: String, password: [UInt8]) -> PasswordHash? {
        guard let hash = self.known[self.digest(user, password)], self.hashes[UserName(user)] == hash else {
            return nil
        }
        return hash
    }

    mutating func remember(user: String, password: [UInt8], hash: PasswordHash) {
        guard self.hashes[UserName(user)] == hash else { return }
        if self.known.count >= Self.knownMax { self.known.remove(at: self.known.startIndex) }
        self.known[self.digest(user, password)] = hash
    }

    private func digest(_ user: String, _ password: [UInt8]) -> [UInt8] {
        let name = Array(user.utf8)
        let length = withUnsafeBytes(of: UInt64(name.count).littleEndian) { Array($0) }
        return HMACSHA256.code(of: length + name + password, key: self.key)
    }

    /// What SCRAM needs for a user. One who does not exist gets a salt that is the same each time, the number of rounds of
    /// some user who does, also the same each time, and a verifier that no password has.
    func scramVerifier(for user: String) -> SCRAMVerifier {
        if let verifier = self.hashes[UserName(user)]?.scram { return verifier }
        let salt = HMACSHA256.code(of: Array("salt".utf8) + Array(user.utf8), key: self.scramKey).prefix(16)
        return SCRAMVerifier(salt: Array(salt), iterations: self.iterations(forUnknown: user))
    }

    private func iterations(forUnknown user: String) -> Int {
        guard !self.scramIterations.isEmpty else { return PasswordHash.defaultIterations }
        let code = HMACSHA256.code(of: Array("rounds".utf8) + Array(user.utf8), key: self.scramKey)
        // A share of the whole, so that few names get another number when users come and go.
        let share = code.prefix(4).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return self.scramIterations[Int((share * UInt64(self.scramIterations.count)) >> 32)]
    }
}
