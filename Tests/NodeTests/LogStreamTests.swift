import Testing

@testable import node

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite("The log's stream")
struct LogStreamTests {
    /// All that can be read until the last of the lines, or the end.
    private static func contents(of descriptor: Int32, until last: String) -> String {
        var text = ""
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        while !text.hasSuffix(last) {
            let count = read(descriptor, &buffer, buffer.count)
            guard count > 0 else { break }
            text += String(decoding: buffer[..<count], as: UTF8.self)
        }
        return text
    }

    @Test("lines come whole and in order")
    func order() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let log = LogStream(ends[1])
        let lines = (0..<1000).map { "line \($0)\n" }
        for line in lines { log.write(line) }
        log.finish()
        #expect(Self.contents(of: ends[0], until: "line 999\n") == lines.joined())
    }

    @Test("what comes from others does not end a line or steer a terminal")
    func escape() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let log = LogStream(ends[1])
        log.write("name=a\nforged\r\n \u{1b}[2J\u{9b}2J\u{7f}\u{202e} caf\u{e9}\r\n")
        log.write("plain\n")
        log.finish()
        #expect(
            Self.contents(of: ends[0], until: "plain\n")
                == #"name=a\u{a}forged\u{d}\u{a} \u{1b}[2J\u{9b}2J\u{7f}\u{202e} café\u{d}\u{a}"# + "\nplain\n"
        )
    }

    @Test("where nobody reads nobody waits, and the next line that fits says how many are missing")
    func full() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let log = LogStream(ends[1])
        let line = String(repeating: "x", count: 1023) + "\n"
        let fitting = LogStream.waitingMax / line.utf8.count
        // A pipe holds 64 KiB; the writes below would block for ever if this thread did them.
        for _ in 0..<(fitting + 500) { log.write(line) }
        let text = Self.contents(of: ends[0], until: line)
        #expect(!text.contains("missing"))
        log.finish()
        log.write("last\n")
        let rest = Self.contents(of: ends[0], until: "last\n")
        #expect(rest.contains(" lines are missing here: the log is not read\nlast\n"))
    }
}
