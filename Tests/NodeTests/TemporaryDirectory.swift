import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A directory for one test.
enum TemporaryDirectory {
    static func with<Value>(_ body: (String) async throws -> Value) async throws -> Value {
        var template = Array("/tmp/dunlin-test.XXXXXX".utf8CString)
        _ = try #require(mkdtemp(&template))
        let directory = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
        defer { Self.remove(directory) }
        return try await body(directory)
    }

    static func names(_ directory: String) throws -> [String] {
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

    private static func remove(_ directory: String) {
        for name in (try? Self.names(directory)) ?? [] {
            let path = "\(directory)/\(name)"
            if unlink(path) != 0 { Self.remove(path) }
        }
        rmdir(directory)
    }
}
