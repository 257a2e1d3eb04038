import Foundation
import JWTKit
import Protocol
import Testing

@testable import LocalBroker

@Suite("JSON Web Tokens")
struct TokenTests {
    private static let secret = "0123456789abcdef0123456789abcdef"

    private static func token(
        _ claims: [String: JWTClaimValue],
        kid: String? = nil,
        _ fill: ((JWTKeyCollection) async throws -> Void)? = nil
    ) async throws -> String {
        let keys = JWTKeyCollection()
        if let fill {
            try await fill(keys)
        } else {
            await keys.add(hmac: HMACKey(from: Self.secret), digestAlgorithm: .sha256)
        }
        var header = JWTHeader()
        if let kid { header.kid = kid }
        return try await keys.sign(JWTClaims(claims), header: header)
    }

    private static func configuration(_ files: TestFiles) throws -> BrokerConfiguration {
        let path = try files.write("secret", Self.secret + "\n")
        return .test {
            $0.access.jwt = JWTConfiguration()
            $0.access.jwt?.secretFile = path
        }
    }

    private static func now() -> Double { Date().timeIntervalSince1970 }

    // MARK: Claims

    private func judge(
        _ claims: [String: JWTClaimValue],
        user: String? = nil,
        _ configure: (inout JWTConfiguration) -> Void = { _ in }
    ) -> AcceptedClient? {
        var configuration = JWTConfiguration()
        configure(&configuration)
        guard case .accepted(let client) = JWTClaims(claims).judge(configuration, userName: user, now: 1000) else {
            return nil
        }
        return client
    }

    @Test("the user is the subject, or the claim that is set, and must be who CONNECT says")
    func user() {
        #expect(self.judge(["sub": .string("alice")])?.userName == "alice")
        #expect(self.judge(["sub": .string("alice")], user: "")?.userName == "alice")
        #expect(self.judge(["sub": .string("alice")], user: "alice")?.userName == "alice")
        #expect(self.judge(["sub": .string("alice")], user: "bob") == nil)
        #expect(self.judge([:]) == nil)
        #expect(self.judge(["sub": .string("")]) == nil)
        #expect(self.judge(["sub": .number(1)]) == nil)
        #expect(self.judge(["sub": .string("a"), "name": .string("b")]) { $0.userClaim = "name" }?.userName == "b")
    }

    @Test("a token counts from nbf to exp, and a time that is none is refused")
    func times() {
        let user: [String: JWTClaimValue] = ["sub": .string("a")]
        #expect(self.judge(user.merging(["exp": .number(1001.5)]) { $1 })?.expiresAt == 1001)
        #expect(self.judge(user.merging(["exp": .number(1000)]) { $1 }) == nil)
        #expect(self.judge(user.merging(["exp": .string("2000")]) { $1 }) == nil)
        #expect(self.judge(user.merging(["exp": .number(-1)]) { $1 }) == nil)
        #expect(self.judge(user.merging(["exp": .number(1e300)]) { $1 }) == nil)
        #expect(self.judge(user.merging(["nbf": .number(1000)]) { $1 }) != nil)
        #expect(self.judge(user.merging(["nbf": .number(1001)]) { $1 }) == nil)
    }

    @Test("audience and issuer are looked at where they are set")
    func audience() {
        let user: [String: JWTClaimValue] = ["sub": .string("a")]
        for (claim, isRight) in [
            (JWTClaimValue.string("me"), true), (.array([.string("x"), .string("me")]), true), (.string("x"), false),
            (.array([]), false), (.number(1), false),
        ] {
            let client = self.judge(user.merging(["aud": claim]) { $1 }) { $0.audience = "me" }
            #expect((client != nil) == isRight)
        }
        #expect(self.judge(user) { $0.audience = "me" } == nil)
        #expect(self.judge(user) { $0.issuer = "them" } == nil)
        #expect(self.judge(user.merging(["iss": .string("them")]) { $1 }) { $0.issuer = "them" } != nil)
        #expect(self.judge(user.merging(["aud": .string("x"), "iss": .string("y")]) { $1 }) != nil)
    }

