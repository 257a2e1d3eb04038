import Foundation
import NIOCore
import NIOEmbedded
import NIOPosix
import Testing

@testable import node

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A question for these tests.
private struct Echo: ControlQuestion {
    static let command = "echo"
    typealias Answer = Echo

    var text = ""
}

@Suite("The control socket")
struct ControlServerTests {
    private static var answers: ControlAnswers {
        var answers = ControlAnswers(release: "9.9")
        answers.add(Echo.self) { question in
            guard question.text != "fail" else { throw ControlFailure("it did not please") }
            return question
        }
        return answers
    }

    /// Runs a test with a server in a folder of its own.
    private static func withServer(
        _ name: String = "127.0.0.1:7946",
        _ body: (ControlServer, String) async throws -> Void
    ) async throws {
        try await TemporaryDirectory.with { directory in
            let folder = ControlDirectory(path: "\(directory)/c")
            let server = try await ControlServer.start(at: .folder(folder), name: name, answers: Self.answers)
            do {
                try await body(server, folder.path)
            } catch {
                await server.stop()
                throw error
            }
            await server.stop()
            #expect(try TemporaryDirectory.names(folder.path) == [])
        }
    }

    /// Does what blocks on a thread that may: those of the tasks answer.
    private static func blocking<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await NIOThreadPool.singleton.runIfActive(body)
    }

    private static func ask(_ text: String, _ path: String) async throws -> String {
        try await Self.blocking { try ControlClient(path: path).ask(Echo(text: text)).text }
    }

    /// Writes raw bytes and reads the line that comes.
    private static func raw(_ text: String, to path: String) async throws -> String? {
        try await Self.blocking {
            let socket = try LocalSocket(connectingTo: path, within: .seconds(10))
            try socket.write(Array(text.utf8))
            return try socket.readLine(bytesMax: 1_000_000).map { String(decoding: $0, as: UTF8.self) }
        }
    }

    @Test("a question is answered, and a refusal is told in its words")
    func answer() async throws {
        try await Self.withServer { server, _ in
            let answer = try await Self.ask("hello\nworld", server.path)
            #expect(answer == "hello\nworld")
            let failure = await #expect(throws: ControlFailure.self) { try await Self.ask("fail", server.path) }
            #expect(failure?.description == "it did not please")
        }
    }

    @Test("the folder and the socket are their owner's alone, and nothing lies beside it")
    func modes() async throws {
        try await Self.withServer { server, folder in
            var status = stat()
            #expect(stat(server.path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600)
            #expect(stat(folder, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o700)
            let names = try TemporaryDirectory.names(folder)
            #expect(names == ["127.0.0.1:7946.sock"])
        }
    }

    @Test(
        "what is no question is answered with why",
        arguments: [
            ("hello\n", "one line of JSON"), ("{}\n", "one line of JSON"), ("\n", "one line of JSON"),
            (#"{"version":2,"command":"echo","body":{}}"# + "\n", "speaks version 1"),
            (#"{"version":1,"command":"dance\u001b","body":{}}"# + "\n", #"does not know the command 'dance\\u{1b}'"#),
            (#"{"version":1,"command":"echo","body":{"text":7}}"# + "\n", "fields of 'echo'"),
            (String(repeating: "[", count: 10_000) + "\n", "one line of JSON"),
        ]
    )
    func nonsense(text: String, reason: String) async throws {
        try await Self.withServer { server, _ in
            let answer = try #require(try await Self.raw(text, to: server.path))
            #expect(answer.contains(#""error":"#) && answer.contains(reason), "\(answer)")
        }
    }

    @Test("an endless question ends its connection")
    func endless() async throws {
        try await Self.withServer { server, _ in
            signal(SIGPIPE, SIG_IGN)
            let endless = String(repeating: " ", count: ControlMessage.questionBytesMax + 1)
            // The server may close before all is written, which is an error, or after.
            let answer = try? await Self.raw(endless, to: server.path)
            #expect(answer == nil)
            let next = try await Self.ask("next", server.path)
            #expect(next == "next")
        }
    }

    @Test("only so many ask at a time, and their places are free again when they go")
    func askers() async throws {
        try await Self.withServer { server, _ in
            var silent: [LocalSocket] = []
            for _ in 0..<ControlDesk.askersMax {
                silent.append(try LocalSocket(connectingTo: server.path, within: .seconds(10)))
            }
            await #expect(throws: ControlFailure.self) { try await Self.ask("one more", server.path) }
            silent.removeAll()
            let deadline = NIODeadline.now() + .seconds(10)
            while (try? await Self.ask("again", server.path)) != "again" {
                guard NIODeadline.now() < deadline else {
                    Issue.record("no place is free again")
                    return
                }
            }
        }
    }

    @Test("who asks nothing, or half of something, is closed after a while", arguments: ["", #"{"version":1"#])
    func silence(text: String) throws {
        var ends = 0
        let connection = ControlConnection(answer: { $0 }, onEnd: { ends += 1 })
        let channel = EmbeddedChannel(handler: connection)
        try channel.connect(to: SocketAddress(unixDomainSocketPath: "/c")).wait()
        try channel.writeInbound(ByteBuffer(string: text))
        channel.embeddedEventLoop.advanceTime(by: ControlDesk.questionTimeout - .milliseconds(1))
        #expect(channel.isActive && ends == 0)
        channel.embeddedEventLoop.advanceTime(by: .milliseconds(1))
        #expect(!channel.isActive && ends == 1)
    }

    @Test("a socket left behind is replaced, others left behind are swept away, and a live one is left alone")
    func stale() async throws {
        try await TemporaryDirectory.with { directory in
            let folder = ControlDirectory(path: directory)
            for name in ["a", "b"] { try Self.leaveBehind(folder.socket(name)) }
            let first = try await ControlServer.start(at: .folder(folder), name: "a", answers: Self.answers)
            #expect(first.path == folder.socket("a"))
            #expect(folder.sockets == [first.path])
            let second = try await ControlServer.start(at: .folder(folder), name: "a", answers: Self.answers)
            #expect(second.path == folder.socket("a-\(getpid())"))
            for server in [first, second] {
                #expect(try await Self.ask("yes", server.path) == "yes")
                await server.stop()
            }
        }
    }

    @Test("a file that is no socket stays where it is, and a path that leads to one is refused")
    func file() async throws {
        try await TemporaryDirectory.with { directory in
            let folder = ControlDirectory(path: directory)
            let path = folder.socket("a")
            try AtomicFile.replace(path, with: "mine")
            let failure = await #expect(throws: ControlFailure.self) {
                try await ControlServer.start(at: .path(path), name: "", answers: Self.answers)
            }
            #expect(failure?.description.contains("it is no socket") == true)
            let server = try await ControlServer.start(at: .folder(folder), name: "a", answers: Self.answers)
            #expect(server.path == folder.socket("a-\(getpid())"))
            await server.stop()
            #expect(try TextFile.read(path, bytesMax: 10) == "mine")
        }
    }

    /// A socket that nobody listens to, as a killed process leaves it.
    private static func leaveBehind(_ path: String) throws {
        let address = try SocketAddress(unixDomainSocketPath: path)
        #if canImport(Glibc)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        #else
        let descriptor = socket(AF_UNIX, SOCK_STREAM, 0)
        #endif
        #expect(address.withSockAddr { bind(descriptor, $0, socklen_t($1)) } == 0)
        close(descriptor)
        #expect(LocalSocket.tenant(of: path) == .dead)
    }

    @Test("a path of its own that is live, or no socket, is refused; one left behind is taken")
    func path() async throws {
        try await TemporaryDirectory.with { directory in
            let path = "\(directory)/n1.sock"
            try Self.leaveBehind(path)
            let first = try await ControlServer.start(at: .path(path), name: "", answers: Self.answers)
            let failure = await #expect(throws: ControlFailure.self) {
                try await ControlServer.start(at: .path(path), name: "", answers: Self.answers)
            }
            #expect(failure?.description.contains("another process") == true)
            await first.stop()
            let long = "\(directory)/" + String(repeating: "x", count: 100 - directory.utf8.count)
            try ControlDirectory(path: long).prepare(userID: geteuid())
            let refusal = await #expect(throws: ControlFailure.self) {
                try await ControlServer.start(at: .path("\(long)/n"), name: "", answers: Self.answers)
            }
            #expect(refusal?.description.contains("too long") == true)
            await #expect(throws: ControlFailure.self) {
                try await ControlServer.start(at: .path("\(directory)/no/n1.sock"), name: "", answers: Self.answers)
            }
        }
    }
}

