import Crypto
import NIOPosix

/// The users of a password file, and the passwords that were right before.
///
/// A value without IO. Judging a password by its hash is dear on purpose; a client that comes again with a password that was
/// right since the file was read is known by a digest with this process's own key. The digests are bounded in number;
/// beyond it an arbitrary one makes room.
struct PasswordBook: Sendable {
    static let knownMax = 50_000

    private(set) var hashes: [UserName: PasswordHash] = [:]
    /// What passwords of users who do not exist are held against, so that they take as long as others.
    private(set) var nobody: PasswordHash
    private var known: [[UInt8]: PasswordHash] = [:]
    private let key: [UInt8]

    /// - Parameter key: random, and secret.
    init(_ file: PasswordFile, key: [UInt8]) {
        self.key = key
        self.hashes = file.hashes
        let iterations = self.hashes.values.map(\.iterations).max() ?? PasswordHash.defaultIterations
        self.nobody = Self.nobody(iterations: iterations)
    }

    private static func nobody(iterations: Int) -> PasswordHash {
        let rounds = min(
            max(iterations, PasswordHash.iterationsRange.lowerBound),
            PasswordHash.iterationsRange.upperBound
        )
        let salt = [UInt8](repeating: 0, count: 16)
        let text = SCRAMVerifier(salt: salt, iterations: rounds).description
        do {
            return try PasswordHash(text)
        } catch {
            preconditionFailure("a verifier that was written here cannot be read: \(error)")
        }
    }

    /// The hash that a password was right for since the file was read; nil if that is not known.
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

    /// What SCRAM needs for a user. One who does not exist gets a salt that is the same each time, and a verifier that no
    /// password has.
    func scramVerifier(for user: String) -> SCRAMVerifier {
        if let verifier = self.hashes[UserName(user)]?.scram { return verifier }
        let salt = HMACSHA256.code(of: Array("salt".utf8) + Array(user.utf8), key: self.key).prefix(16)
        let iterations = self.hashes.values.first { $0.scram != nil }?.iterations ?? self.nobody.iterations
        return SCRAMVerifier(salt: Array(salt), iterations: iterations)
    }
}