    @Test("rights are read from publ and subs, or from acl, and what is no filter is refused")
    func grants() {
        func grant(_ claims: [String: JWTClaimValue]) -> AcceptedClient? {
            self.judge(claims.merging(["sub": .string("a")]) { $1 })
        }
        let list: JWTClaimValue = .array([.string("a/#"), .string("b")])
        #expect(grant([:])?.grant == nil)
        #expect(grant(["publ": list])?.grant == TopicGrant(publish: ["a/#", "b"]))
        #expect(grant(["subs": list])?.grant == TopicGrant(subscribe: ["a/#", "b"]))
        let acl = JWTClaimValue.object(["pub": .array([.string("p")]), "sub": .array([.string("s")]), "all": list])
        #expect(
            grant(["acl": acl])?.grant == TopicGrant(publish: ["p", "a/#", "b"], subscribe: ["s", "a/#", "b"])
        )
        #expect(grant(["acl": .object([:])])?.grant == TopicGrant())
        for wrong in [
            ["publ": JWTClaimValue.string("a")], ["subs": .array([.number(1)])], ["acl": .array([])],
            ["publ": .array([.string("a/#/b")])], ["subs": .array([.string("$share/g/a")])],
        ] {
            #expect(grant(wrong) == nil)
        }
    }

    @Test("a password has the form of a token, or not")
    func form() {
        #expect(JWTKeySet.looksLikeToken(Array("eyJhbGciOiJIUzI1NiJ9.e30.x".utf8)))
        for text in ["", "secret", "a.b.c", "eyJ.a", "eyJa.b.c.d"] {
            #expect(!JWTKeySet.looksLikeToken(Array(text.utf8)))
        }
    }

    // MARK: Keys

    private static func keys(_ files: TestFiles, _ texts: [String]) throws -> JWTKeySet {
        var configuration = JWTConfiguration()
        for (index, text) in texts.enumerated() {
            configuration.keyFiles.append(try files.write("key\(index)", text))
        }
        return try JWTKeySet(configuration)
    }

    @Test("tokens of elliptic curves, Edwards curves and RSA are checked with public keys in PEM")
    func pem() async throws {
        try await TestFiles.run { files in
            let curve = ES256PrivateKey()
            let edwards = try EdDSA.PrivateKey()
            let keys = try Self.keys(files, [curve.publicKey.pemRepresentation, edwards.publicKey.pemRepresentation])
            let claims: [String: JWTClaimValue] = ["sub": .string("a")]
            let one = try await Self.token(claims) { await $0.add(ecdsa: curve) }
            let two = try await Self.token(claims) { await $0.add(eddsa: edwards) }
            let other = try await Self.token(claims) { await $0.add(ecdsa: ES256PrivateKey()) }
            #expect(await keys.verify(Array(one.utf8))?.claims.values == claims)
            #expect(await keys.verify(Array(two.utf8))?.claims.values == claims)
            #expect(await keys.verify(Array(other.utf8)) == nil)
        }
    }

    @Test("a public key is never taken for a secret")
    func confusion() async throws {
        try await TestFiles.run { files in
            let pem = ES256PrivateKey().publicKey.pemRepresentation
            let keys = try Self.keys(files, [pem])
            let token = try await Self.token(["sub": .string("a")]) {
                await $0.add(hmac: HMACKey(from: pem), digestAlgorithm: .sha256)
            }
            #expect(await keys.verify(Array(token.utf8)) == nil)
        }
    }

    @Test("a token without a signature, or cut, or changed, is none")
    func unsigned() async throws {
        try await TestFiles.run { files in
            var configuration = JWTConfiguration()
            configuration.secretFile = try files.write("secret", Self.secret)
            let keys = try JWTKeySet(configuration)
            let token = try await Self.token(["sub": .string("a")])
            #expect(await keys.verify(Array(token.utf8)) != nil)
            #expect(await keys.verify(Array("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.".utf8)) == nil)
            #expect(await keys.verify(Array(token.dropLast(3).utf8)) == nil)
            #expect(await keys.verify(Array(token.replacing(".e", with: ".f").utf8)) == nil)
            #expect(await keys.verify(Array("eyJ..".utf8)) == nil)
            #expect(await keys.verify(Array("..".utf8)) == nil)
        }
    }

    @Test("keys of a JSON Web Key Set are found by their identifier")
    func keySet() async throws {
        try await TestFiles.run { files in
            let (first, second) = (ES256PrivateKey(), ES256PrivateKey())
            func jwk(_ key: ES256PrivateKey, _ kid: String) throws -> String {
                let parameters = try #require(key.publicKey.parameters)
                return
                    #"{"kty":"EC","crv":"P-256","kid":"\#(kid)","x":"\#(Self.url(parameters.x))","y":"\#(Self.url(parameters.y))"}"#
            }
            let text = #"{"keys":[\#(try jwk(first, "one")),\#(try jwk(second, "two"))]}"#
            let keys = try Self.keys(files, [text])
            let claims: [String: JWTClaimValue] = ["sub": .string("a")]
            let token = try await Self.token(claims, kid: "two") { await $0.add(ecdsa: second, kid: "two") }
            #expect(await keys.verify(Array(token.utf8)) != nil)
            let wrong = try await Self.token(claims, kid: "one") { await $0.add(ecdsa: second, kid: "one") }
            #expect(await keys.verify(Array(wrong.utf8)) == nil)
        }
    }

    @Test("keys of a set that are for something else, or of no known kind, are left out, and told")
    func otherKeys() async throws {
        try await TestFiles.run { files in
            let key = ES256PrivateKey()
            let parameters = try #require(key.publicKey.parameters)
            let point = #""crv":"P-256","x":"\#(Self.url(parameters.x))","y":"\#(Self.url(parameters.y))""#
            let others = [
                #"{"kty":"EC","use":"enc",\#(point)}"#, #"{"kty":"EC","alg":"ECDH-ES",\#(point)}"#,
                #"{"kty":"AKP","alg":"ML-DSA-44","kid":"p","pub":"AA"}"#, #"{"kty":"OKP","crv":"X25519","x":"AA"}"#,
                #"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#, #"{"kty":"oct","k":"AA"}"#,
                #"{"kty":"RSA","use":"enc","alg":"RSA-OAEP","n":"AA","e":"AQAB"}"#, #"{"kty":"RSA"}"#, "{}", "7",
                #"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
            ]
            let own = #"{"kty":"EC","use":"sig","alg":"ES256",\#(point)}"#
            let text = #"{"keys":[\#((others + [own]).joined(separator: ","))]}"#
            let keys = try Self.keys(files, [text])
            #expect(keys.keys.map(\.algorithm) == ["ES256"])
            #expect(keys.omissions.count == others.count)
            #expect(keys.omissions[0].contains("key0', key 1: its use is 'enc'"))
            #expect(keys.omissions[2].contains("('p')"))
            let token = try await Self.token(["sub": .string("a")]) { await $0.add(ecdsa: key) }
            #expect(await keys.verify(Array(token.utf8)) != nil)
            #expect {
                try Self.keys(files, [#"{"keys":[\#(others.joined(separator: ","))]}"#])
            } throws: { "\($0)".contains("its use is 'enc'") }
        }
    }

    private static func url(_ base64: String) -> String {
        base64.replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    @Test(
        "a file that holds no public key is refused",
        arguments: ["", "secret", "{}", #"{"keys":[{"kty":"oct","k":"AA"}]}"#]
    )
    func wrongKey(text: String) async throws {
        try await TestFiles.run { files in
            #expect(throws: AccessFileError.self) { try Self.keys(files, [text]) }
        }
    }

    // MARK: Connecting

    @Test("a token connects its user with its rights; another key's, an expired one and another user's do not")
    func connect() async throws {
        try await TestFiles.run { files in
            try await TestBroker.run(Self.configuration(files)) { broker in
                let token = try await Self.token([
                    "sub": .string("alice"), "publ": .array([.string("%u/%c")]), "subs": .array([.string("in/#")]),
                ])
                for user in [nil, "", "alice"] {
                    let (client, answer) = try await broker.answer(.credentials(user, token, id: "c1"))
                    #expect(answer.reason == .success)
                    try await client.publish("alice/c1", "x")
                    #expect(try await client.subscribe("in/a") == [.grantedQoS1])
                    #expect(try await client.subscribe("#") == [.notAuthorized])
                    try await client.disconnect()
                }
                try await broker.expectRefused(.credentials("bob", token), .badUserNameOrPassword)
                let expired = try await Self.token(["sub": .string("alice"), "exp": .number(Self.now() - 1)])
                try await broker.expectRefused(.credentials(nil, expired), .badUserNameOrPassword)
                let other = try await Self.token(["sub": .string("alice")]) {
                    await $0.add(hmac: HMACKey(from: Self.secret + "x"), digestAlgorithm: .sha256)
                }
                try await broker.expectRefused(.credentials(nil, other), .badUserNameOrPassword)
                try await broker.expectRefused(.credentials("alice", "secret"), .badUserNameOrPassword)
                try await broker.expectRefused(.test("a"), .notAuthorized)
            }
        }
    }

    @Test("a client is disconnected with 0x87 when its token expires")
    func expiry() async throws {
        try await TestFiles.run { files in
            try await TestBroker.run(Self.configuration(files)) { broker in
                let token = try await Self.token(["sub": .string("a"), "exp": .number(Self.now() + 2)])
                let (client, answer) = try await broker.answer(.credentials(nil, token))
                #expect(answer.reason == .success)
                try await client.expectClosed(.notAuthorized)
            }
        }
    }

    @Test("when a key is gone its tokens' clients are disconnected, those of the others stay")
    func reload() async throws {
        try await TestFiles.run { files in
            let (first, second) = (ES256PrivateKey(), ES256PrivateKey())
            let one = try files.write("one", first.publicKey.pemRepresentation)
            let two = try files.write("two", second.publicKey.pemRepresentation)
            let configuration = BrokerConfiguration.test {
                $0.access.jwt = JWTConfiguration()
                $0.access.jwt?.keyFiles = [one, two]
            }
            try await TestBroker.run(configuration) { broker in
                let claims: [String: JWTClaimValue] = ["sub": .string("a")]
                let stays = try await broker.connected(
                    .credentials(nil, Self.token(claims) { await $0.add(ecdsa: first) }, id: "one")
                ).0
                let goes = try await broker.connected(
                    .credentials(nil, Self.token(claims) { await $0.add(ecdsa: second) }, id: "two")
                ).0
                try files.write("two", ES256PrivateKey().publicKey.pemRepresentation)
                await broker.broker.reload()
                try await goes.expectClosed(.notAuthorized)
                try await stays.expectNothing()
            }
        }
    }
}