@Suite("The folder of control sockets")
struct ControlDirectoryTests {
    @Test("it is the system's, the session's, or one in /tmp that tells users apart")
    func standard() {
        let paths = { (environment: [String: String], user: UInt32) in
            ControlDirectory.standard(environment: environment, userID: user).map(\.path)
        }
        #expect(paths([:], 7) == ["/run/dunlin", "/run/user/7/dunlin", "/tmp/dunlin-7"])
        #expect(
            paths(["XDG_RUNTIME_DIR": "/run/user/7"], 7) == ["/run/dunlin", "/run/user/7/dunlin", "/tmp/dunlin-7"]
        )
        #expect(
            paths(["XDG_RUNTIME_DIR": "/x"], 0) == ["/run/dunlin", "/x/dunlin", "/run/user/0/dunlin", "/tmp/dunlin-0"]
        )
        #expect(!paths(["XDG_RUNTIME_DIR": "relative"], 7).contains("relative/dunlin"))
    }

    @Test("one that others may write to is neither used nor looked at; nor is one of another user, or a link")
    func closed() async throws {
        try await TemporaryDirectory.with { directory in
            let folder = ControlDirectory(path: "\(directory)/open")
            let user = geteuid()
            try folder.prepare(userID: user)
            #expect(folder.isTrusted(by: user))
            #expect(throws: ControlFailure.self) { try folder.prepare(userID: user + 1) }
            #expect(folder.isTrusted(by: user + 1) == (user == 0))
            #expect(chmod(folder.path, 0o770) == 0)
            #expect(throws: ControlFailure.self) { try folder.prepare(userID: user) }
            #expect(!folder.isTrusted(by: user))
            #expect(symlink(directory, "\(directory)/link") == 0)
            let link = ControlDirectory(path: "\(directory)/link")
            #expect(throws: ControlFailure.self) { try link.prepare(userID: user) }
            #expect(!link.isTrusted(by: user))
            #expect(throws: ControlFailure.self) {
                try ControlDirectory(path: "\(directory)/no/c").prepare(userID: user)
            }
        }
    }

    @Test(
        "the setting takes an absolute path, a folder, or off",
        arguments: [
            ("/a/b.sock", .path("/a/b.sock")), ("/a/", .folder("/a")), ("off", .off), ("a.sock", nil), ("", nil),
            ("/", nil), ("/" + String(repeating: "a", count: 103), nil),
        ] as [(String, ControlSocket?)]
    )
    func setting(text: String, value: ControlSocket?) {
        #expect(ControlSocket(argument: text) == value)
    }

    @Test("a node goes by its name and its addresses")
    func names() {
        let node = IdentityQuestion.Answer(
            name: "n1",
            release: "1",
            addresses: ["gossip": "10.0.0.1:7946", "mqtt": "[::]:1883"]
        )
        for name in ["n1", "10.0.0.1", "10.0.0.1:7946", "[::]:1883", "10.0.0.1:1883", "localhost:1883"] {
            #expect(node.goes(by: name), "\(name)")
        }
        for name in ["n2", "10.0.0.1:1884", "10.0.0.2", "10.0.0.2:7946", "localhost", ""] {
            #expect(!node.goes(by: name), "\(name)")
        }
    }
}

