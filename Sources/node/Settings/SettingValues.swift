import ArgumentParser
import Logging
import NIOCore

/// A port flag's value.
enum Port: ExpressibleByArgument, Equatable {
    /// 0 takes a free one.
    case number(Int)
    case off

    init?(argument: String) {
        if argument == "off" {
            self = .off
        } else if let number = UInt16(argument) {
            self = .number(Int(number))
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .number(let number): "\(number)"
        case .off: "off"
        }
    }
}

/// A host name or address, with a port where one was given. An IPv6 address with a port is written `[::1]:7946`.
struct HostPort: ExpressibleByArgument, Equatable {
    var host: String
    var port: Int?

    init?(argument: String) {
        var host = Substring(argument)
        var portText: Substring?
        if host.first == "[" {
            guard let end = host.firstIndex(of: "]") else { return nil }
            let rest = host[host.index(after: end)...]
            host = host[host.index(after: host.startIndex)..<end]
            if !rest.isEmpty {
                guard rest.first == ":" else { return nil }
                portText = rest.dropFirst()
            }
        } else if host.count(where: { $0 == ":" }) == 1, let colon = host.firstIndex(of: ":") {
            portText = host[host.index(after: colon)...]
            host = host[..<colon]
        }
        // Several colons are an IPv6 address, or a mistake.
        guard !host.isEmpty, !host.contains(":") || (try? SocketAddress(ipAddress: String(host), port: 0)) != nil else {
            return nil
        }
        self.host = String(host)
        if let portText {
            guard let number = UInt16(portText), number > 0 else { return nil }
            self.port = Int(number)
        }
    }

    var defaultValueDescription: String {
        guard let port else { return self.host }
        return self.host.contains(":") ? "[\(self.host)]:\(port)" : "\(self.host):\(port)"
    }
}

/// The value of `--link-compression`.
enum CompressionLevel: ExpressibleByArgument, Equatable {
    case level(Int)
    case off

    init?(argument: String) {
        if argument == "off" {
            self = .off
        } else if let level = Int(argument), (1...19).contains(level) {
            self = .level(level)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .level(let level): "\(level)"
        case .off: "off"
        }
    }
}

/// The value of `--log-level`.
enum LogLevel: String, ExpressibleByArgument, CaseIterable {
    case trace
    case debug
    case info
    case notice
    case warning
    case error
    case critical

    var level: Logger.Level { Logger.Level(rawValue: self.rawValue) ?? .info }
}

/// A number of seconds, or no limit.
enum Duration: ExpressibleByArgument, Equatable {
    case seconds(UInt32)
    case unlimited

    init?(argument: String) {
        if argument == "unlimited" {
            self = .unlimited
        } else if let seconds = UInt32(argument), seconds < UInt32.max {
            self = .seconds(seconds)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .seconds(let seconds): "\(seconds)"
        case .unlimited: "unlimited"
        }
    }
}

/// A file that the node reads.
struct FilePath: ExpressibleByArgument, Equatable {
    var path: String

    init?(argument: String) {
        guard !argument.isEmpty else { return nil }
        self.path = argument
    }

    var defaultValueDescription: String { self.path }

    static var defaultCompletionKind: CompletionKind { .file() }
}

/// Readers of numbers that have a range. What they throw says which.
enum Number {
    /// A whole number.
    static func count(_ range: ClosedRange<Int>) -> @Sendable (String) throws -> Int {
        { text in
            guard let number = Int(text), range.contains(number) else {
                throw ValidationError("it takes \(Self.words(range))")
            }
            return number
        }
    }

    /// A number of bytes, also written with K, M or G for 1024, 1024² and 1024³.
    static func bytes(_ range: ClosedRange<Int>) -> @Sendable (String) throws -> Int {
        { text in
            guard let number = Self.size(text), range.contains(number) else {
                throw ValidationError("it takes \(Self.words(range)), in bytes, or with K, M or G")
            }
            return number
        }
    }

    /// Bytes, also written with K, M or G; nil if it is no such number.
    static func size(_ text: String) -> Int? {
        let shifts: [Character: Int] = ["k": 10, "m": 20, "g": 30]
        guard let last = text.last, let shift = shifts[Character(last.lowercased())] else { return Int(text) }
        guard let number = Int(text.dropLast()) else { return nil }
        let (product, isOver) = number.multipliedReportingOverflow(by: 1 << shift)
        return isOver ? nil : product
    }

    private static func words(_ range: ClosedRange<Int>) -> String {
        range.upperBound == .max
            ? "a number from \(range.lowerBound)" : "a number from \(range.lowerBound) to \(range.upperBound)"
    }
}

/// The value of `--name`: printable, since it stands in logs and goes to other nodes.
enum NodeName {
    static let parse: @Sendable (String) throws -> String = { text in
        guard !text.isEmpty, text.utf8.count <= 128, text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw ValidationError("it takes up to 128 printable ASCII characters without spaces")
        }
        return text
    }
}

/// The value of `--gossip-label`, which stands in each packet behind one byte with its length.
enum GossipLabel {
    static let parse: @Sendable (String) throws -> String = { text in
        guard (1...255).contains(text.utf8.count) else { throw ValidationError("it takes 1 to 255 bytes") }
        return text
    }
}
