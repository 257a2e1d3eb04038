import Testing

@testable import LocalBroker

@Suite("Passwords")
struct PasswordTests {
    @Test("a password is known by its hash, another one is not, and two hashes of one password differ")
    func matches() throws {
        let hash = PasswordHash.make(password: "secret", iterations: 4096)
        #expect(hash.matches(password: Array("secret".utf8)))
        #expect(!hash.matches(password: Array("Secret".utf8)))
        #expect(!hash.matches(password: []))
        #expect(hash != PasswordHash.make(password: "secret", iterations: 4096))
        #expect(try PasswordHash("\(hash)") == hash)
    }

    @Test("the hash is the one that PostgreSQL and RFC 5803 describe")
    func form() throws {
        // The keys of RFC 7677's example: user "user", password "pencil".
        let salt = try #require(Base64.decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
        let hash = PasswordHash.make(password: Array("pencil".utf8), salt: salt, iterations: 4096)
        #expect(
            "\(hash)"
                == "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                + "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        )
    }

    @Test("too few rounds are raised to the least that is taken")
    func iterations() {
        #expect(PasswordHash.make(password: "a", iterations: 1).effort.sha256Rounds == 4096)
        #expect(PasswordHash.defaultIterations >= 210_000)
    }

    @Test("mosquitto's hash is known")
    func mosquitto() throws {
        let salt: [UInt8] = Array(1...12)
        let key = PBKDF2.sha512(Array("secret".utf8), salt: salt, iterations: 101)
        let hash = try PasswordHash("$7$101$\(Base64.encode(salt))$\(Base64.encode(key))")
        #expect(hash.matches(password: Array("secret".utf8)))
        #expect(!hash.matches(password: Array("other".utf8)))
        #expect(hash.scram == nil)
    }

    @Test("PBKDF2 gives what RFC 7914 and RFC 6070's authors published")
    func vectors() {
        let one = PBKDF2.sha256(Array("passwd".utf8), salt: Array("salt".utf8), iterations: 1)
        #expect(one.prefix(8) == [0x55, 0xac, 0x04, 0x6e, 0x56, 0xe3, 0x08, 0x9f])
        let two = PBKDF2.sha512(Array("password".utf8), salt: Array("salt".utf8), iterations: 1)
        #expect(two.prefix(8) == [0x86, 0x7f, 0x70, 0xcf, 0x1a, 0xde, 0x02, 0xcf])
    }

    @Test(
        "what is no hash is refused",
        arguments: [
            "", "secret", "$6$abc$def", "$7$101$AAAA", "$7$0$AAAA$AAAA", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
            "SCRAM-SHA-256$x:AAAA$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:AAAA",
            "SCRAM-SHA-256$1:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                + "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "SCRAM-SHA-256$99999999999:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                + "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        ]
    )
    func wrongHash(text: String) {
        #expect(throws: AccessFileError.self) { try PasswordHash(text) }
    }

    // MARK: The file

    private let alice = PasswordHash.make(password: "a", iterations: 4096)
    private let bob = PasswordHash.make(password: "b", iterations: 4096)

    @Test("a file's users are found, and its text comes out as it went in")
    func file() throws {
        let text = "# people\n\nalice:\(self.alice)\nbob:\(self.bob)\n# end\n"
        let file = try PasswordFile(text)
        #expect(file.users == ["alice", "bob"])
        #expect(file.hash(of: "alice") == self.alice)
        #expect(file.hash(of: "bob") == self.bob)
        #expect(file.hash(of: "Alice") == nil)
        #expect("\(file)" == text)
    }

    @Test("lines that end as on Windows are read, and a last line without an end")
    func lineEnds() throws {
        let file = try PasswordFile("alice:\(self.alice)\r\nbob:\(self.bob)")
        #expect(file.users == ["alice", "bob"])
    }

    @Test("a user is added, changed and removed, and the comments stay")
    func change() throws {
        let empty = try PasswordFile("# people\n")
        let one = try empty.setting(user: "alice", hash: self.alice)
        let two = try one.setting(user: "bob", hash: self.bob)
        #expect("\(two)" == "# people\nalice:\(self.alice)\nbob:\(self.bob)\n")
        let changed = try two.setting(user: "alice", hash: self.bob)
        #expect("\(changed)" == "# people\nalice:\(self.bob)\nbob:\(self.bob)\n")
        let removed = try #require(changed.removing(user: "alice"))
        #expect("\(removed)" == "# people\nbob:\(self.bob)\n")
        #expect(removed.hash(of: "bob") == self.bob)
        #expect(removed.removing(user: "alice") == nil)
    }

    @Test("what is wrong is told with its line", arguments: ["alice", ":x", "alice:x", "a\u{1}:x"])
    func wrongLine(line: String) {
        #expect { try PasswordFile("# one\n\n\(line)\n") } throws: { ($0 as? AccessFileError)?.line == 3 }
    }

    @Test("a user who is there twice is refused")
    func twice() {
        let text = "alice:\(self.alice)\nalice:\(self.bob)\n"
        #expect { try PasswordFile(text) } throws: { ($0 as? AccessFileError)?.line == 2 }
    }

    @Test("a name that cannot stand in a file is refused", arguments: ["", "a:b", "#a", "a\nb", "a\rb"])
    func wrongName(name: String) {
        #expect(throws: AccessFileError.self) { try PasswordFile().setting(user: name, hash: self.alice) }
    }

    // MARK: What was right before

    @Test("a password that was right is known again, until the user has another")
    func known() throws {
        var book = PasswordBook(try PasswordFile().setting(user: "alice", hash: self.alice), key: [1, 2, 3])
        let password = Array("a".utf8)
        #expect(book.known(user: "alice", password: password) == nil)
        book.remember(user: "alice", password: password, hash: self.alice)
        #expect(book.known(user: "alice", password: password) == self.alice)
        #expect(book.known(user: "alice", password: Array("b".utf8)) == nil)
        #expect(book.known(user: "alic", password: Array("ea".utf8)) == nil)
        book.remember(user: "alice", password: Array("b".utf8), hash: self.bob)
        #expect(book.known(user: "alice", password: Array("b".utf8)) == nil)
    }

    @Test("a password that was right is known when the file is read again, unless the user's hash has changed")
    func knownStill() throws {
        let file = try PasswordFile().setting(user: "alice", hash: self.alice).setting(user: "bob", hash: self.bob)
        var book = PasswordBook(file, key: [1, 2, 3])
        book.remember(user: "alice", password: Array("a".utf8), hash: self.alice)
        book.remember(user: "bob", password: Array("b".utf8), hash: self.bob)
        let changed = try file.setting(user: "bob", hash: .make(password: "b", iterations: 4096))
        let later = PasswordBook(changed, key: [1, 2, 3], earlier: book)
        #expect(later.known(user: "alice", password: Array("a".utf8)) == self.alice)
        #expect(later.known(user: "bob", password: Array("b".utf8)) == nil)
        let back = PasswordBook(file, key: [1, 2, 3], earlier: later)
        #expect(back.known(user: "alice", password: Array("a".utf8)) == self.alice)
        #expect(back.known(user: "bob", password: Array("b".utf8)) == nil)
    }

    // MARK: Who does not exist

    /// Users with these numbers of rounds, whose names are "u" and a number.
    private func book(_ iterations: Int..., key: [UInt8] = [1, 2, 3]) throws -> PasswordBook {
        var file = PasswordFile()
        for (index, rounds) in iterations.enumerated() {
            let hash = PasswordHash.make(password: [7], salt: [UInt8(index)], iterations: rounds)
            file = try file.setting(user: "u\(index)", hash: hash)
        }
        return PasswordBook(file, key: key)
    }

    @Test("a user who does not exist gets the same salt each time, another one's differs")
    func nobody() throws {
        let book = try self.book(4096, 4096)
        #expect(book.scramVerifier(for: "u1") == book.hashes[UserName("u1")]?.scram)
        let first = book.scramVerifier(for: "eve")
        #expect(first == book.scramVerifier(for: "eve"))
        #expect(first.salt != book.scramVerifier(for: "mallory").salt)
        #expect(first.salt.count == 16 && first.iterations == 4096)
    }

    @Test("a user who does not exist gets the same salt after a restart, and when users are added")
    func nobodyStill() throws {
        let first = try self.book(4096, 4096).scramVerifier(for: "eve")
        #expect(try self.book(4096, 4096, key: [9]).scramVerifier(for: "eve") == first)
        #expect(try self.book(4096, 4096, 4096, key: [9]).scramVerifier(for: "eve") == first)
        #expect(try self.book(4096, 4097).scramVerifier(for: "eve").salt != first.salt)
    }

    @Test("users who do not exist have numbers of rounds as users who do, about as often, and each always the same")
    func nobodyRounds() throws {
        let book = try self.book(4096, 5000, 4096, 4096)
        var counts: [Int: Int] = [:]
        for number in 0..<1000 {
            let rounds = book.scramVerifier(for: "x\(number)").iterations
            #expect(book.scramVerifier(for: "x\(number)").iterations == rounds)
            counts[rounds, default: 0] += 1
        }
        #expect(counts.keys.sorted() == [4096, 5000])
        #expect((150...350).contains(counts[5000] ?? 0))
        #expect(try self.book().scramVerifier(for: "x").iterations == PasswordHash.defaultIterations)
    }

    @Test("a wrong password costs as much whoever is said to have it")
    func effort() throws {
        let key = Base64.encode([UInt8](repeating: 0, count: 64))
        let text = "a:\(self.alice)\nb:\(PasswordHash.make(password: "b", iterations: 5000))\nc:$7$101$AAAA$\(key)\n"
        let book = PasswordBook(try PasswordFile(text), key: [1])
        #expect(book.effort == PasswordEffort(sha256Rounds: 5000, sha512Rounds: 101))
        func sum(_ user: String) -> PasswordEffort {
            let own = book.hashes[UserName(user)]?.effort
            let rest = book.effort.remaining(after: own)
            return PasswordEffort(
                sha256Rounds: rest.sha256Rounds + (own?.sha256Rounds ?? 0),
                sha512Rounds: rest.sha512Rounds + (own?.sha512Rounds ?? 0)
            )
        }
        for user in ["a", "b", "c", "nobody"] { #expect(sum(user) == book.effort) }
        #expect(try self.book().effort == PasswordEffort(sha256Rounds: PasswordHash.defaultIterations))
    }
}
