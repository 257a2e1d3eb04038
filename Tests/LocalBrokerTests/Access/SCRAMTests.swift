import Crypto
import Testing

@testable import LocalBroker

@Suite("SCRAM-SHA-256")
struct SCRAMTests {
    /// RFC 7677, section 3: user "user", password "pencil".
    private static let verifier = SCRAMVerifier(
        password: Array("pencil".utf8),
        salt: Base64.decode("W22ZaJ0SNY7soEsUEjb6gQ==") ?? [],
        iterations: 4096
    )
    private static let serverNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    private static let first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    private static let final =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

    private func server() -> SCRAMServer { SCRAMServer(nonce: Self.serverNonce) }

    private func send(_ text: String, to server: inout SCRAMServer) -> SCRAMServer.Step {
        server.onMessage(Array(text.utf8)) { _ in Self.verifier }
    }

    private func isFailure(_ step: SCRAMServer.Step) -> Bool {
        if case .failure = step { true } else { false }
    }

    @Test("the exchange of RFC 7677 goes as it says")
    func example() {
        var server = self.server()
        #expect(
            self.send(Self.first, to: &server)
                == .challenge(
                    Array(
                        ("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").utf8
                    )
                )
        )
        #expect(
            self.send(Self.final, to: &server)
                == .success(user: "user", serverFinal: Array("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".utf8))
        )
        #expect(self.isFailure(self.send(Self.final, to: &server)))
    }

    @Test("a client that believes the server cannot bind the channel is right")
    func channelBindingFlag() {
        var server = self.server()
        let first = self.send("y,,n=user,r=abc", to: &server)
        #expect(!self.isFailure(first))
    }

    @Test(
        "a first message that is wrong, or asks for what is not offered, is refused",
        arguments: [
            "", "n", "n,,", "n,,n=user", "n,,r=abc,n=user", "n,,n=,r=abc", "n,,n=user,r=", "p=tls-unique,,n=user,r=abc",
            "n,,m=x,n=user,r=abc", "n,,n=user,r=abc,m=x", "n,,n=us=er,r=abc", "n,,n=user,r=a\u{1}c", "x,,n=user,r=abc",
            "n,a=other,n=user,r=abc", "n,,n=user,r=abc,",
        ]
    )
    func wrongFirst(text: String) {
        var server = self.server()
        #expect(self.isFailure(self.send(text, to: &server)))
        #expect(self.isFailure(self.send(Self.final, to: &server)))
    }

    @Test("a name's commas and equals signs are read")
    func escapes() {
        var server = self.server()
        var asked: String?
        _ = server.onMessage(Array("n,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=abc".utf8)) { name in
            asked = name
            return Self.verifier
        }
        #expect(asked == "a,b=c")
    }

    @Test(
        "a last message that is wrong is refused",
        arguments: [
            "", "c=biws", Self.final.replacing("biws", with: "eSws"), Self.final.replacing("r=rO", with: "r=rP"),
            Self.final.replacing("p=dH", with: "p=dI"), Self.final.replacing("p=dH", with: "p=H"), Self.final + ",x=y",
            Self.final.replacing(",p=", with: ",m=x,p="),
        ]
    )
    func wrongFinal(text: String) {
        var server = self.server()
        _ = self.send(Self.first, to: &server)
        #expect(self.isFailure(self.send(text, to: &server)))
    }

    @Test("no proof fits the verifier of a user who does not exist")
    func nobody() {
        var server = self.server()
        let nobody = SCRAMVerifier(salt: [1, 2, 3], iterations: 4096)
        _ = server.onMessage(Array(Self.first.utf8)) { _ in nobody }
        #expect(self.isFailure(self.send(Self.final, to: &server)))
    }

    @Test("a message beyond the limit is refused")
    func tooLong() {
        var server = self.server()
        let name = String(repeating: "a", count: SCRAMServer.messageBytesMax)
        #expect(self.isFailure(self.send("n,,n=\(name),r=abc", to: &server)))
    }
}

/// The client's side, for tests.
struct SCRAMClient {
    var user: String
    var password: String
    let nonce = "fyko+d2lbbFgONRv9qkxdawL"

    private var bare: String { "n=\(self.user),r=\(self.nonce)" }
    var first: [UInt8] { Array("n,,\(self.bare)".utf8) }

    /// The last message, and what the server must answer.
    func final(_ challenge: [UInt8]) throws -> (message: [UInt8], answer: [UInt8]) {
        let text = String(decoding: challenge, as: UTF8.self)
        let fields = text.split(separator: ",").map { String($0.dropFirst(2)) }
        let salt = try #require(Base64.decode(fields[1]))
        let iterations = try #require(Int(fields[2]))
        let salted = PBKDF2.sha256(Array(self.password.utf8), salt: salt, iterations: iterations)
        let clientKey = HMACSHA256.code(of: Array("Client Key".utf8), key: salted)
        let withoutProof = "c=biws,r=\(fields[0])"
        let transcript = Array("\(self.bare),\(text),\(withoutProof)".utf8)
        let signature = HMACSHA256.code(of: transcript, key: Array(SHA256.hash(data: clientKey)))
        let proof = zip(clientKey, signature).map { $0 ^ $1 }
        let serverKey = HMACSHA256.code(of: Array("Server Key".utf8), key: salted)
        let server = HMACSHA256.code(of: transcript, key: serverKey)
        return (
            Array("\(withoutProof),p=\(Base64.encode(proof))".utf8), Array("v=\(Base64.encode(server))".utf8)
        )
    }
}
