import ArgumentParser
import Gossip
import LocalBroker
import Logging
import NIOCore

/// The value of a setting that may be wrong.
protocol SettingValue: ExpressibleByArgument, SettingForm {}

/// What is said of a value that is wrong.
protocol SettingForm {
    /// What would be right, with an example: what follows "it takes".
    static var valid: String { get }
}

extension Optional: SettingForm where Wrapped: SettingForm {
    static var valid: String { Wrapped.valid }
}

extension Array: SettingForm where Element: SettingForm {
    static var valid: String { Element.valid }
}

extension SettingValue where Self: CaseIterable {
    static var valid: String {
        let names = Self.allValueStrings
        return names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
    }
}

/// A port flag's value.
enum Port: SettingValue, Equatable {
    /// 0 takes a free one.
    case number(Int)
    case off

    static let valid = "a number from 0 to 65535, or off, as in 1883"

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
struct HostPort: SettingValue, Equatable {
    var host: String
    var port: Int?

    static let valid =
        "one host, with a port from 1 to 65535 or without, as in gateway1, gateway1:7946 or [fd00::1]:7946"

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
        guard HostName.isOne(host) else { return nil }
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

/// The value of `--bind` and the like: a host name or address to listen on.
struct BindAddress: SettingValue, Equatable {
    var host: String

    static let valid =
        "an address of this host without a port, as in 192.168.1.10 or ::1; ports are settings of their own"

    init?(argument: String) {
        guard HostName.isOne(argument[...]) else { return nil }
        self.host = argument
    }

    var defaultValueDescription: String { self.host }

    /// Whether a port here is the same as there: one of them may stand for all addresses.
    static func overlap(_ left: String?, _ right: String?) -> Bool {
        func covers(_ host: String?, _ other: String?) -> Bool {
            switch host {
            case nil, "::": true
            case "0.0.0.0": other?.contains(":") != true
            default: host == other
            }
        }
        return covers(left, right) || covers(right, left)
    }
}

/// A host name, an IPv4 or an IPv6 address.
private enum HostName {
    static func isOne(_ text: Substring) -> Bool {
        // Several colons are an IPv6 address, perhaps with a zone, or a mistake.
        if text.contains(":") {
            return (try? SocketAddress(ipAddress: String(text.prefix { $0 != "%" }), port: 0)) != nil
        }
        return !text.isEmpty && !text.contains { $0.isWhitespace || ",;/[]@".contains($0) }
    }
}

/// The value of `--link-compression`.
enum CompressionLevel: SettingValue, Equatable {
    case level(Int)
    case off

    static let valid = "a level from 1 to 19, or off, as in 3"

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

/// The value of `--gossip-profile`.
enum GossipProfileName: String, SettingValue, CaseIterable {
    case lan
    case wan
    case local

    var profile: GossipProfile {
        switch self {
        case .lan: .lan
        case .wan: .wan
        case .local: .local
        }
    }
}

/// The value of `--log-level`.
enum LogLevel: String, SettingValue, CaseIterable {
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
enum Duration: SettingValue, Equatable {
    case seconds(UInt32)
    case unlimited

    static let valid = "a number of seconds from 0 to 4294967294, or unlimited, as in 3600"

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
struct FilePath: SettingValue, Equatable {
    var path: String

    static let valid = "the path of a file, as in /etc/dunlin/file"

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
                let upTo = range.upperBound == .max ? "" : " to \(range.upperBound)"
                let example = min(max(10, range.lowerBound), range.upperBound)
                throw WrongValue(valid: "a number from \(range.lowerBound)\(upTo), as in \(example)")
            }
            return number
        }
    }

    /// A number of bytes, also written with K, M or G for 1024, 1024² and 1024³.
    static func bytes(_ range: ClosedRange<Int>) -> @Sendable (String) throws -> Int {
        { text in
            guard let number = Self.size(text), range.contains(number) else {
                let words = "a number from \(range.lowerBound) to \(range.upperBound), in bytes, or with K, M or G"
                throw WrongValue(valid: "\(words), as in 64M")
            }
            return number
        }
    }

    /// Bytes, also written with K, M or G; nil if it is no such number, or more than any setting takes.
    static func size(_ text: String) -> Int? {
        let shifts: [Character: Int] = ["k": 10, "m": 20, "g": 30]
        let shift = text.last.flatMap { shifts[Character($0.lowercased())] }
        guard let number = Int(shift == nil ? text : String(text.dropLast())) else { return nil }
        let (product, isOver) = number.multipliedReportingOverflow(by: 1 << (shift ?? 0))
        return isOver || product > BrokerConfiguration.bytesMax ? nil : product
    }
}

/// A value that a reader does not take.
struct WrongValue: Error, CustomStringConvertible {
    /// What would be right, with an example.
    var valid: String

    var description: String { Self.words + self.valid }

    /// What stands before it, by which it is found in what the argument parser makes of the error.
    static let words = "it takes "
}

/// The value of `--name`: printable, since it stands in logs and goes to other nodes.
enum NodeName {
    static let parse: @Sendable (String) throws -> String = { text in
        guard !text.isEmpty, text.utf8.count <= 128, text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw WrongValue(valid: "up to 128 printable ASCII characters without spaces, as in gateway3")
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
