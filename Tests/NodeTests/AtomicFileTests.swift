import Testing

@testable import node

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite("Files that are replaced as a whole")
struct AtomicFileTests {
    private static func mode(_ path: String) -> mode_t {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
    }

    @Test("a new file is its owner's alone, and nothing is left beside it")
    func new() async throws {
        try await TemporaryDirectory.with { directory in
            try AtomicFile.replace("\(directory)/f", with: "content\n")
            #expect(try TextFile.read("\(directory)/f", bytesMax: 100) == "content\n")
            #expect(Self.mode("\(directory)/f") == 0o600)
            #expect(try TemporaryDirectory.names(directory) == ["f"])
        }
    }

    @Test("a file that its group may read stays readable for it")
    func mode() async throws {
        try await TemporaryDirectory.with { directory in
            try AtomicFile.replace("\(directory)/f", with: "old")
            #expect(chmod("\(directory)/f", 0o640) == 0)
            try AtomicFile.replace("\(directory)/f", with: "new")
            #expect(try TextFile.read("\(directory)/f", bytesMax: 100) == "new")
            #expect(Self.mode("\(directory)/f") == 0o640)
        }
    }

    @Test("a symbolic link stays one, and what it names is replaced")
    func link() async throws {
        try await TemporaryDirectory.with { directory in
            try AtomicFile.replace("\(directory)/real", with: "old")
            #expect(symlink("\(directory)/real", "\(directory)/link") == 0)
            try AtomicFile.replace("\(directory)/link", with: "new")
            #expect(try TextFile.read("\(directory)/real", bytesMax: 100) == "new")
            #expect(try TemporaryDirectory.names(directory) == ["link", "real"])
        }
    }

    @Test("where nothing can be written the error says why, and the old file is as it was")
    func failure() async throws {
        try await TemporaryDirectory.with { directory in
            #expect(throws: TextFile.Failure.self) { try AtomicFile.replace("\(directory)/no/f", with: "x") }
            try AtomicFile.replace("\(directory)/f", with: "old")
            #expect(mkdir("\(directory)/d", 0o700) == 0)
            #expect(throws: TextFile.Failure.self) { try AtomicFile.replace("\(directory)/d", with: "x") }
            #expect(try TemporaryDirectory.names(directory) == ["d", "f"])
            rmdir("\(directory)/d")
        }
    }

    @Test("of two that change a file one waits for the other")
    func lock() async throws {
        try await TemporaryDirectory.with { directory in
            let other = open(directory, O_RDONLY)
            defer { close(other) }
            try AtomicFile.withLock("\(directory)/f") {
                #expect(flock(other, LOCK_EX | LOCK_NB) == -1)
            }
            #expect(flock(other, LOCK_EX | LOCK_NB) == 0)
        }
    }

    @Test("a file that is too large, or no text, is not read")
    func unreadable() async throws {
        try await TemporaryDirectory.with { directory in
            try AtomicFile.replace("\(directory)/f", with: "0123456789")
            #expect(throws: TextFile.Failure.self) { try TextFile.read("\(directory)/f", bytesMax: 9) }
            #expect(throws: TextFile.Failure.self) { try TextFile.read(directory, bytesMax: 9) }
            #expect(throws: TextFile.Failure.self) { try TextFile.read("/bin/sh", bytesMax: 100_000_000) }
        }
    }
}
