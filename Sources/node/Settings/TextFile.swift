#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Whole small files, as text.
enum TextFile {
    enum Failure: Error, CustomStringConvertible {
        case system(String)
        case tooLarge(bytesMax: Int)
        case notText

        var description: String {
            switch self {
            case .system(let reason): reason
            case .tooLarge(let bytesMax): "the file is larger than \(bytesMax) bytes"
            case .notText: "the file is not UTF-8 text"
            }
        }

        /// What the system said last.
        static var last: Failure { .system(String(cString: strerror(errno))) }
    }

    /// Reads a file, or anything else that has an end, like a pipe.
    static func read(_ path: String, bytesMax: Int) throws(Failure) -> String {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw .last }
        defer { close(file) }
        return try Self.read(descriptor: file, bytesMax: bytesMax)
    }

    /// Reads the next line of an open file, without its end, and nothing behind it: that may be for somebody else, or come
    /// late.
    static func readLine(descriptor: Int32, bytesMax: Int) throws(Failure) -> String {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while true {
            let count = Self.read(descriptor, &byte, 1)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .last }
            guard count > 0, byte != UInt8(ascii: "\n") else { break }
            line.append(byte)
            guard line.count <= bytesMax else { throw .tooLarge(bytesMax: bytesMax) }
        }
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        guard let text = String(validating: line, as: UTF8.self) else { throw .notText }
        return text
    }

    /// Reads what is left of an open file.
    static func read(descriptor: Int32, bytesMax: Int) throws(Failure) -> String {
        var content: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            let count = Self.read(descriptor, &part, part.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .last }
            guard count > 0 else { break }
            content += part[..<count]
            guard content.count <= bytesMax else { throw .tooLarge(bytesMax: bytesMax) }
        }
        guard let text = String(validating: content, as: UTF8.self) else { throw .notText }
        return text
    }

    /// The system call, whose name this type has taken.
    private static func read(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer, _ count: Int) -> Int {
        #if canImport(Glibc)
        Glibc.read(descriptor, bytes, count)
        #else
        Darwin.read(descriptor, bytes, count)
        #endif
    }
}
