import Foundation
import Logging
import Synchronization
import Testing

@testable import LocalBroker

@Suite("Reading files again")
struct FileReloaderTests {
    private struct Wrong: Error {}

    /// Runs a test with a file and a reloader that reads it.
    private func run(_ body: (FileReloader, String, borrowing Mutex<[String]>) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "dunlin-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data("one".utf8).write(to: URL(fileURLWithPath: path))
        let read = SharedTexts()
        let reloader = FileReloader(logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        reloader.add("test file", files: [path]) {
            let text = try String(contentsOfFile: path, encoding: .utf8)
            if text == "wrong" { throw Wrong() }
            read.texts.withLock { $0.append(text) }
        }
        try body(reloader, path, read.texts)
    }

    private final class SharedTexts: Sendable {
        let texts = Mutex<[String]>([])
    }

    @Test("a file is read again when it has changed, and only then")
    func changed() throws {
        try self.run { reloader, path, read in
            reloader.check(always: false)
            #expect(read.withLock { $0 } == [])
            try Data("second".utf8).write(to: URL(fileURLWithPath: path))
            for _ in 0..<4 { reloader.check(always: false) }
            #expect(read.withLock { $0 } == ["second"])
        }
    }

    @Test("a file that is replaced by another of the same size is read again")
    func replaced() throws {
        try self.run { reloader, path, read in
            try Data("two".utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
            for _ in 0..<2 { reloader.check(always: false) }
            #expect(read.withLock { $0 } == ["two"])
        }
    }

    @Test("a file that is being written is read when two looks in a row find it the same, or at once when told to")
    func written() throws {
        try self.run { reloader, path, read in
            for text in ["a", "a and", "a and more"] {
                try Data(text.utf8).write(to: URL(fileURLWithPath: path))
                reloader.check(always: false)
            }
            #expect(read.withLock { $0 } == [])
            reloader.check(always: false)
            #expect(read.withLock { $0 } == ["a and more"])
            try Data("now".utf8).write(to: URL(fileURLWithPath: path))
            reloader.check(always: true)
            #expect(read.withLock { $0 } == ["a and more", "now"])
        }
    }

    @Test("told to, it reads what has not changed, and a wrong file is tried once until it changes")
    func always() throws {
        try self.run { reloader, path, read in
            reloader.check(always: true)
            #expect(read.withLock { $0 } == ["one"])
            try Data("wrong".utf8).write(to: URL(fileURLWithPath: path))
            for _ in 0..<4 { reloader.check(always: false) }
            #expect(read.withLock { $0 } == ["one"])
            try Data("right again".utf8).write(to: URL(fileURLWithPath: path))
            for _ in 0..<2 { reloader.check(always: false) }
            #expect(read.withLock { $0 } == ["one", "right again"])
        }
    }
}
