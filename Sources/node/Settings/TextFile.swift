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

    /// Reads what is left of an open file.
    static func read(descriptor: Int32, bytesMax: Int) throws(Failure) -> String {
        var content: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            #if canImport(Glibc)
            let count = Glibc.read(descriptor, &part, part.count)
            #else
            let count = Darwin.read(descriptor, &part, part.count)
            #endif
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .last }
            guard count > 0 else { break }
            content += part[..<count]
            guard content.count <= bytesMax else { throw .tooLarge(bytesMax: bytesMax) }
        }
        guard let text = String(validating: content, as: UTF8.self) else { throw .notText }
        return text
    }
}
