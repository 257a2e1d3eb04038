import Testing

@testable import node

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite("Files that are replaced as a whole")
struct AtomicFileTests {
    /// Runs a test in a directory of its own.
    private static func inDirectory(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/dunlin-atomic.XXXXXX".utf8CString)
        _ = try #require(mkdtemp(&template))
        let directory = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
        defer {
            for name in (try? Self.names(directory)) ?? [] { unlink("\(directory)/\(name)") }
            rmdir(directory)
        }
        try body(directory)
    }

    private static func names(_ directory: String) throws -> [String] {
        let stream = try #require(opendir(directory))
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    private static func mode(_ path: String) -> mode_t {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
    }

    @Test("a new file is its owner's alone, and nothing is left beside it")
    func new() throws {
        try Self.inDirectory { directory in
            try AtomicFile.replace("\(directory)/f", with: "content\n")
            #expect(try TextFile.read("\(directory)/f", bytesMax: 100) == "content\n")
            #expect(Self.mode("\(directory)/f") == 0o600)
            #expect(try Self.names(directory) == ["f"])
        }
    }

    @Test("a file that its group may read stays readable for it")
    func mode() throws {
        try Self.inDirectory { directory in
            try AtomicFile.replace("\(directory)/f", with: "old")
            #expect(chmod("\(directory)/f", 0o640) == 0)
            try AtomicFile.replace("\(directory)/f", with: "new")
            #expect(try TextFile.read("\(directory)/f", bytesMax: 100) == "new")
            #expect(Self.mode("\(directory)/f") == 0o640)
        }
    }

    @Test("a symbolic link stays one, and what it names is replaced")
    func link() throws {
        try Self.inDirectory { directory in
            try AtomicFile.replace("\(directory)/real", with: "old")
            #expect(symlink("\(directory)/real", "\(directory)/link") == 0)
            try AtomicFile.replace("\(directory)/link", with: "new")
            #expect(try TextFile.read("\(directory)/real", bytesMax: 100) == "new")
            #expect(try Self.names(directory) == ["link", "real"])
        }
    }

    @Test("where nothing can be written the error says why, and the old file is as it was")
    func failure() throws {
        try Self.inDirectory { directory in
            #expect(throws: TextFile.Failure.self) { try AtomicFile.replace("\(directory)/no/f", with: "x") }
            try AtomicFile.replace("\(directory)/f", with: "old")
            #expect(mkdir("\(directory)/d", 0o700) == 0)
            #expect(throws: TextFile.Failure.self) { try AtomicFile.replace("\(directory)/d", with: "x") }
            #expect(try Self.names(directory) == ["d", "f"])
            rmdir("\(directory)/d")
        }
    }

    @Test("of two that change a file one waits for the other")
    func lock() throws {
        try Self.inDirectory { directory in
            let other = open(directory, O_RDONLY)
            defer { close(other) }
            try AtomicFile.withLock("\(directory)/f") {
                #expect(flock(other, LOCK_EX | LOCK_NB) == -1)
            }
            #expect(flock(other, LOCK_EX | LOCK_NB) == 0)
        }
    }

    @Test("a file that is too large, or no text, is not read")
    func unreadable() throws {
        try Self.inDirectory { directory in
            try AtomicFile.replace("\(directory)/f", with: "0123456789")
            #expect(throws: TextFile.Failure.self) { try TextFile.read("\(directory)/f", bytesMax: 9) }
            #expect(throws: TextFile.Failure.self) { try TextFile.read(directory, bytesMax: 9) }
            #expect(throws: TextFile.Failure.self) { try TextFile.read("/bin/sh", bytesMax: 100_000_000) }
        }
    }
}
