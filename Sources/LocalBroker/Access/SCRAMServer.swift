import Crypto

/// The server's side of one SCRAM-SHA-256 exchange (RFC 5802, RFC 7677), without channel binding.
///
/// A pure value: the nonce and the user's verifier are handed in. The same exchange is made for a user who does not exist,
/// with a verifier that no password has, so that it does not tell who does.
struct SCRAMServer: Sendable {
    static let method = "SCRAM-SHA-256"
    /// The longest message taken, in bytes.
    static let messageBytesMax = 8192

    enum Step: Equatable {
        /// Send this and wait for the answer.
        case challenge([UInt8])
        /// The client knows the password; this proves to it that the server knows it too.
        case success(user: String, serverFinal: [UInt8])
        case failure(String)
    }

    private enum State {
        case awaitingFirst
        case awaitingFinal(Challenge)
        case ended
    }

    private struct Challenge {
        var user: String
        var verifier: SCRAMVerifier
        /// The GS2 header, which the client repeats under its proof.
        var header: [UInt8]
        var nonce: [UInt8]
        /// `client-first-message-bare,server-first-message,`
        var transcript: [UInt8]
    }

    private var state = State.awaitingFirst
    private let serverNonce: String

    /// - Parameter nonce: at least 18 random bytes' worth of printable ASCII without commas, new for each exchange.
    init(nonce: String) {
        self.serverNonce = nonce
    }

    /// Takes the client's next message.
    ///
    /// - Parameter verifier: finds a user's verifier; called at most once.
    mutating func onMessage(_ message: [UInt8], verifier: (String) -> SCRAMVerifier) -> Step {
        let state = self.state
        self.state = .ended
        guard message.count <= Self.messageBytesMax else { return .failure("a SCRAM message is too long") }
        switch state {
        case .awaitingFirst: return self.onFirst(message, verifier)
        case .awaitingFinal(let challenge): return Self.onFinal(message, challenge)
        case .ended: return .failure("the SCRAM exchange has ended")
        }
    }

    /// `n,,n=user,r=nonce`
    private mutating func onFirst(_ message: [UInt8], _ verifier: (String) -> SCRAMVerifier) -> Step {
        let parts = message.split(separator: UInt8(ascii: ","), maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3 else { return .failure("the first SCRAM message is not one") }
        // "y": the client could bind the channel and believes that the server cannot, which is right.
        guard parts[0].elementsEqual("n".utf8) || parts[0].elementsEqual("y".utf8) else {
            return .failure("SCRAM channel binding is not offered")
        }
        let bare = parts[2]
        let fields = bare.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        guard fields.count >= 2, let name = Self.value("n", of: fields[0]).flatMap(Self.userName),
            let nonce = Self.value("r", of: fields[1]), !nonce.isEmpty, nonce.allSatisfy(Self.isPrintable),
            fields.dropFirst(2).allSatisfy(Self.isExtension)
        else { return .failure("the first SCRAM message is not one, or has an extension that is not known") }
        if !parts[1].isEmpty {
            guard Self.value("a", of: parts[1]).flatMap(Self.userName) == name else {
                return .failure("SCRAM for another identity than the user's own")
            }
        }
        let found = verifier(name)
        let whole = Array(nonce) + Array(self.serverNonce.utf8)
        let first =
            Array("r=".utf8) + whole + Array(",s=\(Base64.encode(found.salt)),i=\(found.iterations)".utf8)
        let comma = [UInt8(ascii: ",")]
        self.state = .awaitingFinal(
            Challenge(
                user: name,
                verifier: found,
                header: Array(parts[0]) + comma + Array(parts[1]) + comma,
                nonce: whole,
                transcript: Array(bare) + comma + first + comma
            )
        )
        return .challenge(first)
    }

    /// `c=biws,r=nonce,p=proof`
    private static func onFinal(_ message: [UInt8], _ challenge: Challenge) -> Step {
        let fields = message.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        guard fields.count >= 3, let header = Self.value("c", of: fields[0]),
            let nonce = Self.value("r", of: fields[1]),
            fields[2..<(fields.count - 1)].allSatisfy(Self.isExtension),
            let proof = Self.value("p", of: fields[fields.count - 1])
                .flatMap({ Base64.decode(String(decoding: $0, as: UTF8.self)) }), proof.count == 32
        else { return .failure("the last SCRAM message is not one") }
        guard Base64.decode(String(decoding: header, as: UTF8.self)) == challenge.header,
            nonce.elementsEqual(challenge.nonce)
        else { return .failure("the last SCRAM message belongs to another exchange") }
        let withoutProof = message.dropLast(fields[fields.count - 1].count + 1)
        let transcript = challenge.transcript + withoutProof
        let signature = HMACSHA256.code(of: transcript, key: challenge.verifier.storedKey)
        let clientKey = zip(proof, signature).map { $0 ^ $1 }
        guard ConstantTime.equals(Array(SHA256.hash(data: clientKey)), challenge.verifier.storedKey) else {
            return .failure("wrong user name or password")
        }
        let serverSignature = HMACSHA256.code(of: transcript, key: challenge.verifier.serverKey)
        return .success(
            user: challenge.user,
            serverFinal: Array("v=\(Base64.encode(serverSignature))".utf8)
        )
    }

    // MARK: Fields

    private static func value(_ name: Unicode.Scalar, of field: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard field.count >= 2, field[field.startIndex] == UInt8(ascii: name),
            field[field.startIndex + 1] == UInt8(ascii: "=")
        else { return nil }
        return field.dropFirst(2)
    }

    /// A user name with its two escapes undone; nil if there is another one, or it is empty or not UTF-8.
    private static func userName(_ bytes: ArraySlice<UInt8>) -> String? {
        guard !bytes.isEmpty else { return nil }
        var name: [UInt8] = []
        var rest = bytes
        while let byte = rest.first {
            if byte != UInt8(ascii: "=") {
                name.append(byte)
                rest = rest.dropFirst()
            } else if rest.starts(with: "=2C".utf8) {
                name.append(UInt8(ascii: ","))
                rest = rest.dropFirst(3)
            } else if rest.starts(with: "=3D".utf8) {
                name.append(UInt8(ascii: "="))
                rest = rest.dropFirst(3)
            } else {
                return nil
            }
        }
        return String(validating: name, as: UTF8.self)
    }

    private static func isPrintable(_ byte: UInt8) -> Bool { (0x21...0x7e).contains(byte) }

    /// An extension may be ignored; a mandatory one (`m=`) has its place before the user name and is not known here.
    private static func isExtension(_ field: ArraySlice<UInt8>) -> Bool {
        field.count >= 2 && field[field.startIndex + 1] == UInt8(ascii: "=") && field.first != UInt8(ascii: "m")
    }
}