@Suite("The table of members")
struct MembersTableTests {
    @Test("what other nodes say of themselves does not steer the terminal")
    func escape() {
        let member = MembersQuestion.Entry(
            name: "n2\u{1b}[2J",
            address: "10.0.0.2:7946",
            state: "suspect",
            incarnation: 7,
            roundTripMilliseconds: 0.25,
            tags: ["role": "a\nb", "link": "7947"]
        )
        let answer = MembersQuestion.Answer(node: "n1", healthScore: 2, members: [member])
        let lines = answer.table.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines[0].split(separator: " ").first == "name")
        #expect(lines[1].hasPrefix(#"n2\u{1b}[2J  10.0.0.2:7946  suspect  7"#))
        #expect(lines[1].hasSuffix(#"0.25 ms     link=7947,role=a\u{a}b"#))
        #expect(lines.last == "" && lines.count == 5)
        #expect(lines[3].contains("health score is 2"))
    }

    @Test("nor does it as JSON, which says the same")
    func json() throws {
        let tags = ["role": "a\nb\u{9b}2J\u{7f}\u{202e}\u{e0001}é"]
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted]
        let text = String(decoding: try encoder.encode(tags), as: UTF8.self).escapedJSON
        #expect(text.hasSuffix(#": "a\nb\u009b2J\u007f\u202e\udb40\udc01é""# + "\n}"))
        #expect(try JSONDecoder().decode([String: String].self, from: Data(text.utf8)) == tags)
    }
}
