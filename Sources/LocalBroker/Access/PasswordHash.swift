import Crypto
import CryptoExtras

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// What is kept of a password: enough to tell it when it comes again, too little to find it.
///
/// The form is a SCRAM verifier (RFC 5803, as PostgreSQL writes it), which serves a password that is sent as well as one
/// that is proved by SCRAM-SHA-256:
///
///     SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
///
/// Salt and keys are base64. Mosquitto's form is read too; its users cannot use SCRAM:
///
///     $7$<iterations>$<salt>$<PBKDF2 with SHA-512>
public struct PasswordHash: Hashable, Sendable, CustomStringConvertible {
    /// Rounds of PBKDF2 unless told otherwise: what the library takes for the least that is safe. A client that uses
    /// SCRAM does the same number of rounds itself.
    public static let defaultIterations = 210_000
    /// Rounds that are accepted: fewer protect nothing (RFC 7677), more would let a file stall the broker.
    public static let iterationsRange = 4096...10_000_000
    static let mosquittoIterationsRange = 1...10_000_000

    enum Form: Hashable, Sendable {
        case scram(SCRAMVerifier)
        case mosquitto(iterations: Int, salt: [UInt8], key: [UInt8])
    }

    let form: Form
    private let text: String

    /// The text as it stands in a password file.
    public var description: String { self.text }

    /// Hashes a password with a new random salt.
    ///
    /// It takes a good part of a second: do not call it on an event loop.
    ///
    /// - Parameter iterations: rounds of PBKDF2, from 4096 to 10,000,000; what is outside is moved to the next bound.
    public static func make(password: String, iterations: Int = Self.defaultIterations) -> PasswordHash {
        var generator = SystemRandomNumberGenerator()
        let salt = (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        return Self.make(password: Array(password.utf8), salt: salt, iterations: iterations)
    }

    static func make(password: [UInt8], salt: [UInt8], iterations: Int) -> PasswordHash {
        let rounds = min(max(iterations, Self.iterationsRange.lowerBound), Self.iterationsRange.upperBound)
        let verifier = SCRAMVerifier(password: password, salt: salt, iterations: rounds)
        return PasswordHash(form: .scram(verifier), text: verifier.description)
    }

    private init(form: Form, text: String) {
        self.form = form
        self.text = text
    }

    /// Reads one of the two forms.
    ///
    /// - Throws: `AccessFileError` that says what is wrong with it.
    public init(_ text: String) throws(AccessFileError) {
        let prefix = "SCRAM-SHA-256$"
        if text.hasPrefix(prefix) {
            self.init(form: .scram(try SCRAMVerifier(text: text.dropFirst(prefix.count))), text: text)
        } else if text.hasPrefix("$7$") {
            let parts = text.dropFirst(3).split(separator: "$", omittingEmptySubsequences: false)
            guard parts.count == 3, let rounds = Int(parts[0]), Self.mosquittoIterationsRange.contains(rounds),
                let salt = Base64.decode(parts[1]), let key = Base64.decode(parts[2]), !salt.isEmpty, key.count == 64
            else { throw AccessFileError("a '$7$' hash is '$7$<iterations>$<salt>$<key of 64 bytes>' in base64") }
            self.init(form: .mosquitto(iterations: rounds, salt: salt, key: key), text: text)
        } else {
            throw AccessFileError("the hash has no known form: make it with 'node passwd'")
        }
    }

    /// Whether this is the password. As dear as `make`, and takes the same time whether it is or not.
    public func matches(password: [UInt8]) -> Bool {
        switch self.form {
        case .scram(let verifier):
            let salted = PBKDF2.sha256(password, salt: verifier.salt, iterations: verifier.iterations)
            return ConstantTime.equals(SCRAMVerifier.storedKey(salted: salted), verifier.storedKey)
        case .mosquitto(let iterations, let salt, let key):
            return ConstantTime.equals(PBKDF2.sha512(password, salt: salt, iterations: iterations), key)
        }
    }

    /// What it costs to judge a password.
    var effort: PasswordEffort {
        switch self.form {
        case .scram(let verifier): PasswordEffort(sha256Rounds: verifier.iterations)
        case .mosquitto(let iterations, _, _): PasswordEffort(sha512Rounds: iterations)
        }
    }

    /// What SCRAM needs; nil if the form does not have it.
    var scram: SCRAMVerifier? {
        if case .scram(let verifier) = self.form { verifier } else { nil }
    }
}

/// Rounds of PBKDF2 with each function.
struct PasswordEffort: Hashable, Sendable {
    var sha256Rounds = 0
    var sha512Rounds = 0

    /// As much of each as the larger of two.
    func joined(with other: PasswordEffort) -> PasswordEffort {
        PasswordEffort(
            sha256Rounds: max(self.sha256Rounds, other.sha256Rounds),
            sha512Rounds: max(self.sha512Rounds, other.sha512Rounds)
        )
    }

