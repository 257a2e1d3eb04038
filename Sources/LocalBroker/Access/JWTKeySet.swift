import Crypto
import JWTKit
import Logging

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// The keys that tokens are checked with, read from the files of a `JWTConfiguration`.
///
/// A key is for one algorithm, and a token is checked only with keys for the algorithm that it names: a public key never
/// serves as a secret.
struct JWTKeySet: Sendable {
    static let fileBytesMax = 1024 * 1024
    static let keysMax = 1000
    static let secretBytesMin = 32

    struct Key: Sendable {
        /// The same for the same key in a later set.
        var id: String
        var algorithm: String
        /// The key identifier; nil if the key is for tokens that name any or none.
        var kid: String?
        var verifier: Task<JWTKeyCollection, Never>
    }

    private(set) var keys: [Key] = []
    /// What is said of keys of a set that are left out.
    private(set) var omissions: [String] = []

    /// Reads the files.
    ///
    /// - Throws: `AccessFileError` for the first that cannot be used.
    init(_ configuration: JWTConfiguration) throws(AccessFileError) {
        if let path = configuration.secretFile {
            try self.add(secret: try FileContents.read(path, bytesMax: Self.fileBytesMax))
        }
        for path in configuration.keyFiles {
            let bytes = try FileContents.read(path, bytesMax: Self.fileBytesMax)
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw AccessFileError("'\(path)' is neither PEM nor a JSON Web Key Set")
            }
            do throws(AccessFileError) {
                if text.drop(while: \.isWhitespace).hasPrefix("{") {
                    try self.add(jwks: text, path)
                } else {
                    try self.add(pem: text)
                }
            } catch {
                throw AccessFileError("'\(path)': \(error.reason)")
            }
        }
        guard !self.keys.isEmpty else {
            let reasons = self.omissions.prefix(3).map { "; \($0)" }.joined()
            throw AccessFileError("tokens are to be taken, but no file holds a key for them\(reasons)")
        }
        if self.keys.count > Self.keysMax { throw AccessFileError("more than \(Self.keysMax) keys for tokens") }
    }

    private mutating func add(secret bytes: [UInt8]) throws(AccessFileError) {
        var secret = bytes
        while secret.last == 0x0a || secret.last == 0x0d { secret.removeLast() }
        guard secret.count >= Self.secretBytesMin else {
            throw AccessFileError("a secret for tokens has at least \(Self.secretBytesMin) bytes")
        }
        let key = HMACKey(from: secret)
        // A secret is at least as long as the digest it is used with (RFC 7518, section 3.2).
        for (name, digest, bytesMin) in [
            ("HS256", DigestAlgorithm.sha256, 32), ("HS384", .sha384, 48), ("HS512", .sha512, 64),
        ]
        where secret.count >= bytesMin {
            self.add(name, nil, material: secret) { await $0.add(hmac: key, digestAlgorithm: digest) }
        }
    }

    private mutating func add(pem text: String) throws(AccessFileError) {
        // The key's own type says which of them can be read.
        let material = Array(text.utf8)
        if let key = try? JWTKit.Insecure.RSA.PublicKey(pem: text) {
            self.add(rsa: key, kid: nil, only: nil, material: material)
        } else if let key = try? ES256PublicKey(pem: text) {
            self.add("ES256", nil, material: material) { await $0.add(ecdsa: key) }
        } else if let key = try? ES384PublicKey(pem: text) {
            self.add("ES384", nil, material: material) { await $0.add(ecdsa: key) }
        } else if let key = try? ES512PublicKey(pem: text) {
            self.add("ES512", nil, material: material) { await $0.add(ecdsa: key) }
        } else if let key = try? EdDSA.PublicKey(pem: text) {
            self.add("EdDSA", nil, material: material) { await $0.add(eddsa: key) }
        } else {
            throw AccessFileError("not a public key in PEM: RSA of at least 2048 bits, P-256, P-384, P-521 or Ed25519")
        }
    }

    /// Says which keys of a set are left out.
    func logOmissions(_ logger: Logger) {
        for omission in self.omissions { logger.warning("a key for tokens is not used: \(omission)") }
    }

    private struct WebKeySet: Decodable {
        var keys: [Member]
    }

    /// A member of a set; nothing of it is known if it is no key.
    private struct Member: Decodable {
        var key: WebKey?

        init(from decoder: any Decoder) {
            // The set has what it has; what is none of ours is left out.
            self.key = try? WebKey(from: decoder)
        }
    }

    /// A key as RFC 7517 writes it, whatever its kind.
    private struct WebKey: Decodable {
        var kty: String
        var use: String?
        var alg: String?
        var kid: String?
        var crv: String?
        var n: String?
        var e: String?
        var x: String?
        var y: String?
    }

    /// A set may have keys that are for something else, or of a kind that came up later; those are left out. (RFC 7517,
    /// section 5)
    private mutating func add(jwks text: String, _ path: String) throws(AccessFileError) {
        let set: WebKeySet
        do {
            set = try JSONDecoder().decode(WebKeySet.self, from: Data(text.utf8))
        } catch {
            throw AccessFileError("not a JSON Web Key Set: \(error)")
        }
        guard set.keys.count <= Self.keysMax else { throw AccessFileError("more than \(Self.keysMax) keys for tokens") }
        for (index, member) in set.keys.enumerated() {
            do {
                guard let key = member.key else { throw AccessFileError("it is not a key") }
                try self.add(key)
            } catch {
                let name = member.key?.kid.map { " ('\($0)')" } ?? ""
                let reason = (error as? AccessFileError)?.reason ?? "\(error)"
                self.omissions.append("'\(path)', key \(index + 1)\(name): \(reason)")
            }
        }
    }

    private mutating func add(_ jwk: WebKey) throws {
        if let use = jwk.use, use != "sig" { throw AccessFileError("its use is '\(use)'") }
        let count = self.keys.count
        switch (jwk.kty, jwk.crv) {
        case ("RSA", _):
            guard let modulus = jwk.n, let exponent = jwk.e else { throw AccessFileError("it is not a public key") }
            let key = try JWTKit.Insecure.RSA.PublicKey(modulus: modulus, exponent: exponent)
            self.add(rsa: key, kid: jwk.kid, only: jwk.alg, material: Array("\(modulus).\(exponent)".utf8))
        case ("EC", let curve?):
            guard let x = jwk.x, let y = jwk.y else { throw AccessFileError("it is not a public key") }
            try self.add(curve: curve, x, y, jwk)
        case ("OKP", "Ed25519"):
            guard let x = jwk.x else { throw AccessFileError("it is not a public key") }
            let key = try EdDSA.PublicKey(x: x, curve: .ed25519)
            let material = Array("Ed25519.\(x).\(jwk.y ?? "")".utf8)
            self.add("EdDSA", jwk.kid, only: jwk.alg, material: material) { await $0.add(eddsa: key) }
        default: throw AccessFileError("its kind is not known: \(jwk.kty) \(jwk.crv ?? "")")
        }
        if self.keys.count == count { throw AccessFileError("it is for '\(jwk.alg ?? "")'") }
    }

    private mutating func add(curve: String, _ x: String, _ y: String, _ jwk: WebKey) throws {
        let material = Array("\(curve).\(x).\(y)".utf8)
        switch curve {
        case "P-256":
            let key = try ES256PublicKey(parameters: (x, y))
            self.add("ES256", jwk.kid, only: jwk.alg, material: material) { await $0.add(ecdsa: key) }
        case "P-384":
            let key = try ES384PublicKey(parameters: (x, y))
            self.add("ES384", jwk.kid, only: jwk.alg, material: material) { await $0.add(ecdsa: key) }
        case "P-521":
            let key = try ES512PublicKey(parameters: (x, y))
            self.add("ES512", jwk.kid, only: jwk.alg, material: material) { await $0.add(ecdsa: key) }
        default: throw AccessFileError("the curve '\(curve)' is not known")
        }
    }

    private mutating func add(rsa key: JWTKit.Insecure.RSA.PublicKey, kid: String?, only: String?, material: [UInt8]) {
        for (suffix, digest) in [("256", DigestAlgorithm.sha256), ("384", .sha384), ("512", .sha512)] {
            self.add("RS" + suffix, kid, only: only, material: material) {
                await $0.add(rsa: key, digestAlgorithm: digest)
            }
            self.add("PS" + suffix, kid, only: only, material: material) {
                await $0.add(pss: key, digestAlgorithm: digest)
            }
        }
    }

    /// - Parameter only: the algorithm that the key is for; nil if it is for all that can use it.
    private mutating func add(
        _ algorithm: String,
        _ kid: String?,
        only: String? = nil,
        material: [UInt8],
        _ fill: @escaping @Sendable (JWTKeyCollection) async -> Void
    ) {
        guard only == nil || only == algorithm else { return }
        let digest = SHA256.hash(data: Array(algorithm.utf8) + [0] + material)
        let verifier = Task {
            let collection = JWTKeyCollection()
            await fill(collection)
            return collection
        }
        self.keys.append(Key(id: Base64.encode(Array(digest)), algorithm: algorithm, kid: kid, verifier: verifier))
    }

    // MARK: Checking

    /// Checks a token's signature.
    ///
    /// - Returns: its claims and the key it was made with; nil if it is not a token of one of the keys.
    func verify(_ token: [UInt8]) async -> (claims: JWTClaims, keyID: String)? {
        guard let header = Self.header(of: token) else { return nil }
        for key in self.keys where key.algorithm == header.alg {
            if let kid = key.kid, let asked = header.kid, kid != asked { continue }
            // It throws for a wrong signature as for claims that are no object; both are no token of this key.
            if let claims = try? await key.verifier.value.verify(token, as: JWTClaims.self) { return (claims, key.id) }
        }
        return nil
    }

    /// Whether a password has the form of a token: three parts, the first of which begins like every JSON object does.
    static func looksLikeToken(_ password: [UInt8]) -> Bool {
        password.starts(with: "eyJ".utf8) && password.count(where: { $0 == UInt8(ascii: ".") }) == 2
    }

    private struct Header: Decodable {
        var alg: String
        var kid: String?
    }

    private static func header(of token: [UInt8]) -> Header? {
        var text = String(decoding: token.prefix { $0 != UInt8(ascii: ".") }, as: UTF8.self)
        text = String(text.map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 })
        text += String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        // What is no header is no token.
        return Base64.decode(text).flatMap { try? JSONDecoder().decode(Header.self, from: Data($0)) }
    }
}
