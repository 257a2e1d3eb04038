import Gossip
import Testing

@testable import node

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite("The file of keys")
struct ClusterKeyFileTests {
    private static let keys: [KeyRing.Key] = (1...3).compactMap {
        KeyRing.Key(bytes: [UInt8](repeating: UInt8($0), count: 32))
    }
    private static var texts: [String] { Self.keys.map(\.base64) }

    private static func withFile(_ text: String, _ body: (ClusterKeyFile) throws -> Void) async throws {
        try await TemporaryDirectory.with { directory in
            let path = "\(directory)/keys"
            try AtomicFile.replace(path, with: text)
            try body(ClusterKeyFile(path: path))
            #expect(try TemporaryDirectory.names(directory) == ["keys"])
        }
    }

    private static func content(_ file: ClusterKeyFile) throws -> String {
        try TextFile.read(file.path, bytesMax: 10_000)
    }

    @Test("lines stay lines, and what else stands in the file stays where it is")
    func lines() async throws {
        let (one, two, three) = (Self.texts[0], Self.texts[1], Self.texts[2])
        try await Self.withFile("# plant 7\n\n\(one)\n  # the next\n\(two)") { file in
            #expect(try file.change(.add(Self.keys[2])).keys == Self.keys)
            #expect(try Self.content(file) == "# plant 7\n\n\(one)\n  # the next\n\(two)\n\(three)\n")
            _ = try file.change(.use(Self.keys[2]))
            #expect(try Self.content(file) == "# plant 7\n\n\(three)\n  # the next\n\(one)\n\(two)\n")
            _ = try file.change(.remove(Self.keys[0]))
            #expect(try Self.content(file) == "# plant 7\n\n\(three)\n  # the next\n\(two)\n")
            #expect(try file.read().keys == [Self.keys[2], Self.keys[1]])
        }
    }

    @Test("an array stays an array")
    func array() async throws {
        let (one, two) = (Self.texts[0], Self.texts[1])
        try await Self.withFile("[\"\(one)\"]") { file in
            _ = try file.change(.add(Self.keys[1]))
            #expect(try Self.content(file) == "[\n  \"\(one)\",\n  \"\(two)\"\n]\n")
            #expect(try file.read().keys == [Self.keys[0], Self.keys[1]])
        }
    }

    @Test("what is so already is no change, and the file is not written")
    func unchanged() async throws {
        let text = "  \(Self.texts[0])  \n\(Self.texts[1])\n\(Self.texts[1])\n"
        try await Self.withFile(text) { file in
            let operations: [KeyOperation] = [.list, .add(Self.keys[1]), .use(Self.keys[0]), .remove(Self.keys[2])]
            for operation in operations {
                let ring = try file.change(operation)
                #expect(ring.keys == [Self.keys[0], Self.keys[1]])
            }
            let content = try Self.content(file)
            #expect(content == text)
        }
    }

    @Test("a change that is refused leaves the file as it is")
    func refused() async throws {
        try await Self.withFile(Self.texts[0]) { file in
            #expect(throws: KeyRingError.primaryKey) { try file.change(.remove(Self.keys[0])) }
            #expect(throws: KeyRingError.unknownKey) { try file.change(.use(Self.keys[1])) }
            for byte in 100..<UInt8(100 + KeyRing.countMax - 1) {
                _ = try file.change(.add(try #require(KeyRing.Key(bytes: [UInt8](repeating: byte, count: 16)))))
            }
            let full = try Self.content(file)
            #expect(throws: KeyRingError.tooManyKeys) { try file.change(.add(Self.keys[1])) }
            #expect(try Self.content(file) == full)
        }
    }

    @Test("a file that cannot be read or written is named in the refusal, without its folder and its keys")
    func unwritable() async throws {
        try await TemporaryDirectory.with { directory in
            let gone = ClusterKeyFile(path: "\(directory)/no")
            let failure = #expect(throws: KeyRefusal.self) { try gone.change(.add(Self.keys[0])) }
            #expect(failure?.description.contains("its file no cannot be changed") == true)
            #expect(failure?.description.contains(directory) == false)
            // Too long a name for the new file that is to replace it.
            let long = ClusterKeyFile(path: "\(directory)/\(String(repeating: "k", count: 252))")
            let file = open(long.path, O_CREAT | O_WRONLY, 0o600)
            Output.write(Self.texts[0], to: file)
            close(file)
            #expect(throws: KeyRefusal.self) { try long.change(.add(Self.keys[1])) }
            let ring = try long.read()
            #expect(ring.keys == [Self.keys[0]])
        }
    }
}

@Suite("The table of keys")
struct KeyTableTests {
    private static func entry(_ name: String, _ keys: [String]) -> KeyQuestion.Entry {
        KeyQuestion.Entry(name: name, outcome: .done, message: nil, keys: keys)
    }

    @Test("it tells for each key where it is the first and who lacks it")
    func table() {
        let silent = KeyQuestion.Entry(name: "n4", outcome: .silent, message: "it did not answer", keys: nil)
        let answer = KeyQuestion.Answer(
            node: "n1",
            key: nil,
            members: [
                Self.entry("n1", ["aa", "bb"]), Self.entry("n2", ["bb", "aa"]), Self.entry("n3", ["aa"]), silent,
            ]
        )
        let rows = answer.table.split(separator: "\n").map(String.init)
        #expect(rows[1] == "aa   2            3 of 4")
        #expect(rows[2] == "bb   1            2 of 4; not n3")
        #expect(!answer.isComplete)
        #expect(answer.messages == ["n4: it did not answer"])
    }
}
