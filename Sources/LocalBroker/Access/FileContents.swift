#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Reading small files whole. It blocks: call it on a thread that may.
enum FileContents {
    /// The bytes of a file.
    ///
    /// - Throws: `AccessFileError` if it cannot be read or is larger than `bytesMax`.
    static func read(_ path: String, bytesMax: Int = 64 * 1024 * 1024) throws(AccessFileError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.failure(path) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = chunk.withUnsafeMutableBytes { platformRead(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure(path) }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
            if bytes.count > bytesMax { throw AccessFileError("'\(path)' is larger than \(bytesMax) bytes") }
        }
    }

    /// The text of a file.
    ///
    /// - Throws: `AccessFileError` if it cannot be read, is too large, or is not UTF-8.
    static func readText(_ path: String) throws(AccessFileError) -> String {
        guard let text = String(validating: try Self.read(path), as: UTF8.self) else {
            throw AccessFileError("'\(path)' is not UTF-8 text")
        }
        return text
    }

    private static func failure(_ path: String) -> AccessFileError {
        AccessFileError("cannot read '\(path)': \(String(cString: strerror(errno)))")
    }
}

/// The system call, whose name `FileContents` has taken.
private func platformRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    read(descriptor, bytes, count)
}