    /// What is left of it when a part has been made.
    func remaining(after part: PasswordEffort?) -> PasswordEffort {
        PasswordEffort(
            sha256Rounds: max(0, self.sha256Rounds - (part?.sha256Rounds ?? 0)),
            sha512Rounds: max(0, self.sha512Rounds - (part?.sha512Rounds ?? 0))
        )
    }

    /// Makes it for nothing but the time it takes.
    func spend(on password: [UInt8]) {
        let salt = [UInt8](repeating: 0, count: 16)
        if self.sha256Rounds > 0 { _ = PBKDF2.sha256(password, salt: salt, iterations: self.sha256Rounds) }
        if self.sha512Rounds > 0 { _ = PBKDF2.sha512(password, salt: salt, iterations: self.sha512Rounds) }
    }
}

/// What a server keeps of a password for SCRAM-SHA-256 (RFC 5802, section 3).
struct SCRAMVerifier: Hashable, Sendable, CustomStringConvertible {
    var salt: [UInt8]
    var iterations: Int
    var storedKey: [UInt8]
    var serverKey: [UInt8]

    init(password: [UInt8], salt: [UInt8], iterations: Int) {
        let salted = PBKDF2.sha256(password, salt: salt, iterations: iterations)
        self.salt = salt
        self.iterations = iterations
        self.storedKey = Self.storedKey(salted: salted)
        self.serverKey = HMACSHA256.code(of: Array("Server Key".utf8), key: salted)
    }

    /// A verifier that no password has, for users who do not exist.
    init(salt: [UInt8], iterations: Int) {
        self.salt = salt
        self.iterations = iterations
        self.storedKey = [UInt8](repeating: 0, count: 32)
        self.serverKey = [UInt8](repeating: 0, count: 32)
    }

    fileprivate init(text: Substring) throws(AccessFileError) {
        let halves = text.split(separator: "$", omittingEmptySubsequences: false)
        let first = halves.first?.split(separator: ":", omittingEmptySubsequences: false) ?? []
        let second = halves.last?.split(separator: ":", omittingEmptySubsequences: false) ?? []
        guard halves.count == 2, first.count == 2, second.count == 2, let rounds = Int(first[0]),
            let salt = Base64.decode(first[1]), !salt.isEmpty,
            let storedKey = Base64.decode(second[0]), storedKey.count == 32,
            let serverKey = Base64.decode(second[1]), serverKey.count == 32
        else {
            throw AccessFileError("a hash is 'SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>' in base64")
        }
        guard PasswordHash.iterationsRange.contains(rounds) else {
            throw AccessFileError("a hash has from 4096 to 10000000 iterations")
        }
        self.salt = salt
        self.iterations = rounds
        self.storedKey = storedKey
        self.serverKey = serverKey
    }

    static func storedKey(salted: [UInt8]) -> [UInt8] {
        Array(SHA256.hash(data: HMACSHA256.code(of: Array("Client Key".utf8), key: salted)))
    }

    var description: String {
        "SCRAM-SHA-256$\(self.iterations):\(Base64.encode(self.salt))"
            + "$\(Base64.encode(self.storedKey)):\(Base64.encode(self.serverKey))"
    }
}

// MARK: Primitives on bytes

enum PBKDF2 {
    static func sha256(_ password: [UInt8], salt: [UInt8], iterations: Int) -> [UInt8] {
        Self.derive(password, salt, .sha256, 32, iterations)
    }

    static func sha512(_ password: [UInt8], salt: [UInt8], iterations: Int) -> [UInt8] {
        Self.derive(password, salt, .sha512, 64, iterations)
    }

    private static func derive(
        _ password: [UInt8],
        _ salt: [UInt8],
        _ function: KDF.Insecure.PBKDF2.HashFunction,
        _ count: Int,
        _ rounds: Int
    ) -> [UInt8] {
        do {
            // How many rounds are safe is judged where the hash is read.
            return try KDF.Insecure.PBKDF2.deriveKey(
                from: password,
                salt: salt,
                using: function,
                outputByteCount: count,
                unsafeUncheckedRounds: rounds
            ).withUnsafeBytes { Array($0) }
        } catch {
            preconditionFailure("PBKDF2 fails only without memory or for zero rounds: \(error)")
        }
    }
}

enum HMACSHA256 {
    static func code(of message: [UInt8], key: [UInt8]) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: message, using: SymmetricKey(data: key)))
    }
}

enum Base64 {
    static func encode(_ bytes: [UInt8]) -> String { Data(bytes).base64EncodedString() }

    /// The bytes of base64 text; nil if it is none.
    static func decode(_ text: some StringProtocol) -> [UInt8]? { Data(base64Encoded: String(text)).map { Array($0) } }
}

enum ConstantTime {
    /// Whether two secrets are equal, in a time that does not tell where they differ.
    static func equals(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        var difference: UInt8 = 0
        for index in left.indices { difference |= left[index] ^ right[index] }
        return difference == 0
    }
}
